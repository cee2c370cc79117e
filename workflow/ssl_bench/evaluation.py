"""The scoring: every run's predictions on a split, one row per utterance or trial."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ssl_bench.features import Features
from ssl_bench.runs import Runs
from ssl_bench.sampling import Batch, evaluation_batches
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
    """Score all runs of a group on a split.

    ``with_loss`` adds the mean loss over its utterances, (R,). ``drawn`` names the utterances to
    score, repeated ones too, in place of all of the split's.
    """
    return evaluate_together(
        [runs], task, features, rows, split, batch_seconds, with_loss=with_loss, drawn=drawn
    )[0]


def evaluate_together(
    groups: list[Runs],
    task: Task,
    features: Features,
    rows: dict[str, int],
    split: str,
    batch_seconds: float,
    *,
    with_loss: bool = False,
    drawn: list[str] | None = None,
) -> list[Scored]:
    """Score several groups of runs over one reading of a split; see :func:`evaluate`."""
    ids = np.array(task.ids(split) if drawn is None else drawn)
    own = np.array([rows[name] for name in ids])
    name_of = dict(zip(own.tolist(), ids.tolist(), strict=True))
    width = int(batch_seconds / features.seconds_per_frame)
    scorers = [_Scorer(runs, task, with_loss) for runs in groups]
    with torch.no_grad():
        for batch in evaluation_batches(own, features.frames[own], width):
            names = [name_of[row] for row in batch.rows.tolist()]
            read = features.page(batch.rows)
            for scorer in scorers:
                scorer.add(read, batch, names)
    return [scorer.result(split) for scorer in scorers]


class _Scorer:
    """The predictions of one group of runs, batch by batch."""

    def __init__(self, runs: Runs, task: Task, with_loss: bool) -> None:
        self.runs, self.task, self.with_loss = runs, task, with_loss
        self._done: list[str] = []
        self._predictions: list[list[Any]] = [[] for _ in runs.runs]
        self._total = torch.zeros(len(runs), dtype=torch.float64, device=runs.device)
        self._layers = None
        if runs.runs[0].layer is not None:
            self._layers = np.array([run.layer for run in runs.runs])

    def add(self, read: Features, batch: Batch, names: list[str]) -> None:
        """Predict one batch."""
        runs, count = len(self.runs), len(names)
        shared = self._layers is None
        rows = batch.rows if shared else np.tile(batch.rows, (runs, 1))
        states, lengths = read.batch(rows, batch.width, self._layers)
        outputs, out_lengths = self.runs.forward(states, lengths, training=False, shared=shared)
        flat, flat_lengths = outputs.flatten(0, 1), out_lengths.flatten()
        if self.with_loss:
            each = _loss(self.task, flat, flat_lengths, names)
            self._total += each.view(runs, -1).sum(1)
        predicted = self.task.predict(flat, flat_lengths)
        for r in range(runs):
            self._predictions[r].extend(predicted[r * count : (r + 1) * count])
        self._done.extend(names)

    def result(self, split: str) -> Scored:
        """Score what was predicted."""
        mean = (self._total / len(self._done)).cpu().numpy() if self.with_loss else None
        return Scored([self.task.score(split, self._done, p) for p in self._predictions], mean)


def _loss(task: Task, outputs: Tensor, lengths: Tensor, names: list[str]) -> Tensor:
    """Return the loss of every run on each utterance, (R · B,)."""
    each = [task.target(name) for name in names]
    targets = torch.nn.utils.rnn.pad_sequence(each, batch_first=True).to(outputs.device)
    counts = torch.tensor([len(target) for target in each], device=outputs.device)
    runs = len(outputs) // len(names)
    return task.loss(outputs, lengths, targets.repeat(runs, 1), counts.repeat(runs)).double()
