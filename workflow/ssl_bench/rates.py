"""Which learning rate a cell is trained at: the sweep's choice, or the study's table.

A study may have a ceiling, to which larger rates of its table are lowered.
"""

import math
from pathlib import Path

import pandas as pd

from ssl_bench.errors import StudyError
from ssl_bench.read_back import csv_of
from ssl_bench.study import Study

COLUMNS = ("task", "upstream", "interface", "layer", "learning_rate")


def chosen_rates(
    study: Study, task: str, upstream: str, pack: str
) -> dict[str, dict[int | None, float]]:
    """Return interface → layer (or None) → learning rate, of one job.

    Raises:
        StudyError: the table is not there, lacks an interface or a column, has two rates of one
            layer, or one that is no positive number.
    """
    table = study.learning_rates
    if study.sweep is not None or table is None:
        source, ceiling = study.pack_dir(task, upstream, pack) / "sweep.csv", math.inf
    else:
        source, ceiling = Path(table.table), table.at_most or math.inf
    frame = csv_of(source, COLUMNS)
    frame = frame[(frame["task"] == task) & (frame["upstream"] == upstream)]
    if "chosen" in frame:
        frame = frame[frame["chosen"]]
    result: dict[str, dict[int | None, float]] = {}
    for interface in study.interfaces_in(task, upstream, pack):
        own = frame[frame["interface"] == interface]
        if own.empty:
            raise StudyError(
                f"{source}: no row for task {task!r}, upstream {upstream!r}, "
                f"interface {interface!r}; expected one, or a sweep in the study"
            )
        rates = _rates(own, f"{source}: task {task!r}, upstream {upstream!r}")
        result[interface] = {layer: min(rate, ceiling) for layer, rate in rates.items()}
    return result


def _rates(own: pd.DataFrame, where: str) -> dict[int | None, float]:
    """Return layer → learning rate, of one interface."""
    found: dict[int | None, float] = {}
    for name, given, rate in zip(own["interface"], own["layer"], own["learning_rate"], strict=True):
        at = f"{where}, interface {name!r}"
        try:
            layer, value = None if pd.isna(given) else int(given), float(rate)
        except ValueError:
            raise StudyError(f"{at}: expected a learning rate, found {rate!r}") from None
        if not 0 < value < math.inf:
            raise StudyError(f"{at}: expected a learning rate above 0, found {value:g}")
        if found.setdefault(layer, value) != value:
            raise StudyError(
                f"{at}: expected one learning rate, found {found[layer]:g} and {value:g}"
            )
    return found
