"""What an interface costs in parameters against what it gains over the weighted sum."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis import style
from analysis.figures.canvas import Absent, canvas, key, label_below, legend, panels, shape
from analysis.tables import Tables

FLOOR = -40.0
"""Median improvements below this are drawn at the edge with their number."""


def draw(tables: Tables, figure: Figure | None = None) -> Figure:
    """Draw trained parameters of the interface (log) against the median improvement over tasks.

    The median, because a task that an interface fails would outweigh all others in a mean.
    """
    frame = tables.errors.dropna(subset="improvement")
    frame = frame.groupby(["upstream", "interface", "task"], as_index=False).agg(
        improvement=("improvement", "mean"), parameters=("interface_parameters", "first")
    )
    several = frame.groupby(["upstream", "task"])["interface"].transform("nunique") > 1
    frame = frame[several]
    upstreams = [u for u in tables.upstreams if u in set(frame["upstream"])]
    if not upstreams:
        raise Absent("Needs weighted_sum and a second interface: study key “interfaces”.")
    rows, columns = shape(len(upstreams), 2)
    figure = figure or canvas(rows * 2.7 + 0.9)
    used = panels(figure, len(upstreams), 2, sharey=True)
    interfaces = [name for name in tables.interfaces if name in set(frame["interface"])]
    middle = frame.groupby(["upstream", "interface"])["improvement"].median()
    seen = frame.loc[frame["improvement"] >= FLOOR, "improvement"]
    low, high = min(seen.min(), 0.0), max(seen.max(), 0.0)
    room = 0.08 * (high - low) + 0.5
    top = max(10.0, frame["parameters"].max() * 3)
    powers = [10.0**power for power in range(1, 10) if 10.0**power <= top]
    for axes, upstream in zip(used, upstreams, strict=True):
        axes.set_xscale("symlog", linthresh=10, linscale=0.35)
        axes.set_xlim(-5, top)
        axes.set_xticks([0, *powers], ["0", *(_count(power) for power in powers)])
        axes.set_xticks([], minor=True)
        axes.set_ylim(low - room, high + room)
        axes.set_title(style.upstream_name(upstream))
        axes.axhline(0, color="#4D4D4D", linewidth=0.9, zorder=1)
        for interface in interfaces:
            cell = frame[(frame["upstream"] == upstream) & (frame["interface"] == interface)]
            if len(cell):
                look = style.interface_look(interface, interfaces)
                _point(axes, cell, float(middle[upstream, interface]), look, low - room)
    label_below(used, columns, "Trained parameters of the interface")
    for axes in used[::columns]:
        axes.set_ylabel("% of error removed →")
    legend(figure, [key(style.interface_look(name, interfaces)) for name in interfaces])
    return figure


def _point(axes: Axes, cell: pd.DataFrame, middle: float, look: style.Look, edge: float) -> None:
    x = float(cell["parameters"].median())
    line = {"color": look.colour, "linestyle": "none"}
    single = cell["improvement"]
    if middle < edge:
        axes.plot(x, edge, marker="v", markersize=8, clip_on=False, zorder=4, **line)
        axes.annotate(
            f"{look.name} {middle:.0f} %".replace("-", "−"),
            (x, edge),
            (7, 5),
            textcoords="offset points",
            fontsize=7,
            color=look.colour,
        )
        return
    axes.plot(np.full(len(cell), x), single, marker="_", markersize=7, alpha=0.6, **line)
    axes.plot(
        x,
        middle,
        marker=look.marker,
        markersize=9,
        markeredgecolor="white",
        markeredgewidth=0.7,
        zorder=4,
        **line,
    )


def _count(number: float) -> str:
    for size, unit in ((1e6, " M"), (1e3, " k")):
        if number >= size:
            return f"{number / size:g}{unit}"
    return f"{number:g}"
