"""The command line: one command a stage, ``python -m ssl_bench STAGE``."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from ssl_bench.errors import StudyError

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
StudyFile = Annotated[Path, typer.Option("--study", help="The study, YAML or resolved JSON.")]


@app.command()
def check(study: StudyFile) -> None:
    """Check a study and print its grid."""
    from ssl_bench.study import load

    made = load(study)
    print(
        f"{made.name}: {len(made.tasks)} tasks × {len(made.upstreams)} upstreams, "
        f"{len(made.cells())} cells × {len(made.seeds)} seeds"
    )


@app.command()
def gpus() -> None:
    """Print how many GPUs this machine offers."""
    from ssl_bench.device import resolve, visible

    print(len(visible()) if resolve("auto") == "cuda" else 0)


@app.command()
def corpus(study: StudyFile, name: Annotated[str, typer.Option()]) -> None:
    """Prepare a corpus: CutSets, table, packed waveforms."""
    from ssl_bench import corpus as stage
    from ssl_bench.study import load

    stage.prepare(load(study), name)


@app.command()
def upstream(study: StudyFile, name: Annotated[str, typer.Option()]) -> None:
    """Load an upstream and record its sizes."""
    from ssl_bench.study import load
    from ssl_bench.upstream import describe

    describe(load(study), name)


@app.command()
def features(
    study: StudyFile,
    upstream: Annotated[str, typer.Option()],
    corpus: Annotated[str, typer.Option()],
) -> None:
    """Compute one upstream's states of one corpus."""
    from ssl_bench.device import lease
    from ssl_bench.features import compute
    from ssl_bench.study import load

    made = load(study)
    with lease(made.device) as device:
        compute(made, upstream, corpus, device)


@app.command()
def similarity(
    study: StudyFile,
    upstream: Annotated[str, typer.Option()],
    corpus: Annotated[str, typer.Option()],
    out: Annotated[Path, typer.Option()],
) -> None:
    """Measure how alike the layers of an upstream are."""
    from ssl_bench.similarity import measure
    from ssl_bench.study import load

    measure(load(study), upstream, corpus).to_csv(out, index=False)


@app.command()
def sweep(
    study: StudyFile,
    task: Annotated[str, typer.Option()],
    upstream: Annotated[str, typer.Option()],
    pack: Annotated[str, typer.Option()] = "all",
) -> None:
    """Try the learning rates of the cells of one job."""
    from ssl_bench.cells import sweep as stage
    from ssl_bench.study import load

    stage(load(study), task, upstream, pack)


@app.command()
def train(
    study: StudyFile,
    task: Annotated[str, typer.Option()],
    upstream: Annotated[str, typer.Option()],
    pack: Annotated[str, typer.Option()] = "all",
) -> None:
    """Train all seeds of the cells of one job and score them."""
    from ssl_bench.cells import run
    from ssl_bench.study import load

    run(load(study), task, upstream, pack)


def main() -> None:
    """Run; a user's mistake is one line and exit status 2."""
    try:
        app()
    except StudyError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
