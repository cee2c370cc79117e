"""The paper's Table 1 as a heat map: interfaces × tasks for one encoder."""

from matplotlib.figure import Figure

from analysis import style
from analysis.figures.canvas import Absent, canvas
from analysis.figures.heatmap import heatmap
from analysis.tables import Tables


def draw(tables: Tables, figure: Figure | None = None, upstream: str | None = None) -> Figure:
    """Draw mean test values; the colour is the improvement over the weighted sum."""
    upstream = upstream or tables.main_upstream
    frame = tables.errors[tables.errors["upstream"] == upstream]
    if frame.empty:
        raise Absent(f"The study has no cell of {upstream}: study key “upstreams”.")
    rows = [(name,) for name in tables.interfaces if name in set(frame["interface"])]
    labels = [style.interface_name(name) for (name,) in rows]
    figure = figure or canvas(0.27 * len(rows) + 1.25)
    heatmap(figure, frame, tables, rows, ["interface"], labels)
    figure.suptitle(style.upstream_name(upstream), fontweight="bold")
    return figure
