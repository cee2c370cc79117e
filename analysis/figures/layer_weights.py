"""How much every layer counts: interface × task rows, layers as columns, one panel an upstream.

``layer_weights`` has one interface of each family, ``layer_weights_all`` every one with a profile.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn
from matplotlib.figure import Figure

from analysis import style
from analysis.figures.canvas import Absent, broken, canvas
from analysis.tables import Tables

INTERFACES = ("weighted_sum", "concat", "hconv", "cls_pooling")
"""One of each family, so that the main picture fits on a screen."""
SAME = 0.01
"""Shares, as multiples of 1/L, that differ by less than this look the same."""
EVERY = "every task"
LINE = 0.15
"""Inches of a line of an interface's name."""


def shown(tables: Tables, interfaces: Sequence[str] = INTERFACES) -> list[str]:
    """List the interfaces that are drawn: those asked for that have a profile, or four others."""
    found = profiled(tables)
    return [name for name in interfaces if name in found] or found[:4]


def profiled(tables: Tables) -> list[str]:
    """List the interfaces with a profile of an upstream that has layers, as they are shown."""
    held = {name for share in _shares(tables).values() for name, _ in share.index}
    return [name for name in tables.interfaces if name in held]


def draw_all(tables: Tables, figure: Figure | None = None) -> Figure:
    """Draw every interface that has a profile, in lower rows."""
    return draw(tables, figure, profiled(tables), LINE)


def draw(
    tables: Tables,
    figure: Figure | None = None,
    interfaces: Sequence[str] = INTERFACES,
    row: float = 0.175,
) -> Figure:
    """Draw each layer's norm-corrected share as a multiple of the uniform share 1/L.

    An interface whose shares are the same for every task has one row. ``row`` is the least height
    of a row in inches.
    """
    if tables.layer_profile is None:
        raise Absent("Needs layer profiles (layer_profile.csv), which trained interfaces leave.")
    shares = _shares(tables)
    if not shares:
        raise Absent("Needs an upstream with more than one state: study key “upstreams”.")
    upstreams = list(shares)
    layers = {upstream: share.shape[1] for upstream, share in shares.items()}
    drawn = shown(tables, interfaces)
    rows = [(name, task) for name in drawn for task in _tasks(tables, shares, name)]
    for upstream, share in shares.items():
        everywhere = share.groupby("interface").mean()
        everywhere.index = pd.MultiIndex.from_product([everywhere.index, [EVERY]])
        shares[upstream] = pd.concat([share, everywhere]).reindex(rows)
    names = [style.interface_name(name).replace(" + ", " +\n") for name in drawn]
    sizes = [sum(name == interface for name, _ in rows) for interface in drawn]
    lines = max((1 + name.count("\n")) / size for name, size in zip(names, sizes, strict=True))
    starts = np.cumsum([0, *sizes])
    height = max(2.2, max(row, LINE * lines) * len(rows) + 1.1)
    figure = figure or canvas(height)
    ratios = [max(6, layers[u]) for u in upstreams]
    grid = figure.subplots(1, len(upstreams), squeeze=False, sharey=True, width_ratios=ratios)[0]
    values = np.concatenate([share.to_numpy().ravel() for share in shares.values()])
    top = max(1.5, float(np.nanpercentile(values, 98)))
    labels = [task if task == EVERY else style.task_name(task) for _, task in rows]
    room = 4.4 * max(map(len, labels)) + 16
    bar = {"aspect": max(30, 3.7 * height), "pad": 0.03}  # never wide
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
            cbar_kws={**bar, "label": "share of the layer, × 1/L"} if last else None,
        )
        for place in starts[1:-1]:
            axes.axhline(place, color="white", linewidth=2.5)
        axes.set_title(broken(style.upstream_name(upstream), inches * layers[upstream]))
        step = 2 if layers[upstream] <= 16 else 4
        while step * inches < 0.17:  # the labels' width
            step *= 2
        ticks = np.arange(0, layers[upstream], step)
        axes.set_xticks(ticks + 0.5, [str(tick) for tick in ticks], rotation=0)
        axes.set(xlabel="Layer", ylabel="")
        axes.tick_params(length=0)
        axes.grid(False)
    grid[0].set_yticks(np.arange(len(rows)) + 0.5, labels, rotation=0)
    for number, name in enumerate(names):
        grid[0].annotate(
            name,
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


def _shares(tables: Tables) -> dict[str, pd.DataFrame]:
    """Return L × share, mean over seeds, of upstreams with layers: (interface, task) × layer."""
    if tables.layer_profile is None:
        return {}
    found = {}
    for upstream, frame in tables.layer_profile.groupby("upstream"):
        mean = frame.pivot_table("share", ["interface", "task"], "layer")
        if mean.shape[1] > 1:
            found[str(upstream)] = mean * mean.shape[1]
    return {upstream: found[upstream] for upstream in tables.upstreams if upstream in found}


def _tasks(tables: Tables, shares: dict[str, pd.DataFrame], interface: str) -> list[str]:
    """List an interface's rows: its tasks, or one for all where no task changes its shares."""
    held = [share.loc[[interface]] for share in shares.values() if interface in share.index]
    tasks = {task for share in held for _, task in share.index}
    if len(tasks) > 1 and all(np.ptp(share.to_numpy(), axis=0).max() < SAME for share in held):
        return [EVERY]
    return [task for task in tables.tasks if task in tasks]
