"""The scoring: every run's predictions on a split, one row per utterance or trial."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ssl_bench.features import Features
from ssl_bench.runs import Runs
from ssl_bench.sampling import evaluation_batches
from ssl_bench.tasks.base import Task


@dataclass
class Scored:
    """A score table per run (columns: see :meth:`Task.score`), and each run's mean loss."""

    tables: list[pd.DataFrame]
    losses: np.ndarray | None = None


def evaluate(
    runs: Runs,
    task: Task,
    features: Features,
    rows: dict[str, int],
    split: str,
    batch_seconds: float,
    *,
    with_loss: bool = False,
    drawn: list[str] | None = None,
) -> Scored:
    """Score all runs on a split.

    ``with_loss`` adds the mean loss over its utterances, (R,). ``drawn`` names the utterances to
    score, repeated ones too, in place of all of the split's.
    """
    ids = np.array(task.ids(split) if drawn is None else drawn)
    own = np.array([rows[name] for name in ids])
    name_of = dict(zip(own.tolist(), ids.tolist(), strict=True))
    width = int(batch_seconds / features.seconds_per_frame)
    done: list[str] = []
    predictions: list[list[Any]] = [[] for _ in runs.runs]
    total = torch.zeros(len(runs), dtype=torch.float64, device=features.device)
    probes = [run.layer for run in runs.runs]
    layered = probes[0] is not None
    with torch.no_grad():
        for batch in evaluation_batches(own, features.frames[own], width):
            count = len(batch.rows)
            names = [name_of[row] for row in batch.rows.tolist()]
            if layered:
                stacked = np.tile(batch.rows, (len(runs), 1))
                states, lengths = features.batch(stacked, batch.width, np.array(probes))
            else:
                states, lengths = features.batch(batch.rows, batch.width)
            outputs, out_lengths = runs.forward(states, lengths, training=False, shared=not layered)
            flat, flat_lengths = outputs.flatten(0, 1), out_lengths.flatten()
            if with_loss:
                total += _loss(task, flat, flat_lengths, names).view(len(runs), -1).sum(1)
            predicted = task.predict(flat, flat_lengths)
            for r in range(len(runs)):
                predictions[r].extend(predicted[r * count : (r + 1) * count])
            done.extend(names)
    return Scored(
        [task.score(split, done, predicted) for predicted in predictions],
        (total / len(done)).cpu().numpy() if with_loss else None,
    )


def _loss(task: Task, outputs: Tensor, lengths: Tensor, names: list[str]) -> Tensor:
    """Return the loss of every run on each utterance, (R · B,)."""
    each = [task.target(name) for name in names]
    targets = torch.nn.utils.rnn.pad_sequence(each, batch_first=True).to(outputs.device)
    counts = torch.tensor([len(target) for target in each], device=outputs.device)
    runs = len(outputs) // len(names)
    return task.loss(outputs, lengths, targets.repeat(runs, 1), counts.repeat(runs)).double()
