"""The command line: one command a stage, ``python -m ssl_bench STAGE``."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ssl_bench.command_line import run
from ssl_bench.errors import StudyError, suggest

if TYPE_CHECKING:
    from ssl_bench.study import Study

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
StudyFile = Annotated[Path, typer.Option("--study", help="The study, YAML or resolved JSON.")]


def _read(path: Path, **names: str) -> "Study":
    """Load a study; refuse a corpus, upstream, task or pack that it does not have."""
    from ssl_bench.study import load

    study = load(path)
    known = {"corpus": study.corpora, "upstream": study.upstreams, "task": study.tasks}
    for what, name in names.items():
        if what == "pack":
            listed = ["all", *study.interfaces_of(names["task"], names["upstream"])]
        else:
            listed = list(known[what])
        if name not in listed:
            option = "name" if len(names) == 1 else what  # of a stage of one thing
            raise StudyError(f"--{option}: unknown {what} {name!r}; {suggest(name, listed)}")
    return study


@app.command()
def check(
    study: StudyFile,
    missing: Annotated[bool, typer.Option("--missing", help="List every missing file.")] = False,
) -> None:
    """Check a study, print its grid, look for the files of its corpora."""
    made = _read(study)
    from ssl_bench import inventory

    print(
        f"{made.name}: {len(made.tasks)} tasks × {len(made.upstreams)} upstreams, "
        f"{len(made.cells())} cells × {len(made.seeds)} seeds"
    )
    if missing:
        for corpus in made.corpora:
            for file in inventory.missing(made, corpus) + inventory.lacking(made, corpus):
                print(f"{corpus}\t{file}")
    inventory.tell(made)
    inventory.check(made)


@app.command()
def plan(study: StudyFile) -> None:
    """Print what a study will take: jobs, runs, disk, GPU hours, missing files."""
    made = _read(study)
    from ssl_bench.planning.show import show
    from ssl_bench.planning.work import make

    show(make(made))


@app.command()
def gpus(
    study: Annotated[
        Path | None, typer.Option("--study", help="A study, whose key device counts.")
    ] = None,
) -> None:
    """Print how many GPUs this machine offers, to a study; refuse one that needs what is missing.

    Only that key is looked at: the file may be one that goes on top of another study.
    """
    from ssl_bench.device import resolve, visible
    from ssl_bench.study import read

    wanted = "auto" if study is None else read(study).get("device")
    print(len(visible()) if resolve(wanted) == "cuda" else 0)


@app.command()
def corpus(study: StudyFile, name: Annotated[str, typer.Option()]) -> None:
    """Prepare a corpus: CutSets, table, packed waveforms."""
    made = _read(study, corpus=name)
    from ssl_bench import corpus as stage
    from ssl_bench.alone import alone

    with alone(made.corpus_dir(name)):
        stage.prepare(made, name)


@app.command()
def download(
    corpus: Annotated[str, typer.Option(help="A corpus kind, such as librispeech.")],
    to: Annotated[Path, typer.Option(help="The folder to unpack it in.")],
    part: Annotated[list[str] | None, typer.Option(help="Only this part; may be repeated.")] = None,
) -> None:
    """Download a corpus, where its licence allows it."""
    from ssl_bench.download import download as fetch

    fetch(corpus, to, part or [])


@app.command()
def upstream(study: StudyFile, name: Annotated[str, typer.Option()]) -> None:
    """Load an upstream and record its sizes."""
    made = _read(study, upstream=name)
    from ssl_bench.alone import writable
    from ssl_bench.upstream import describe

    writable(made.upstream_file(name).parent)
    describe(made, name)


@app.command()
def features(
    study: StudyFile,
    upstream: Annotated[str, typer.Option()],
    corpus: Annotated[str, typer.Option()],
) -> None:
    """Compute one upstream's states of one corpus."""
    made = _read(study, upstream=upstream, corpus=corpus)
    from ssl_bench.alone import alone
    from ssl_bench.device import lease
    from ssl_bench.features import compute

    with alone(made.features_dir(upstream, corpus)), lease(made.device) as device:
        compute(made, upstream, corpus, device)


@app.command()
def similarity(
    study: StudyFile,
    upstream: Annotated[str, typer.Option()],
    corpus: Annotated[str, typer.Option()],
    out: Annotated[Path, typer.Option()],
) -> None:
    """Measure how alike the layers of an upstream are."""
    made = _read(study, upstream=upstream, corpus=corpus)
    from ssl_bench.alone import writable
    from ssl_bench.similarity import measure
    from ssl_bench.whole import whole

    writable(out.parent)
    table = measure(made, upstream, corpus)
    with whole(out) as place:
        table.to_csv(place, index=False)


@app.command()
def sweep(
    study: StudyFile,
    task: Annotated[str, typer.Option()],
    upstream: Annotated[str, typer.Option()],
    pack: Annotated[str, typer.Option()] = "all",
) -> None:
    """Try the learning rates of the cells of one job."""
    made = _read(study, task=task, upstream=upstream, pack=pack)
    from ssl_bench.alone import alone
    from ssl_bench.cells import sweep as stage

    with alone(made.pack_dir(task, upstream, pack)):
        stage(made, task, upstream, pack)


@app.command()
def train(
    study: StudyFile,
    task: Annotated[str, typer.Option()],
    upstream: Annotated[str, typer.Option()],
    pack: Annotated[str, typer.Option()] = "all",
) -> None:
    """Train all seeds of the cells of one job and score them."""
    made = _read(study, task=task, upstream=upstream, pack=pack)
    from ssl_bench.alone import alone
    from ssl_bench.cells import run as stage

    with alone(made.pack_dir(task, upstream, pack)):
        stage(made, task, upstream, pack)


@app.command()
def why(
    cell: Annotated[str, typer.Argument(help="task/upstream/interface")], study: StudyFile
) -> None:
    """Say which input of a cell differs from what it was trained with."""
    made = _read(study)
    from ssl_bench.why import find
    from ssl_bench.why import why as lines

    for line in lines(made, find(made, cell)):
        print(line)


@app.command()
def checkpoints(study: StudyFile) -> None:
    """Remove the checkpoints of trainings that are not done; print what each frees."""
    made = _read(study)
    from ssl_bench.checkpoints import free

    free(made.checkpoints)


@app.command()
def states(
    study: StudyFile,
    free: Annotated[bool, typer.Option("--free", help="Remove them.")] = False,
) -> None:
    """Hash the states that a study keeps on disk, or remove them; print what each takes."""
    made = _read(study)
    from ssl_bench import states as kept

    (kept.free if free else kept.verify)(made)


@app.command(context_settings={"allow_interspersed_args": False})  # all is the command's
def warm(
    command: Annotated[list[str], typer.Argument(help="A command, such as snakemake …")],
) -> None:
    """Run a command whose stages start from a process that has torch imported."""
    from ssl_bench.warm import run as start

    raise typer.Exit(start(command))


def main(arguments: list[str] | None = None) -> None:
    """Run; a user's mistake is one line and exit status 2."""
    run(app, "python -m ssl_bench", arguments)


if __name__ == "__main__":
    from ssl_bench.warm import hand_over

    status = hand_over(sys.argv[1:])
    if status is None:
        main()
    else:
        sys.exit(status)
