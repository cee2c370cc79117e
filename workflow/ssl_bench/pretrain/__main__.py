"""Command line of pre-training: ``python -m ssl_bench.pretrain run --config config/pretrain.yaml``.

``run`` does all steps, each in a process of its own; ``speech``, ``first`` and ``second`` do one.
"""

import argparse
import sys
from pathlib import Path

from ssl_bench.alone import alone
from ssl_bench.errors import StudyError
from ssl_bench.pretrain.settings import read
from ssl_bench.progress import say


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return the exit status."""
    options = _parser().parse_args(arguments)
    try:
        options.command(options)
    except StudyError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _speech(options: argparse.Namespace) -> None:
    from ssl_bench.pretrain import speech

    speech.make(read(options.config), options.work, options.workers, say)


def _first(options: argparse.Namespace) -> None:
    from ssl_bench.pretrain import stages

    with alone(stages.kept_in(options.work, "first")), stages.leased(options.device) as device:
        stages.first(
            read(options.config),
            options.work,
            device,
            minutes=options.minutes,
            compiled=not options.eager,
            log=say,
        )


def _second(options: argparse.Namespace) -> None:
    from ssl_bench.pretrain import stages

    kept = stages.kept_in(options.work, f"second-{options.size}")
    with alone(kept), stages.leased(options.device) as device:
        stages.second(
            read(options.config),
            options.work,
            options.out,
            options.size,
            device,
            minutes=options.minutes,
            compiled=not options.eager,
            log=say,
        )


def _run(options: argparse.Namespace) -> None:
    from ssl_bench.pretrain import pipeline

    pipeline.run(
        options.config,
        options.work,
        options.out,
        devices=options.devices,
        minutes=options.minutes,
        compiled=not options.eager,
        workers=options.workers,
        log=say,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ssl_bench.pretrain", description=__doc__)
    commands = parser.add_subparsers(required=True)

    def add(name: str, function: object, about: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=about, description=about)
        command.set_defaults(command=function)
        command.add_argument("--config", type=Path, default=Path("config/pretrain.yaml"))
        command.add_argument(
            "--work", type=Path, required=True, help="folder for clips and targets (7 GB)"
        )
        return command

    def training(command: argparse.ArgumentParser) -> None:
        command.add_argument("--minutes", type=float, help="time limit; shortens the schedule")
        command.add_argument("--eager", action="store_true", help="without torch.compile")

    speech = add("speech", _speech, "generate the clips")
    speech.add_argument("--workers", type=int, help="processes; default: one for each core")
    first = add("first", _first, "first iteration: MFCC clusters, model, its clusters")
    first.add_argument("--device", default="auto")
    training(first)
    second = add("second", _second, "second iteration of one size")
    second.add_argument("--size", required=True, help="a name under sizes")
    second.add_argument("--out", type=Path, default=Path("models"))
    second.add_argument("--device", default="auto")
    training(second)
    run = add("run", _run, "all steps, every size; sizes in parallel where there are GPUs")
    run.add_argument("--out", type=Path, default=Path("models"))
    run.add_argument(
        "--devices", nargs="+", help="default: every GPU, else the CPU; cuda: one that is free"
    )
    run.add_argument("--workers", type=int, help="processes that make speech")
    training(run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
