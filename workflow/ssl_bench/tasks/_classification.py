"""Utterance classification with SUPERB's linear head, cross-entropy and accuracy.

SUPERB trains all its kinds with Adam 1e-4, clip 1 and no SpecAugment; batch and steps are said in
each kind's file.
"""

from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ssl_bench import metrics
from ssl_bench.heads.activation import Activation
from ssl_bench.heads.utterance_linear import UtteranceLinearHead
from ssl_bench.tasks._labels import LabelledTask
from ssl_bench.tasks.base import TaskConfig


class ClassificationConfig(TaskConfig):
    """Keys of a classification task; a kind adds the label's column.

    ``activation: relu`` puts one ReLU between the head's two linear layers (not published).
    """

    hidden: int = Field(256, ge=1)
    activation: Activation = "none"


class ClassificationTask(LabelledTask):
    """One class of each slot to an utterance; correct where all slots are.

    Most kinds have one slot. Classes are those of the train split, sorted.
    """

    metric: ClassVar[str] = "accuracy"
    inner_width: ClassVar[str | None] = "hidden"
    higher_is_better: ClassVar[bool] = True
    has_classes: ClassVar[bool] = True

    def __init__(self, config: Any, table: pd.DataFrame) -> None:
        super().__init__(config, table)
        self.slots: list[str] = self.columns(config)
        self.classes = {slot: self._classes(slot) for slot in self.slots}
        indices = {
            slot: pd.Series(range(len(classes)), index=classes)
            for slot, classes in self.classes.items()
        }
        values = [self.labels(slot).map(indices[slot]).to_numpy() for slot in self.slots]
        targets = torch.from_numpy(np.stack(values, axis=1).astype(np.int64))
        self.targets = dict(zip(self.rows.index, targets, strict=True))

    @staticmethod
    def columns(config: Any) -> list[str]:
        """Name the label columns, one for each slot."""
        return [config.column]

    def _classes(self, slot: str) -> list[str]:
        labels = self.labels(slot)
        in_train = self.rows["split"] == "train"
        classes = sorted(labels[in_train].unique())
        if len(classes) < 2:
            raise self.error(
                f"the train split has one {slot!r} only, {classes[0]!r}; expected several"
            )
        unseen = labels[~in_train & ~labels.isin(classes)]
        if len(unseen):
            first = [repr(label) for label in unseen.unique()[:3]]
            raise self.error(
                f"{unseen.nunique()} {slot!r} labels of dev or test are not in train: "
                f"{', '.join(first)} in {self.some(unseen.index)}; expected those of train alone"
            )
        return classes

    def head(self, dim: int) -> nn.Module:
        classes = sum(len(classes) for classes in self.classes.values())
        return UtteranceLinearHead(dim, self.config.hidden, classes, self.config.activation)

    def _by_slot(self, outputs: Tensor) -> tuple[Tensor, ...]:
        return outputs.split([len(classes) for classes in self.classes.values()], dim=-1)

    def loss(
        self, outputs: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor
    ) -> Tensor:
        slots = zip(self._by_slot(outputs.float()), targets.unbind(1), strict=True)
        losses = [F.cross_entropy(logits, target, reduction="none") for logits, target in slots]
        return torch.stack(losses).sum(0)

    def predict(self, outputs: Tensor, lengths: Tensor) -> list[Any]:
        """Return for each utterance the class of each slot, (slots,) int64."""
        classes = torch.stack([logits.argmax(-1) for logits in self._by_slot(outputs)], dim=-1)
        return list(classes.cpu().numpy())

    def score(self, split: str, ids: list[str], predictions: list[Any]) -> pd.DataFrame:
        truth = torch.stack([self.targets[utterance] for utterance in ids]).numpy()
        correct = (np.stack(predictions) == truth).all(axis=1).astype(np.int64)
        return pd.DataFrame({"id": ids, "speaker": self.speakers(ids), "correct": correct})

    def value(self, scores: pd.DataFrame) -> float:
        return metrics.accuracy(scores["correct"])
