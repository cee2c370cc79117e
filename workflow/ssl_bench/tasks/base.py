"""What a task is: targets, head, loss, decoding, metric and its direction.

A kind is a module with

* ``Config``: a :class:`TaskConfig` with the keys of its entry in a study;
* ``RECIPE``, where one is published: a :class:`ssl_bench.recipe.Recipe`, how it is trained;
* ``Task``: a subclass of :class:`Task`, made as ``Task(config, table)``.

Tensors of several examples are flat over runs: the trainer folds R runs × B utterances into the
first axis N before it calls ``loss`` and ``predict``.
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import pandas as pd
from torch import Tensor, nn

from ssl_bench.configuration import Strict


class TaskConfig(Strict):
    """Keys that every task entry has."""

    kind: str
    corpus: str


class Task(ABC):
    """A supervised task on one corpus."""

    config: Any
    """The entry of the study, this kind's ``Config``."""
    metric: ClassVar[str]
    """Name of the metric, in percent: ``per``, ``cer``, ``wer``, ``accuracy`` or ``eer``."""
    higher_is_better: ClassVar[bool]
    stackable: ClassVar[bool] = True
    """Whether the head runs under ``torch.func.vmap`` (an LSTM does not)."""
    inner_width: ClassVar[str | None] = None
    """Key of its ``Config`` that widens the head within, which ``enlarge_by`` does; None: none."""
    has_classes: ClassVar[bool] = False
    """Whether targets are classes of utterances, which can be balanced; dev has them, too."""
    has_dev_loss: ClassVar[bool] = True
    """Whether there is a loss on dev, whose utterances then have targets, too."""

    @abstractmethod
    def __init__(self, config: Any, table: pd.DataFrame) -> None:
        """Read labels and vocabulary.

        Args:
            config: this kind's ``Config``.
            table: one row per utterance (see ``ssl_bench.corpora.base.table``).

        Raises:
            StudyError: a column is missing or empty, a label is seen only in dev or test, …
        """

    @abstractmethod
    def ids(self, split: str) -> list[str]:
        """Utterances of a split that this task uses, in a fixed order."""

    @abstractmethod
    def seconds(self, utterance: str) -> float:
        """Return how long an utterance lasts."""

    @abstractmethod
    def target(self, utterance: str) -> Tensor:
        """Return one utterance's target, (S,) int64 (S = 1 for a class).

        Utterances of train have one, and those of dev where there is a dev loss.
        """

    @abstractmethod
    def head(self, dim: int) -> nn.Module:
        """Make the head for features of width ``dim``, weights from torch's global RNG.

        Its ``forward(features (B, T, dim), lengths (B,))`` returns ``(outputs, lengths)``: outputs
        (B, T', C) with T' lengths for sequence tasks, (B, C) with unchanged lengths for the others.
        It ignores padding, unless it is :class:`ssl_bench.heads.padding.Padded` and told of groups
        (``padding: group``), in training mode and for a dev loss. In eval mode an embedding task
        returns embeddings instead of logits.
        """

    @abstractmethod
    def loss(
        self, outputs: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor
    ) -> Tensor:
        """Return one loss per example (N,), whose mean over a batch is the published loss.

        Args:
            outputs: the head's, in training mode (or, for the dev loss, in eval mode), fp32, first
                axis N.
            lengths: (N,) frames of the outputs.
            targets: (N, S) padded with zeros.
            target_lengths: (N,).
        """

    @abstractmethod
    def predict(self, outputs: Tensor, lengths: Tensor) -> list[Any]:
        """Turn outputs in eval mode into N predictions: tokens, a class or an embedding each."""

    @abstractmethod
    def score(self, split: str, ids: list[str], predictions: list[Any]) -> pd.DataFrame:
        """Return one row per utterance or trial.

        Columns: ``id``, ``speaker``, and ``errors`` with ``reference_length`` (sequence tasks),
        ``correct`` (0 to 1, classes), or ``score`` and ``label`` (1: same speaker; trials, whose
        ``id`` is "a|b" and whose ``speaker`` is "speaker of a|speaker of b").
        """

    @abstractmethod
    def value(self, scores: pd.DataFrame) -> float:
        """Return the metric of a score table, in percent."""
