"""The paper's Table 2 as a heat map: upstream × {weighted sum, HConv, CLS pooling} × tasks."""

from matplotlib.figure import Figure

from analysis import style
from analysis.figures.canvas import Absent, canvas
from analysis.figures.heatmap import heatmap
from analysis.tables import Tables

INTERFACES = ("weighted_sum", "hconv", "cls_pooling")


def draw(tables: Tables, figure: Figure | None = None) -> Figure:
    """Draw mean test values; the colour is the improvement over the weighted sum."""
    frame = tables.errors[tables.errors["interface"].isin(INTERFACES)]
    if frame["interface"].nunique() < 2:
        raise Absent(f"Needs two of {', '.join(INTERFACES)}: study key “interfaces”.")
    present = set(zip(frame["upstream"], frame["interface"], strict=True))
    rows = [(u, i) for u in tables.upstreams for i in INTERFACES if (u, i) in present]
    labels = [f"{style.upstream_name(u)} · {style.interface_name(i)}" for u, i in rows]
    figure = figure or canvas(0.27 * len(rows) + 1.1)
    heatmap(figure, frame, tables, rows, ["upstream", "interface"], labels, blocks=True)
    return figure
