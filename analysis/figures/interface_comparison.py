"""Every interface against the weighted sum: one panel a task, points with intervals."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis import style
from analysis.figures.canvas import Absent, canvas, key, label_below, legend, panels, shape
from analysis.statistics import mean_interval
from analysis.tables import Tables

FLOOR = -60.0
"""Improvements below this are drawn at the panel's edge with their number."""


def draw(tables: Tables, figure: Figure | None = None) -> Figure:
    """Draw relative improvements (%) with 95 % t intervals over seeds; right is better."""
    frame = tables.errors.dropna(subset="improvement")
    if frame.empty:
        raise Absent("Needs the interface weighted_sum: study key “interfaces”.")
    frame = frame[frame.groupby(["task", "upstream"])["interface"].transform("nunique") > 1]
    if frame.empty:
        raise Absent("Needs a second interface: study key “interfaces”.")
    upstreams = [u for u in tables.upstreams if u in set(frame["upstream"])]
    tasks = [task for task in tables.tasks if task in set(frame["task"])]
    row = 0.19 + 0.07 * (len(upstreams) - 1)
    lines, columns = shape(len(tasks))
    shown = []  # a line of panels has the interfaces of its tasks
    for line in range(lines):
        own = frame[frame["task"].isin(tasks[line * columns : (line + 1) * columns])]
        shown.append([name for name in tables.interfaces if name in set(own["interface"])])
    heights = [len(interfaces) * row for interfaces in shown]
    figure = figure or canvas(sum(heights) + 0.55 * lines + 0.65)
    used = panels(figure, len(tasks), sharey="row", heights=heights)
    for number, (axes, task) in enumerate(zip(used, tasks, strict=True)):
        _panel(axes, frame[frame["task"] == task], shown[number // columns], upstreams)
        metric = style.metric_name(*tables.metric(task))
        axes.set_title(f"{style.task_name(task)} ({metric})")
    for axes, interfaces in zip(used[::columns], shown, strict=True):
        axes.set_yticks(range(len(interfaces)), [style.interface_name(i) for i in interfaces])
        axes.set_ylim(len(interfaces) - 0.4, -0.6)
    label_below(used, columns, "% of error removed →")
    if len(upstreams) > 1:
        legend(figure, [key(style.upstream_look(u, upstreams)) for u in upstreams])
    else:
        figure.suptitle(style.upstream_name(upstreams[0]), fontweight="bold")
    return figure


def _panel(axes: Axes, frame: pd.DataFrame, interfaces: list[str], upstreams: list[str]) -> None:
    step = 0.7 / len(upstreams)
    low, high = _limits(frame)
    axes.set_xlim(low, high)
    axes.axvline(0, color="#4D4D4D", linewidth=0.9, zorder=1)
    axes.grid(axis="y", visible=False)
    for place in range(1, len(interfaces), 2):
        axes.axhspan(place - 0.5, place + 0.5, color="#F5F5F5", zorder=0)
    for number, upstream in enumerate(upstreams):
        look = style.upstream_look(upstream, upstreams)
        shift = (number - (len(upstreams) - 1) / 2) * step
        for place, interface in enumerate(interfaces):
            values = frame.loc[
                (frame["upstream"] == upstream) & (frame["interface"] == interface), "improvement"
            ]
            if values.empty:
                continue
            colour = look.colour if len(upstreams) > 1 else style.interface_look(interface).colour
            _point(axes, values.to_numpy(), place + shift, colour, look.marker, low)


def _point(axes: Axes, values: np.ndarray, y: float, colour: str, marker: str, edge: float) -> None:
    interval = mean_interval(values)
    if interval.mean < edge:
        axes.plot(edge, y, marker="<", color=colour, markersize=6, clip_on=False, zorder=4)
        axes.annotate(
            f"{interval.mean:.0f} %".replace("-", "−"),
            (edge, y),
            (7, 0),
            textcoords="offset points",
            va="center",
            fontsize=7,
            color=colour,
        )
        return
    if interval.n > 1:
        axes.plot([interval.low, interval.high], [y, y], color=colour, linewidth=1.4, zorder=3)
        axes.plot(values, np.full(len(values), y), "|", color=colour, markersize=5, zorder=3)
    axes.plot(interval.mean, y, marker=marker, color=colour, markersize=5, zorder=4)


def _limits(frame: pd.DataFrame) -> tuple[float, float]:
    means = frame.groupby(["upstream", "interface"])["improvement"].mean()
    means = means[means >= FLOOR]
    low, high = min(means.min(), 0.0), max(means.max(), 0.0)
    room = max(0.18 * (high - low), 2.0)
    return low - room, high + room
