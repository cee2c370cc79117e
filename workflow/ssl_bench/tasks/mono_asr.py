"""Monolingual speech recognition of ML-SUPERB: convolution + Transformer CTC head, CER.

ML-SUPERB: 30 epochs of 500 batches of 8, gradients of 4 accumulated, that is 3,750 updates of 32;
Adam 1e-4, weight decay 1e-6, clip 5; the mean of the 5 checkpoints of lowest dev loss; greedy
decoding. Mandarin and Japanese are recognised and scored by phones: ``{column: phones, metric:
per}``.
"""

import hashlib
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import Field

from ssl_bench.tasks._ml_superb import MLSuperbConfig, MLSuperbTask
from ssl_bench.tasks._published import ml_superb

RECIPE = ml_superb(iterations=500)


class Config(MLSuperbConfig):
    """Keys of monolingual speech recognition.

    ``train_minutes`` takes that much of the train split (10.0 and 60.0 are the published sizes); a
    smaller subset is a part of a larger one. With ``metric: per`` the column holds phones,
    separated by spaces, that are the symbols.
    """

    metric: Literal["cer", "wer", "per"] = "cer"  # type: ignore[assignment]
    train_minutes: float | None = Field(None, gt=0)


class Task(MLSuperbTask):
    """Monolingual speech recognition."""

    def transcripts(self) -> pd.Series:
        return self.texts.str.split() if self.metric == "per" else super().transcripts()

    def normalised(self, text: str) -> str:
        return " ".join(text.split()) if self.metric == "per" else super().normalised(text)

    def reference(self, utterance: str) -> list[str]:
        return (
            self.texts[utterance].split() if self.metric == "per" else super().reference(utterance)
        )

    def hypothesis(self, symbols: np.ndarray) -> list[str]:
        return symbols.tolist() if self.metric == "per" else super().hypothesis(symbols)

    def select(self) -> None:
        if self.config.train_minutes is None:
            return
        train = self.rows[self.rows["split"] == "train"]
        order = train.index.map(lambda name: hashlib.sha256(name.encode()).hexdigest()).argsort()
        minutes = train["duration"].iloc[order].cumsum() / 60
        if minutes.iloc[-1] < self.config.train_minutes:
            raise self.error(
                f"train_minutes is {self.config.train_minutes:g}, expected at most "
                f"{minutes.iloc[-1]:.2f}, which is all of the train split"
            )
        enough = int((minutes < self.config.train_minutes).sum()) + 1
        unused = minutes.index[enough:]
        self.rows = self.rows.drop(index=unused)
