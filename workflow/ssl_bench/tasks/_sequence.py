"""Symbol sequences by connectionist temporal classification (CTC)."""

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_bench import metrics
from ssl_bench.heads.masking import valid_frames
from ssl_bench.tasks._labels import LabelledTask

BLANK = 0


def ctc_losses(
    logits: Tensor,
    lengths: Tensor,
    targets: Tensor,
    target_lengths: Tensor,
    per_symbol: bool,
) -> Tensor:
    """Return each example's CTC loss (N,), zero where no alignment exists.

    Args:
        logits: (N, T, C), normalised in fp32.
        lengths: (N,) frames; lengths on the host spare a transfer.
        targets: (N, S) padded.
        target_lengths: (N,).
        per_symbol: divide by the target's length, as ``F.ctc_loss(reduction="mean")`` does.
    """
    losses = F.ctc_loss(
        logits.float().log_softmax(-1).transpose(0, 1),
        targets,
        lengths,
        target_lengths,
        blank=BLANK,
        reduction="none",
        zero_infinity=True,
    )
    if not per_symbol:
        return losses
    return losses / target_lengths.clamp(min=1).to(losses.device, losses.dtype)


def greedy_decode(logits: Tensor, lengths: Tensor, silent: int) -> list[np.ndarray]:
    """Take the best symbol of every frame, merge repeats, drop indices below ``silent``.

    (N, T, C), (N,) → N arrays of indices.
    """
    best = logits.argmax(-1)
    best = best.masked_fill(~valid_frames(lengths.to(best.device), best.shape[1]), BLANK)
    path = best.to(torch.int32).cpu().numpy()
    kept = path >= silent
    kept[:, 1:] &= path[:, 1:] != path[:, :-1]
    return np.split(path[kept], np.cumsum(kept.sum(1))[:-1])


class SequenceTask(LabelledTask):
    """Recognise a sequence of symbols; greedy decoding.

    Indices: the blank at 0, ``<eos>`` where there is one, the spare symbols, then the vocabulary,
    sorted. ``<eos>`` ends every target and is dropped from what is decoded, like the blank.
    """

    higher_is_better: ClassVar[bool] = False
    blank: ClassVar[str] = "<pad>"
    spare: ClassVar[tuple[str, ...]] = ("<unk>",)
    """Outputs that the published heads have and no target uses: decoded, each is an error."""
    per_symbol: bool = True

    def read(self, transcripts: pd.Series, vocabulary: list[str], eos: bool) -> None:
        """Set the vocabulary and the targets of train and dev.

        A symbol that is not in the vocabulary is ``<unk>``, which only dev's loss can meet.

        Args:
            transcripts: lists of symbols by utterance id.
            vocabulary: all symbols of the train split, or more.
            eos: whether every target ends in ``<eos>``.
        """
        self._references: dict[str, list[str]] = {}
        silent = [self.blank, "<eos>"] if eos else [self.blank]
        self.silent = len(silent)
        self.symbols = np.array([*silent, *self.spare, *vocabulary], dtype=object)
        index = {symbol: i for i, symbol in enumerate(self.symbols)}
        end = [index["<eos>"]] if eos else []
        unknown = index["<unk>"]
        for utterance in self.ids("train") + self.ids("dev"):
            indices = [index.get(symbol, unknown) for symbol in transcripts[utterance]]
            self.targets[utterance] = torch.tensor(indices + end)

    @abstractmethod
    def reference(self, utterance: str) -> list[str]:
        """Return the units of the truth that errors are counted in."""

    @abstractmethod
    def hypothesis(self, symbols: np.ndarray) -> list[str]:
        """Turn decoded symbols into the units that errors are counted in."""

    def _kept_reference(self, utterance: str) -> list[str]:
        """Return :meth:`reference`, made once for all runs and evaluations."""
        if utterance not in self._references:
            self._references[utterance] = self.reference(utterance)
        return self._references[utterance]

    def loss(
        self, outputs: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor
    ) -> Tensor:
        return ctc_losses(outputs, lengths, targets, target_lengths, self.per_symbol)

    def predict(self, outputs: Tensor, lengths: Tensor) -> list[Any]:
        """Return for each utterance the decoded symbols' indices, (S,) int32."""
        return greedy_decode(outputs, lengths, self.silent)

    def score(self, split: str, ids: list[str], predictions: list[Any]) -> pd.DataFrame:
        references = [self._kept_reference(utterance) for utterance in ids]
        hypotheses = [self.hypothesis(self.symbols[tokens]) for tokens in predictions]
        return pd.DataFrame(
            {
                "id": ids,
                "speaker": self.speakers(ids),
                "errors": metrics.edit_errors(references, hypotheses),
                "reference_length": [len(reference) for reference in references],
            }
        )

    def value(self, scores: pd.DataFrame) -> float:
        return metrics.error_rate(scores["errors"], scores["reference_length"])
