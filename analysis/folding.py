"""A study's tables with every average in place of its tasks: what figures and summaries show.

A study of five folds and thirteen languages' sets has dozens of tasks; a reader wants the one
number that is published for them. Tests of the claims stay on the tasks.
"""

from dataclasses import replace

import pandas as pd

from analysis.averages import CELL, over_tasks
from analysis.tables import Tables


def fold(tables: Tables) -> Tables:
    """Return the tables with averages for tasks; unchanged where a study has none.

    Results are those of ``averages.csv``; ``n_test`` is the sum over the tasks. Of single layers,
    layer profiles, histories and sweeps the same mean over groups of tasks is taken, where every
    task has the layer, step or learning rate. In a folded sweep, ``chosen`` is the share of the
    tasks that chose the rate (a task alone: 0 or 1). A run that one of the tasks lacks has no
    average; its other tasks are gone all the same.
    """
    if not tables.members:
        return tables
    sweep, history = tables.sweep, tables.history
    if sweep is not None:
        sweep = sweep.assign(chosen=sweep["chosen"].astype(float))
        sweep = _folded(tables, sweep, [*CELL, "learning_rate"], ["dev", "chosen"])
    if history is not None:
        history = _folded(tables, history, [*CELL, "step"], ["train_loss", "dev"])
    profile = tables.layer_profile
    if profile is not None:
        profile = _folded(tables, profile, [*CELL, "layer", "kind"], ["share"])
    return replace(
        tables,
        results=_results(tables),
        scores=None,
        sweep=sweep,
        layer_profile=profile,
        history=history,
    )


def _results(tables: Tables) -> pd.DataFrame:
    assert tables.averages is not None
    rows = []
    for name, groups in tables.members.items():
        tasks = [task for group in groups for task in group]
        own = tables.cells[tables.cells["task"].isin(tasks)].groupby(CELL)
        facts = own.agg({"n_test": "sum", "interface_parameters": "mean"}).reset_index()
        mean = tables.averages[tables.averages["task"] == name].drop(columns="tasks")
        mean = mean.merge(facts, on=CELL)
        layers = over_tasks(
            tables.probes, groups, [*CELL, "layer"], ["dev", "test", "interface_parameters"]
        )
        layers = layers.merge(
            mean[["task", "metric", "higher_is_better", "n_test", *CELL]], on=CELL
        )
        rows += [mean, layers]
    return _stacked(tables, tables.results, rows).assign(study=tables.study)


def _folded(
    tables: Tables, frame: pd.DataFrame, keys: list[str], values: list[str]
) -> pd.DataFrame:
    whole = frame[frame["layer"].isna()] if "layer" not in keys else frame
    means = [
        over_tasks(whole, groups, keys, values).assign(task=name)
        for name, groups in tables.members.items()
    ]
    return _stacked(tables, frame, means)


def _stacked(tables: Tables, frame: pd.DataFrame, rows: list[pd.DataFrame]) -> pd.DataFrame:
    gone = {task for groups in tables.members.values() for group in groups for task in group}
    kept = frame[~frame["task"].isin(gone)]
    added = pd.concat([row for row in rows if len(row)] or [frame.iloc[:0]], ignore_index=True)
    whole = pd.concat([kept, added], ignore_index=True)
    return whole.assign(layer=whole["layer"].astype("Int64"))
