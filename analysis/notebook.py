"""Show tables and figures with their captions in a notebook."""

from IPython.display import Markdown, display

from analysis import captions, claims, comparison, figures
from analysis.evidence import Evidence
from analysis.folding import fold
from analysis.tables import Tables


def show(tables: Tables, name: str, upstream: str | None = None) -> None:
    """Show one figure and its caption, averages in place of their tasks."""
    folded = fold(tables)
    figure = figures.draw(name, folded, upstream)
    display(figure, Markdown(captions.caption(name, folded, upstream)))


def show_comparison(evidence: Evidence, upstream: str | None = None) -> None:
    """Show the comparison table of one upstream, or of all, averages in place of their tasks."""
    folded = fold(evidence.tables)
    table = comparison.compare(folded, evidence)
    text = comparison.markdown(table, None if upstream is None else [upstream])
    display(Markdown(f"{text}\n{captions.caption('comparison', folded)}"))


def show_claims(evidence: Evidence) -> None:
    """Show the claims' tests."""
    text = claims.markdown(claims.claims(evidence.tables, evidence))
    display(Markdown(f"{text}\n{captions.caption('claims', evidence.tables)}"))
