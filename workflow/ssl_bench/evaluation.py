"""The scoring: every run's predictions on a split, one row per utterance or trial."""

from typing import Any

import numpy as np
import pandas as pd
import torch

from ssl_bench.features import Features
from ssl_bench.runs import Runs
from ssl_bench.sampling import evaluation_batches
from ssl_bench.tasks.base import Task


def evaluate(
    runs: Runs,
    task: Task,
    features: Features,
    rows: dict[str, int],
    split: str,
    batch_seconds: float,
) -> list[pd.DataFrame]:
    """Return a score table per run (columns: see :meth:`Task.score`)."""
    ids = np.array(task.ids(split))
    own = np.array([rows[name] for name in ids])
    name_of = dict(zip(own.tolist(), ids.tolist(), strict=True))
    width = int(batch_seconds / features.seconds_per_frame)
    done: list[str] = []
    predictions: list[list[Any]] = [[] for _ in runs.runs]
    probes = [run.layer for run in runs.runs]
    layered = probes[0] is not None
    with torch.no_grad():
        for batch in evaluation_batches(own, features.frames[own], width):
            count = len(batch.rows)
            if layered:
                stacked = np.tile(batch.rows, (len(runs), 1))
                states, lengths = features.batch(stacked, batch.width, np.array(probes))
            else:
                states, lengths = features.batch(batch.rows, batch.width)
            outputs, out_lengths = runs.forward(states, lengths, training=False, shared=not layered)
            flat = task.predict(outputs.flatten(0, 1), out_lengths.flatten())
            for r in range(len(runs)):
                predictions[r].extend(flat[r * count : (r + 1) * count])
            done.extend(name_of[row] for row in batch.rows.tolist())
    return [task.score(split, done, predicted) for predicted in predictions]
