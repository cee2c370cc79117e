"""Which learning rate a cell is trained at: the sweep's choice, or the study's table."""

from pathlib import Path

import pandas as pd

from ssl_bench.errors import StudyError
from ssl_bench.study import Study


def chosen_rates(
    study: Study, task: str, upstream: str, pack: str
) -> dict[str, dict[int | None, float]]:
    """Return interface → layer (or None) → learning rate, of one job.

    Raises:
        StudyError: the table is not there, or lacks an interface.
    """
    if study.sweep is not None:
        source = study.pack_dir(task, upstream, pack) / "sweep.csv"
    else:
        source = Path(str(study.learning_rates))
        if not source.is_file():
            raise StudyError(f"learning_rates: {source}: no such file")
    frame = pd.read_csv(source)
    frame = frame[(frame["task"] == task) & (frame["upstream"] == upstream)]
    if "chosen" in frame:
        frame = frame[frame["chosen"]]
    result: dict[str, dict[int | None, float]] = {}
    for interface in study.interfaces_in(task, upstream, pack):
        own = frame[frame["interface"] == interface]
        if own.empty:
            raise StudyError(
                f"{source}: no row for task {task!r}, upstream {upstream!r}, "
                f"interface {interface!r}; add one, or give the study a sweep"
            )
        result[interface] = {
            None if pd.isna(layer) else int(layer): float(rate)
            for layer, rate in zip(own["layer"], own["learning_rate"], strict=True)
        }
    return result
