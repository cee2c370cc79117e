"""``python -m analysis collect|tables|figures|report|crate``: what the DAG's last rules call."""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated

import typer

from ssl_bench.alone import alone
from ssl_bench.errors import StudyError
from ssl_bench.progress import tell
from ssl_bench.whole import refusal, whole

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)
TablesFolder = Annotated[Path, typer.Option("--tables", help="results/<study>/tables")]


def one_line(command: Callable[..., None]) -> Callable[..., None]:
    """Print a user's mistake, or a disk that takes no more, as one line; exit with status 2."""

    @wraps(command)
    def run(*args: object, **options: object) -> None:
        try:
            command(*args, **options)
        except StudyError as error:
            tell(f"error: {error}")
            raise typer.Exit(2) from None
        except OSError as error:
            line = refusal(error)
            if line is None:
                raise
            tell(f"error: {line}")
            raise typer.Exit(2) from None

    return run


@app.command("collect")
@one_line
def collect_command(
    study: Annotated[Path, typer.Option(help="the resolved study: work/<study>/study.json")],
) -> None:
    """Gather the cells of a study into results/<study>/tables."""
    from analysis.collect import collect
    from ssl_bench.study import load

    with alone(load(study).results / "tables"):
        collect(study)


@app.command("tables")
@one_line
def tables_command(
    tables: TablesFolder,
    out: Annotated[Path, typer.Option(help="folder for the comparison and the claims")],
    resamples: Annotated[int, typer.Option(min=100, help="bootstrap resamples")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="of the bootstrap")] = 0,
) -> None:
    """Write comparison.{csv,md,tex}, comparison_main.md, claims.{csv,md} and paper_claims.{csv,md}.

    And table1 … table4.{csv,md,tex}: those of the paper that the study has cells of.
    comparison_main.md has averages in place of their tasks; the others have every task.
    """
    with alone(out):
        print("\n".join(map(str, _write_tables(tables, out, resamples, seed))))


def _write_tables(tables: Path, out: Path, resamples: int, seed: int) -> list[Path]:
    from analysis import captions, claims, comparison, paper_tables, paper_verdicts
    from analysis.evidence import Evidence
    from analysis.folding import fold
    from analysis.tables import load

    study = load(tables)
    evidence = Evidence(study, resamples, seed)
    table = comparison.compare(study, evidence)
    paths = comparison.write(table, out, captions.caption("comparison", study))
    folded = fold(study)
    main = table if folded is study else comparison.compare(folded, evidence)
    paths += comparison.write_main(main, folded, out, captions.caption("comparison", folded))
    paths += claims.write(claims.claims(study, evidence), out, captions.caption("claims", study))
    verdicts = paper_verdicts.claims(evidence)
    paths += paper_verdicts.write(verdicts, out, captions.caption("paper_claims", study))
    return paths + paper_tables.write(study, out)


@app.command("figures")
@one_line
def figures_command(
    tables: TablesFolder,
    out: Annotated[Path, typer.Option(help="folder for PNG, SVG and captions.json")],
    only: Annotated[list[str] | None, typer.Option(help="one figure's name; repeatable")] = None,
    upstream: Annotated[
        str | None, typer.Option(help="for figures of one upstream (default: the main encoder)")
    ] = None,
) -> None:
    """Write every figure as PNG (200 dpi) and SVG."""
    from analysis import figures
    from analysis.folding import fold
    from analysis.tables import load

    with alone(out):
        print("\n".join(map(str, figures.write(fold(load(tables)), out, only or (), upstream))))


@app.command("report")
@one_line
def report_command(
    tables: TablesFolder,
    figures: Annotated[Path, typer.Option(help="folder with the figures' PNG files")],
    out: Annotated[Path, typer.Option(help="the HTML file")],
) -> None:
    """Write one self-contained HTML page."""
    from analysis.report import report
    from analysis.tables import load

    page = report(load(tables), figures)
    with whole(out) as place:
        place.write_text(page, encoding="utf-8")
    print(out)


@app.command("crate")
@one_line
def crate_command(
    results: Annotated[Path, typer.Option(help="results/<study>")],
) -> None:
    """Describe the folder of a finished study as an RO-Crate."""
    from analysis.crate import write

    print(write(results))


if __name__ == "__main__":
    app()
