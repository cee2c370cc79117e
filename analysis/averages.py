"""Means over tasks: IEMOCAP's five folds, the languages of ML-SUPERB's monolingual track."""

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
        and ``test`` averaged and ``tasks`` counted.

    Raises:
        StudyError: tasks of one average have different directions.
    """
    cells = best_layers(results)
    rows = []
    for name, groups in averages.items():
        group_of = {task: group for group, tasks in groups.items() for task in tasks}
        own = cells[cells["task"].isin(group_of)]
        if own["higher_is_better"].nunique() > 1:
            found = own.groupby("task")["metric"].first()
            listed = ", ".join(f"{task} ({metric})" for task, metric in found.items())
            raise StudyError(
                f"averages.{name}: of some tasks more is better, of others less: {listed}"
            )
        own = own.assign(group=own["task"].map(group_of))
        complete = own.groupby(CELL)["task"].transform("nunique") == len(group_of)
        own = own[complete]
        if own.empty:
            continue
        by_group = own.groupby([*CELL, "group"])[["dev", "test"]].mean()
        mean = by_group.groupby(CELL).mean().reset_index()
        metrics = own["metric"].drop_duplicates()
        rows.append(
            mean.assign(
                task=name,
                metric="/".join(sorted(metrics)),
                higher_is_better=bool(own["higher_is_better"].iloc[0]),
                tasks=len(group_of),
            )
        )
    return pd.concat(rows, ignore_index=True)[COLUMNS] if rows else pd.DataFrame(columns=COLUMNS)
