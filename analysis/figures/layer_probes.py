"""One probe per layer: where in the upstream a task's information lies."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis import style
from analysis.figures.canvas import Absent, canvas, key, label_below, legend, panels, shape
from analysis.statistics import mean_interval
from analysis.tables import Tables


def draw(tables: Tables, figure: Figure | None = None) -> Figure:
    """Draw single-layer test values with 95 % bands; dashed: weighted sum, dotted: the best."""
    probes = tables.probes
    if probes.empty:
        raise Absent(
            "Needs single-layer cells: study key “interfaces: {single_layer: {layer: each}}”."
        )
    tasks = [task for task in tables.tasks if task in set(probes["task"])]
    upstreams = [u for u in tables.upstreams if u in set(probes["upstream"])]
    rows, columns = shape(len(tasks))
    figure = figure or canvas(rows * (2.5 if columns < 4 else 2.1) + 0.6)
    used = panels(figure, len(tasks))
    for axes, task in zip(used, tasks, strict=True):
        wide = False
        for upstream in upstreams:
            colour = style.upstream_look(upstream, upstreams)
            mine = probes[(probes["task"] == task) & (probes["upstream"] == upstream)]
            wide |= _line(axes, mine, colour)
            _references(axes, tables, task, upstream, colour.colour)
        _limit(axes, wide)
        metric = style.metric_name(*tables.metric(task))
        axes.set_title(style.task_name(task))
        axes.set_ylabel(f"{metric} (%)")
    label_below(used, columns, "Layer")
    handles = [
        key(style.upstream_look(u, upstreams), linestyle="-", markersize=4) for u in upstreams
    ]
    for name, dash in (("Weighted sum", (0, (5, 2))), ("Best interface", (0, (1, 1.5)))):
        handles.append(Line2D([], [], color="#4D4D4D", linestyle=dash, label=name))
    legend(figure, handles)
    return figure


def _line(axes: Axes, frame: pd.DataFrame, look: style.Look) -> bool:
    """Draw one upstream; say whether its band is so wide that it would flatten its line."""
    if frame.empty:
        return False
    groups = [(int(layer), mean_interval(g["test"])) for layer, g in frame.groupby("layer")]
    layers = np.array([layer for layer, _ in groups])
    mean = np.array([interval.mean for _, interval in groups])
    low = np.array([interval.low for _, interval in groups])
    high = np.array([interval.high for _, interval in groups])
    axes.plot(layers, mean, color=look.colour, marker=look.marker, markersize=3, linewidth=1.3)
    axes.fill_between(layers, low, high, color=look.colour, alpha=0.15, linewidth=0)
    return bool(np.nanmax(high - low, initial=0) > 2 * (np.ptp(mean) + 1e-9))


def _limit(axes: Axes, wide: bool) -> None:
    """Where a band is too wide, show the lines of all upstreams and what fits of the bands."""
    if wide:
        values = np.concatenate([np.asarray(line.get_ydata(), float) for line in axes.lines])
        low, high = np.nanmin(values), np.nanmax(values)
        margin = 0.05 * (high - low) or 1.0
        axes.set_ylim(low - margin, high + margin)


def _references(axes: Axes, tables: Tables, task: str, upstream: str, colour: str) -> None:
    frame = tables.errors
    joined = frame["layer"].isna() & ~frame["interface"].isin(tables.probes["interface"])
    frame = frame[(frame["task"] == task) & (frame["upstream"] == upstream) & joined]
    mean = frame.groupby("interface")[["test", "error"]].mean()
    if style.REFERENCE in mean.index:
        value = mean.loc[style.REFERENCE, "test"]
        axes.axhline(value, color=colour, linestyle=(0, (5, 2)), linewidth=1)
    if len(mean):
        value = mean.loc[mean["error"].idxmin(), "test"]
        axes.axhline(value, color=colour, linestyle=(0, (1, 1.5)), linewidth=1.2)
