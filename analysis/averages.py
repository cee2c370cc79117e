"""Means over tasks: IEMOCAP's five folds, the languages of ML-SUPERB's monolingual track."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.tables import best_layers
from ssl_bench.errors import StudyError

CELL = ["upstream", "interface", "seed"]
COLUMNS = ["task", *CELL, "metric", "higher_is_better", "dev", "test", "tasks"]
Groups = dict[str, list[str]]


def average(results: pd.DataFrame, averages: dict[str, Groups]) -> pd.DataFrame:
    """Return the mean over groups of the mean over each group's tasks, run by run.

    A fold is a group of one task; a language is a group of all its sets, so that a language counts
    once however many sets it has (ESPnet ``egs2/ml_superb/asr1/local/mono_superb_score.py``).

    Args:
        results: the table of the cells (``results.csv``); of a probe on layers, the best on dev.
        averages: name → group → tasks.

    Returns:
        One row per average, upstream, interface and seed that all of its tasks have, with ``dev``
        and ``test`` averaged. ``tasks`` names the tasks, a ``;`` between groups.

    Raises:
        StudyError: tasks of one average have different directions.
    """
    cells = best_layers(results)
    rows = []
    for name, groups in averages.items():
        own = cells[cells["task"].isin([task for tasks in groups.values() for task in tasks])]
        if own["higher_is_better"].nunique() > 1:
            found = own.groupby("task")["metric"].first()
            listed = ", ".join(f"{task} ({metric})" for task, metric in found.items())
            raise StudyError(
                f"averages.{name}: of some tasks more is better, of others less: {listed}"
            )
        mean = over_tasks(own, list(groups.values()), CELL, ["dev", "test"])
        if mean.empty:
            continue
        rows.append(
            mean.assign(
                task=name,
                metric="/".join(sorted(own["metric"].unique())),
                higher_is_better=bool(own["higher_is_better"].iloc[0]),
                tasks="; ".join(" ".join(tasks) for tasks in groups.values()),
            )
        )
    return pd.concat(rows, ignore_index=True)[COLUMNS] if rows else pd.DataFrame(columns=COLUMNS)


def over_tasks(
    frame: pd.DataFrame, groups: Sequence[Sequence[str]], keys: list[str], values: list[str]
) -> pd.DataFrame:
    """Average ``values`` over groups of tasks, for those ``keys`` that every task has.

    Where a value is missing in one task, so is the mean.
    """
    group_of = {task: number for number, tasks in enumerate(groups) for task in tasks}
    own = frame[frame["task"].isin(group_of)]
    own = own.assign(group=own["task"].map(group_of))
    own = own[own.groupby(keys)["task"].transform("nunique") == len(group_of)]
    own = own.assign(**own[values].astype(float).fillna(np.inf))  # a mean skips what is missing
    by_group = own.groupby([*keys, "group"])[values].mean()
    return by_group.groupby(keys).mean().replace(np.inf, np.nan).reset_index()
