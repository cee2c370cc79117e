"""The scoring: every run's predictions on a split, one row per utterance or trial.

An utterance is scored as if it were alone, whatever the batch, but for two things that are
published otherwise: a dev loss in which heads see padding, and utterances that are encoded
together. Then a batch is a published one.
"""

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ssl_bench.features import Features
from ssl_bench.heads.padding import scored_together
from ssl_bench.neighbours import groups_of
from ssl_bench.prefetch import readings
from ssl_bench.runs import Runs
from ssl_bench.sampling import Batch, evaluation_batches, published_batches
from ssl_bench.tasks.base import Task


@dataclass
class Scored:
    """A score table per run (columns: see :meth:`Task.score`), and each run's mean loss."""

    tables: list[pd.DataFrame]
    losses: np.ndarray | None = None


def evaluate(
    groups: list[Runs],
    task: Task,
    features: Features,
    rows: dict[str, int],
    split: str,
    batch_seconds: float,
    *,
    with_loss: bool = False,
    drawn: list[str] | None = None,
    padded: int | None = None,
    together: int | None = None,
) -> list[Scored]:
    """Score groups of runs over one reading of a split.

    Args:
        groups: stacked runs of one interface each.
        task: the task.
        features: the stream.
        rows: row of the corpus table of every utterance.
        split: which utterances; also names them for the task.
        batch_seconds: of audio at once, padding included.
        with_loss: add each run's mean loss over the utterances.
        drawn: the utterances to score in place of all of the split's, repeated ones too.
        padded: utterances of ESPnet's batches, whose padding heads see; None: they see none.
        together: utterances of s3prl's batches, as a loader that does not shuffle cuts them; None:
            which utterances are read at once changes nothing.
    """
    ids = np.array(task.ids(split) if drawn is None else drawn)
    own = np.array([rows[name] for name in ids])
    name_of = dict(zip(own.tolist(), ids.tolist(), strict=True))
    frames = features.frames[own]
    scorers = [_Scorer(runs, task, with_loss) for runs in groups]
    batches = evaluation_batches(own, frames, int(batch_seconds / features.seconds_per_frame))
    if padded is not None:
        batches = published_batches(_sorted(task, ids, padded), own, frames)
    elif together is not None:
        cuts = np.arange(together, len(own), together)
        batches = published_batches(np.split(np.arange(len(own)), cuts), own, frames)
    heads = [runs.skeleton.head for runs in groups]
    with torch.no_grad(), nullcontext() if padded is None else scored_together(heads):
        for reads in readings(features, batches, scorers):
            for scorer, ready in zip(scorers, reads, strict=True):
                scorer.add(*ready, name_of)
    return [scorer.result(split) for scorer in scorers]


def _sorted(task: Task, ids: np.ndarray, size: int) -> list[np.ndarray]:
    """Return the places of utterances in the batches of ESPnet's validation.

    They are made as those of its training are (``espnet2/tasks/abs_task.py``): neighbours in the
    order of audio lengths, what is left at its end shared out.
    """
    seconds = np.array([task.seconds(name) for name in ids.tolist()])
    return groups_of("sorted", seconds, size, "shared").counted()


class _Scorer:
    """The predictions of one group of runs, batch by batch."""

    def __init__(self, runs: Runs, task: Task, with_loss: bool) -> None:
        self.runs, self.task, self.with_loss = runs, task, with_loss
        self._done: list[str] = []
        self._predictions: list[list[Any]] = [[] for _ in runs.runs]
        self._total = torch.zeros(len(runs), dtype=torch.float64, device=runs.device)
        self.layers = runs.layers

    def own(self, batch: Batch) -> Batch:
        """Return a batch as it is, or for every run where each reads a layer of its own."""
        if self.layers is None:
            return batch
        return Batch(np.tile(batch.rows, (len(self.runs), 1)), batch.width)

    def add(self, batch: Batch, states: Tensor, lengths: Tensor, name_of: dict[int, str]) -> None:
        """Predict one batch."""
        runs, shared = len(self.runs), self.layers is None
        names = [name_of[row] for row in batch.rows.reshape(-1, batch.rows.shape[-1])[0].tolist()]
        count = len(names)
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
