"""The sweep: dev value against learning rate, for every interface and task of one upstream."""

import numpy as np
from matplotlib.figure import Figure

from analysis import style
from analysis.figures.canvas import Absent, canvas, key, label_below, legend, panels, shape
from analysis.tables import Tables


def draw(tables: Tables, figure: Figure | None = None, upstream: str | None = None) -> Figure:
    """Draw the mean dev value over the sweep's seeds; a ring marks the chosen learning rate.

    Of an average, the ring is the fainter the fewer of its tasks chose the rate. Where a seed
    diverged there is no point.
    """
    frame = tables.sweep
    if frame is None or frame["learning_rate"].nunique() < 2:
        raise Absent("Needs a sweep: study key “sweep: {learning_rates: [...]}”.")
    upstream = upstream or tables.main_upstream
    frame = frame[(frame["upstream"] == upstream) & frame["layer"].isna()]
    if frame.empty:
        raise Absent(f"The sweep has no row of {upstream}: study key “upstreams”.")
    tasks = [task for task in tables.tasks if task in set(frame["task"])]
    interfaces = [name for name in tables.interfaces if name in set(frame["interface"])]
    rows, columns = shape(len(tasks))
    figure = figure or canvas(rows * (2.5 if columns < 4 else 2.1) + 1.0)
    used = panels(figure, len(tasks))
    for axes, task in zip(used, tasks, strict=True):
        rates = np.sort(frame.loc[frame["task"] == task, "learning_rate"].unique())
        names = [f"{rate:.1e}".replace(".0e", "e").replace("e-0", "e-") for rate in rates]
        for interface in interfaces:
            mine = frame[(frame["task"] == task) & (frame["interface"] == interface)]
            if mine.empty:
                continue
            look = style.interface_look(interface, interfaces)
            mean = mine.groupby("learning_rate")["dev"].agg(lambda v: v.mean(skipna=False))
            axes.plot(
                mean.index, mean, color=look.colour, marker=look.marker, markersize=4, linewidth=1.1
            )
            chosen = mine.groupby("learning_rate")["chosen"].max().astype(float)
            for rate, share in chosen[chosen > 0].items():
                axes.plot(
                    rate,
                    mean[rate],
                    marker="o",
                    markersize=10,
                    markerfacecolor="none",
                    markeredgecolor=look.colour,
                    alpha=share,
                    linestyle="none",
                )
        axes.set_xscale("log")
        axes.set_title(style.task_name(task))
        axes.set_ylabel(f"dev {style.metric_name(*tables.metric(task))} (%)")
        axes.set_xticks(rates, names)
        axes.set_xticks([], minor=True)
        axes.set_xlim(rates[0] / 1.5, rates[-1] * 1.5)
    figure.suptitle(style.upstream_name(upstream), fontweight="bold")
    label_below(used, columns, "Learning rate")
    legend(figure, [key(style.interface_look(i, interfaces), linestyle="-") for i in interfaces])
    return figure
