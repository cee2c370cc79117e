"""Mean rank of every interface over tasks and upstreams, with Nemenyi's critical difference."""

import pandas as pd
from matplotlib.figure import Figure

from analysis import style
from analysis.figures.canvas import Absent, canvas
from analysis.statistics import Ranks, average_ranks
from analysis.tables import Tables


def ranks(tables: Tables) -> Ranks | None:
    """Rank interfaces by mean test error in each task and trained upstream.

    Interfaces that most blocks have are ranked, on the blocks that have them all; None where fewer
    than three interfaces or two blocks are left.
    """
    frame = tables.errors
    trained = frame[~frame["upstream"].map(style.is_baseline)]
    frame = trained if len(trained) else frame
    losses = frame.pivot_table(
        index=["task", "upstream"], columns="interface", values="error", aggfunc="mean"
    )
    losses = losses.loc[:, losses.notna().mean() > 0.5].dropna()
    if losses.shape[0] < 2 or losses.shape[1] < 3:
        return None
    return average_ranks(losses[style.ordered(losses.columns, style.INTERFACES)])


def draw(tables: Tables, figure: Figure | None = None) -> Figure:
    """Draw mean ranks; two interfaces differ at the 5 % level where their bars do not overlap."""
    result = ranks(tables)
    if result is None:
        raise Absent(
            "Needs three interfaces on two tasks or upstreams: study keys “interfaces”, “tasks”."
        )
    figure = figure or canvas(0.27 * len(result.mean) + 1.0)
    axes = figure.subplots()
    half = result.critical_difference / 2
    mean: pd.Series = result.mean
    best = mean.iloc[0]
    axes.axvspan(best - half, best + half, color="#F0F0F0", zorder=0)
    for place, (interface, rank) in enumerate(mean.items()):
        look = style.interface_look(str(interface), tables.interfaces)
        axes.plot([rank - half, rank + half], [place, place], color=look.colour, linewidth=2)
        axes.plot(rank, place, marker=look.marker, color=look.colour, markersize=8)
        axes.annotate(
            f"{rank:.1f}",
            (rank, place),
            (0, 6),
            textcoords="offset points",
            ha="center",
            fontsize=7,
        )
    axes.set_yticks(range(len(mean)), [style.interface_name(str(name)) for name in mean.index])
    axes.set_ylim(len(mean) - 0.4, -0.8)
    axes.set_xlim(min(0.4, best - half - 0.2), max(len(mean) + 0.6, mean.iloc[-1] + half + 0.2))
    axes.set_xlabel("Mean rank (1 is best)")
    axes.grid(axis="y", visible=False)
    return figure
