"""How much every layer counts: interface × task rows, layers as columns, one panel an upstream."""

from collections.abc import Sequence

import numpy as np
import seaborn
from matplotlib.figure import Figure

from analysis import style
from analysis.figures.canvas import Absent, broken, canvas
from analysis.tables import Tables

INTERFACES = ("weighted_sum", "concat", "hconv", "cls_pooling")
"""Drawn by default: one of each family, so that the rows stay readable."""


def shown(tables: Tables, interfaces: Sequence[str] | None = None) -> list[str]:
    """List the interfaces that are drawn: those asked for, or one of each family."""
    held = () if tables.layer_profile is None else set(tables.layer_profile["interface"])
    found = [name for name in tables.interfaces if name in held]
    return [name for name in interfaces or INTERFACES if name in found] or found[:4]


def draw(
    tables: Tables, figure: Figure | None = None, interfaces: Sequence[str] | None = None
) -> Figure:
    """Draw each layer's norm-corrected share as a multiple of the uniform share 1/L."""
    frame = tables.layer_profile
    if frame is None:
        raise Absent("Needs layer profiles (layer_profile.csv), which trained interfaces leave.")
    drawn = shown(tables, interfaces)
    layers = frame.groupby("upstream")["layer"].max() + 1
    upstreams = [u for u in tables.upstreams if layers.get(u, 1) > 1]
    if not upstreams:
        raise Absent("Needs an upstream with more than one state: study key “upstreams”.")
    tasks = [task for task in tables.tasks if task in set(frame["task"])]
    held = set(zip(frame["interface"], frame["task"], strict=True))
    rows = [(interface, task) for interface in drawn for task in tasks if (interface, task) in held]
    sizes = [sum(row[0] == interface for row in rows) for interface in drawn]
    starts = np.cumsum([0, *sizes])
    mean = frame.groupby(["upstream", "interface", "task", "layer"])["share"].mean()
    figure = figure or canvas(max(2.2, 0.175 * len(rows) + 1.1))
    ratios = [max(6, int(layers[u])) for u in upstreams]
    grid = figure.subplots(1, len(upstreams), squeeze=False, sharey=True, width_ratios=ratios)[0]
    shares = {u: mean.loc[u].unstack().reindex(rows) * int(layers[u]) for u in upstreams}
    values = np.concatenate([share.to_numpy().ravel() for share in shares.values()])
    top = max(1.5, float(np.nanpercentile(values, 98)))
    room = 4.4 * max(len(style.task_name(task)) for task in tasks) + 16
    inches = (style.WIDTH - room / 72 - 1.7) / sum(ratios)  # a layer's width
    for axes, upstream in zip(grid, upstreams, strict=True):
        last = upstream == upstreams[-1]
        seaborn.heatmap(
            shares[upstream],
            ax=axes,
            cmap="cividis",
            vmin=0,
            vmax=top,
            cbar=last,
            cbar_kws={"label": "share of the layer, × 1/L", "aspect": 30, "pad": 0.03}
            if last
            else None,
        )
        for place in starts[1:-1]:
            axes.axhline(place, color="white", linewidth=2.5)
        axes.set_title(broken(style.upstream_name(upstream), inches * int(layers[upstream])))
        step = 2 if layers[upstream] <= 16 else 4
        while step * inches < 0.17:  # the labels' width
            step *= 2
        ticks = np.arange(0, layers[upstream], step)
        axes.set_xticks(ticks + 0.5, [str(tick) for tick in ticks], rotation=0)
        axes.set(xlabel="Layer", ylabel="")
        axes.tick_params(length=0)
        axes.grid(False)
    grid[0].set_yticks(
        np.arange(len(rows)) + 0.5, [style.task_name(task) for _, task in rows], rotation=0
    )
    for number, interface in enumerate(drawn):
        grid[0].annotate(
            style.interface_name(interface).replace(" + ", " +\n"),
            (0, (starts[number] + starts[number + 1]) / 2),
            (-room, 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            ha="right",
            va="center",
            fontsize=8.5,
            fontweight="bold",
        )
    return figure
