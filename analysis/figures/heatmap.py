"""A heat map of cells: the text is the value, the colour how it stands to the weighted sum."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn
from matplotlib.figure import Figure

from analysis import style
from analysis.figures.canvas import bounds
from analysis.tables import Tables

NARROW = 6
"""Above this many columns, their heads are broken into short lines."""

_ARROWS = {
    (False, False): "neither",
    (True, False): "min",
    (False, True): "max",
    (True, True): "both",
}


def heatmap(
    figure: Figure,
    frame: pd.DataFrame,
    tables: Tables,
    rows: Sequence[tuple[str, ...]],
    keys: list[str],
    labels: Sequence[str],
    blocks: bool = False,
) -> None:
    """Draw ``rows`` (values of ``keys``) × tasks; the best of a column, or of each block, is bold.

    Args:
        blocks: rows with the same first key form a block, parted by a line from the next.
    """
    counts = frame.groupby("task")["interface"].nunique()
    counts = counts[counts >= min(counts.max(), 2)]  # of one interface: nothing to compare
    tasks = [task for task in tables.tasks if task in counts]
    index = pd.MultiIndex.from_tuples(rows) if len(keys) > 1 else [row[0] for row in rows]

    def table(column: str) -> pd.DataFrame:
        mean = frame.pivot_table(index=keys, columns="task", values=column, aggfunc="mean")
        return mean.reindex(index=index, columns=tasks)

    value, error = table("test"), table("error")
    improvement = table("improvement").fillna(0).where(value.notna())
    limit = bounds(improvement.to_numpy().ravel(), 5, 40)
    beyond = (
        bool((improvement < -limit).any(axis=None)),
        bool((improvement > limit).any(axis=None)),
    )
    axes = figure.subplots()
    text = value.map(lambda number: "–" if np.isnan(number) else f"{number:.1f}")
    seaborn.heatmap(
        improvement.clip(-limit, limit),
        ax=axes,
        cmap=style.BETTER_WORSE,
        vmin=-limit,
        vmax=limit,
        annot=text,
        fmt="",
        annot_kws={"fontsize": 8.5},
        linewidths=1,
        linecolor="white",
        cbar_kws={
            "label": "% of the weighted\nsum's error removed",
            "pad": 0.015,
            "aspect": 18,
            "extend": _ARROWS[beyond],  # where a colour stands for more
        },
    )
    groups = [row[0] if blocks else "" for row in rows]
    block = error.groupby(np.array(groups))
    best = (block.transform("min") == error) & (block.transform("count") > 1)
    best = best.to_numpy()
    for note, bold in zip(axes.texts, best[~np.isnan(improvement.to_numpy())], strict=True):
        note.set_fontweight("bold" if bold else "normal")
    for place in range(1, len(rows)):
        if groups[place] != groups[place - 1]:
            axes.axhline(place, color="#262626", linewidth=1.2)
    heads = [
        f"{style.task_name(task)}\n{style.metric_name(*tables.metric(task))}" for task in tasks
    ]
    if len(tasks) > NARROW:
        heads = [head.replace(", ", ",\n").replace("-", "-\n") for head in heads]
    axes.set_xticklabels(heads, rotation=0)
    axes.set_yticklabels(labels, rotation=0)
    axes.tick_params(length=0, top=False, labeltop=True, bottom=False, labelbottom=False)
    axes.set(xlabel="", ylabel="")
    axes.grid(False)
