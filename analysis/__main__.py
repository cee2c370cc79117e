"""``python -m analysis collect|tables|figures|notebook|report|crate``: last rules; ``readme``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ssl_bench.alone import alone
from ssl_bench.command_line import run
from ssl_bench.whole import whole

if TYPE_CHECKING:
    from analysis.tables import Tables

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)
CaptionsFolder = Annotated[
    Path | None, typer.Option("--captions", help="folder for captions, for Snakemake's report")
]
TablesFolder = Annotated[Path, typer.Option("--tables", help="results/<study>/tables")]


@app.command("collect")
def collect_command(
    study: Annotated[Path, typer.Option(help="the resolved study: work/<study>/study.json")],
) -> None:
    """Gather the cells of a study into results/<study>/tables."""
    from analysis.collect import collect
    from ssl_bench.study import load

    with alone(load(study).results / "tables"):
        collect(study)


@app.command("tables")
def tables_command(
    tables: TablesFolder,
    out: Annotated[Path, typer.Option(help="folder for the comparison and the claims")],
    resamples: Annotated[int, typer.Option(min=100, help="bootstrap resamples")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="of the bootstrap")] = 0,
    captions_folder: CaptionsFolder = None,
) -> None:
    """Write comparison.{csv,md,tex}, comparison_main.md, claims.{csv,md} and paper_claims.{csv,md}.

    And table1 … table4.{csv,md,tex}: those of the paper that the study has cells of.
    comparison_main.md has averages in place of their tasks; the others have every task.
    """
    with alone(out):
        print("\n".join(map(str, _write_tables(tables, out, resamples, seed, captions_folder))))


def _write_tables(
    tables: Path, out: Path, resamples: int, seed: int, captions_folder: Path | None
) -> list[Path]:
    from analysis import (
        captions,
        claims,
        comparison,
        paper_tables,
        paper_verdicts,
        restructured,
    )
    from analysis.code_versions import mixed
    from analysis.evidence import Evidence
    from analysis.folding import fold
    from analysis.tables import load
    from ssl_bench.progress import say

    study = load(tables)
    note = mixed(study.results)
    if note:
        say(f"warning: {note}")

    def caption(of: "Tables") -> str:
        return " ".join(filter(None, (captions.caption("comparison", of), note)))

    evidence = Evidence(study, resamples, seed)
    table = comparison.compare(study, evidence)
    paths = comparison.write(table, out, caption(study))
    folded = fold(study)
    main = table if folded is study else comparison.compare(folded, evidence)
    paths += comparison.write_main(main, folded, out, caption(folded))
    paths += claims.write(claims.claims(study, evidence), out, captions.caption("claims", study))
    verdicts = paper_verdicts.claims(evidence)
    paths += paper_verdicts.write(verdicts, out, captions.caption("paper_claims", study))
    paths += paper_tables.write(study, out)
    if captions_folder is not None:
        texts = {name: captions.caption(name, study) for name in captions.TABLES}
        texts |= {"comparison": caption(study)}
        texts |= paper_tables.captions(study)
        paths += restructured.write(texts, captions_folder)
    return paths


@app.command("figures")
def figures_command(
    tables: TablesFolder,
    out: Annotated[Path, typer.Option(help="folder for PNG, SVG and captions.json")],
    only: Annotated[list[str] | None, typer.Option(help="one figure's name; repeatable")] = None,
    upstream: Annotated[
        str | None, typer.Option(help="for figures of one upstream (default: the main encoder)")
    ] = None,
    captions_folder: CaptionsFolder = None,
) -> None:
    """Write every figure as PNG (200 dpi) and SVG."""
    from analysis import captions, figures, restructured
    from analysis.folding import fold
    from analysis.tables import load

    study = fold(load(tables))
    with alone(out):
        paths = figures.write(study, out, only or (), upstream)
    if captions_folder is not None:
        texts = {name: captions.caption(name, study, upstream) for name in only or figures.FIGURES}
        paths += restructured.write(texts, captions_folder)
    print("\n".join(map(str, paths)))


@app.command("notebook")
def notebook_command(
    source: Annotated[Path, typer.Option(help="the notebook")],
    tables: TablesFolder,
    out: Annotated[Path, typer.Option(help="the notebook with its outputs")],
    page: Annotated[Path, typer.Option(help="the HTML file")],
) -> None:
    """Run a notebook on a study's tables and make a page of it."""
    from analysis import notebooks

    notebooks.run(source, tables.absolute(), out, page)


@app.command("report")
def report_command(
    tables: TablesFolder,
    figures: Annotated[Path, typer.Option(help="folder with the figures' PNG files")],
    out: Annotated[Path, typer.Option(help="the HTML file")],
) -> None:
    """Write one self-contained HTML page."""
    from analysis.report import report
    from analysis.tables import load

    page = report(load(tables), figures, folder=tables)
    with whole(out) as place:
        place.write_text(page, encoding="utf-8")
    print(out)


@app.command("crate")
def crate_command(
    results: Annotated[Path, typer.Option(help="results/<study>")],
) -> None:
    """Describe the folder of a finished study as an RO-Crate."""
    from analysis.crate import write

    print(write(results))


@app.command("readme")
def readme_command(
    blocks: Annotated[
        list[str] | None, typer.Argument(help="main (results/reference), default (results/mini)")
    ] = None,
    page: Annotated[Path, typer.Option(help="the page, in the folder that has results/")] = Path(
        "README.md"
    ),
) -> None:
    """Write README's tables anew from the results of the studies that it shows."""
    from analysis.readme import BLOCKS, renew

    for name in blocks or BLOCKS:
        print("\n".join(map(str, renew(name, page))))


def main(arguments: list[str] | None = None) -> None:
    """Run; a user's mistake is one line and exit status 2."""
    run(app, "python -m analysis", arguments)


if __name__ == "__main__":
    main()
