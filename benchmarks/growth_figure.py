"""Draw what ``growth.py`` measured, in the style of the study's figures.

    python benchmarks/growth_figure.py growth

reads ``growth.csv`` and ``exponents.csv`` of a folder and writes ``growth.png`` and ``growth.svg``.
"""

import argparse
from pathlib import Path

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from analysis import style
from analysis.figures import DPI
from analysis.figures.canvas import canvas, panels

AXES = {
    "R": "runs R at once",
    "L": "states L",
    "D": "width D",
    "audio": "audio encoded, s",
}
QUANTITIES = {"ms": "ms", "MiB": "MiB at the peak"}
FEATURES = style.Look("Features stage", "#0072B2", "o")


def draw(points: pd.DataFrame, exponents: pd.DataFrame, where: str) -> Figure:
    """Draw time above and memory below, a column an axis, both axes logarithmic.

    Args:
        points: columns axis, name, value, ms, MiB.
        exponents: columns axis, name, quantity, exponent, upper; the legend has ``upper``.
        where: the hardware, for the title.
    """
    with matplotlib.rc_context(style.RC):
        figure = canvas(5.2)
        shown = [axis for axis in AXES if axis in set(points["axis"])]
        grid = panels(figure, len(QUANTITIES) * len(shown), most=len(shown))
        pairs = [(quantity, axis) for quantity in QUANTITIES for axis in shown]
        for panel, (quantity, axis) in zip(grid, pairs, strict=True):
            own = points[points["axis"] == axis]
            _panel(panel, own, exponents, axis, quantity)
            if axis in (shown[0], "audio"):
                what = "features stage" if axis == "audio" else "step"
                panel.set_ylabel(f"{what}, {QUANTITIES[quantity]}")
            if quantity == list(QUANTITIES)[-1]:
                panel.set_xlabel(AXES[axis])
        figure.suptitle(f"Growth of time and memory on one {where}; dotted: linear")
    return figure


def _panel(
    panel: Axes, points: pd.DataFrame, exponents: pd.DataFrame, axis: str, quantity: str
) -> None:
    for name, own in points.groupby("name", sort=False):
        own = own[own[quantity] > 0].sort_values("value")
        if own.empty:
            continue
        look = FEATURES if name == "features" else style.interface_look(str(name))
        fit = exponents[(exponents["axis"] == axis) & (exponents["name"] == name)]
        slope = fit.loc[fit["quantity"] == quantity, "upper"].squeeze()
        x, y = own["value"].to_numpy(float), own[quantity].to_numpy(float)
        label = f"{look.name}: {slope:.2f}"
        panel.plot(x, y, color=look.colour, marker=look.marker, markersize=5, label=label)
        panel.plot(x, y[-1] * x / x[-1], color=look.colour, linestyle=":", linewidth=1)
    panel.set_xscale("log")
    panel.set_yscale("log")
    values = sorted(set(points["value"]))
    panel.xaxis.set_major_locator(FixedLocator(values))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.set_xticks(values, [f"{value:g}" for value in values])
    if len(values) > 4:
        panel.tick_params(axis="x", labelrotation=45)
    panel.legend(title="exponent, upper half", title_fontsize=7, fontsize=7, loc="upper left")
    low, high = panel.get_ylim()
    panel.set_ylim(low, high * (high / low) ** 0.35)  # room for the legend


def write(points: pd.DataFrame, exponents: pd.DataFrame, where: str, out: Path) -> list[Path]:
    """Write the figure as PNG (200 dpi) and SVG; return both paths."""
    figure = draw(points, exponents, where)
    paths = []
    with matplotlib.rc_context(style.RC):
        for suffix, metadata in ((".png", {}), (".svg", {"Date": None})):
            paths.append(out / f"growth{suffix}")
            figure.savefig(paths[-1], dpi=DPI, metadata=metadata)
    return paths


def main() -> None:
    """Draw a folder's tables anew."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--where", required=True, help="the hardware, for the title")
    read = parser.parse_args()
    tables = [pd.read_csv(read.folder / f"{name}.csv") for name in ("growth", "exponents")]
    for path in write(*tables, read.where, read.folder):
        print(path)


if __name__ == "__main__":
    main()
