"""What all figures share: size, panels, legends and the notice where data is absent."""

from collections.abc import Sequence
from textwrap import fill
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis import style

CHARACTER = 0.07
"""Inches of a title's character."""


class Absent(Exception):
    """The study did not make what a figure shows; the text says which study key makes it."""


def canvas(height: float, width: float = style.WIDTH) -> Figure:
    """Make a figure whose parts are laid out without overlap."""
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.06, h_pad=0.06, wspace=0.02, hspace=0.03)
    return figure


def notice(title: str, text: str) -> Figure:
    """Make the small picture that stands for a figure whose data is absent."""
    figure = Figure(figsize=(style.WIDTH, 1.1))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    axes.text(0.02, 0.68, title, fontsize=11, fontweight="bold")
    axes.text(0.02, 0.3, text, fontsize=10, color="#595959")
    return figure


def shape(count: int, most: int = 4) -> tuple[int, int]:
    """Return rows and columns for ``count`` panels: at most ``most`` wide, few spare places."""
    if count <= most:
        return 1, count
    columns = min((most, max(most - 1, 2)), key=lambda width: -count % width)
    return -(-count // columns), columns


def panels(
    figure: Figure,
    count: int,
    most: int = 4,
    sharey: bool | Literal["row"] = False,
    heights: Sequence[float] | None = None,
) -> list[Axes]:
    """Make a grid of ``count`` panels, its rows as high as said; spare places stay empty."""
    rows, columns = shape(count, most)
    grid = figure.subplots(
        rows, columns, squeeze=False, sharey=sharey, height_ratios=heights
    ).ravel()
    for axes in grid[count:]:
        axes.remove()
    return list(grid[:count])


def broken(title: str, inches: float) -> str:
    """Break a panel's title into lines that fit its width; words only where one is too long."""
    width = max(int(inches / CHARACTER), 6)
    return fill(title, width, break_on_hyphens=max(map(len, title.split())) > width)


def label_below(axes: Sequence[Axes], columns: int, text: str) -> None:
    """Name the x axis of the lowest panel of every column."""
    for panel in axes[-columns:]:
        panel.set_xlabel(text)


def key(look: style.Look, **options: object) -> Line2D:
    """Make a legend entry for an interface or upstream."""
    line = {"linestyle": "none", "markersize": 6, **options}
    return Line2D([], [], color=look.colour, marker=look.marker, label=look.name, **line)


def legend(figure: Figure, handles: Sequence[Line2D], columns: int = 6) -> None:
    """Put a legend below all panels."""
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=min(columns, len(handles)),
        columnspacing=1.4,
        handletextpad=0.5,
    )


def bounds(values: Sequence[float] | np.ndarray, least: float, most: float) -> float:
    """Return a symmetric colour limit: the 95th percentile of sizes, kept within two limits."""
    sizes = np.abs(np.asarray(values, dtype=float))
    sizes = sizes[~np.isnan(sizes)]
    return float(np.clip(np.percentile(sizes, 95) if len(sizes) else least, least, most))
