"""Monolingual speech recognition of ML-SUPERB: convolution + Transformer CTC head, CER.

ML-SUPERB: Adam 1e-4, weight decay 1e-6, batch 8 × 4 accumulated, clip 5, 30 epochs of 500
iterations, the mean of the 5 best checkpoints; greedy decoding. Text is upper case without ASCII
punctuation. ESPnet sums a text's CTC loss and averages over the batch, it does not divide by the
text's length; neither does this task. SpecAugment is without the time warp (see
``heads/specaugment.py``).
"""

import hashlib
from typing import Literal

from pydantic import Field, model_validator
from torch import nn

from ssl_bench.heads.conv_transformer import SHORTEST, ConvTransformerHead
from ssl_bench.heads.specaugment import SpecAugmentConfig
from ssl_bench.tasks._characters import CharacterConfig, CharacterTask


class Config(CharacterConfig):
    """Keys of monolingual speech recognition.

    ``train_minutes`` takes that much of the train split (10.0 and 60.0 are the published sizes); a
    smaller subset is a part of a larger one. ``specaugment: null`` turns masking off.
    """

    metric: Literal["wer", "cer"] = "cer"
    train_minutes: float | None = Field(None, gt=0)
    projection: int = Field(80, ge=SHORTEST)
    dim: int = Field(256, ge=2)
    layers: int = Field(2, ge=0)
    attention_heads: int = Field(8, ge=1)
    feed_forward: int = Field(1024, ge=1)
    dropout: float = Field(0.1, ge=0, lt=1)
    specaugment: SpecAugmentConfig | None = SpecAugmentConfig(
        feature_masks=2, feature_width=27, time_masks=10, time_ratio=0.05
    )

    @model_validator(mode="after")
    def _divisible(self) -> "Config":
        if self.dim % self.attention_heads:
            raise ValueError(
                f"dim {self.dim} is not a multiple of attention_heads {self.attention_heads}"
            )
        return self


class Task(CharacterTask):
    """Monolingual speech recognition."""

    strip_punctuation = True
    per_symbol = False

    def select(self) -> None:
        if self.config.train_minutes is None:
            return
        train = self.rows[self.rows["split"] == "train"]
        order = train.index.map(lambda name: hashlib.sha256(name.encode()).hexdigest()).argsort()
        minutes = train["duration"].iloc[order].cumsum() / 60
        if minutes.iloc[-1] < self.config.train_minutes:
            raise self.error(
                f"train_minutes is {self.config.train_minutes:g}, but the train split has only "
                f"{minutes.iloc[-1]:.2f}"
            )
        enough = int((minutes < self.config.train_minutes).sum()) + 1
        unused = minutes.index[enough:]
        self.rows = self.rows.drop(index=unused)

    def head(self, dim: int) -> nn.Module:
        config = self.config
        return ConvTransformerHead(
            dim,
            len(self.symbols),
            config.projection,
            config.dim,
            config.layers,
            config.attention_heads,
            config.feed_forward,
            config.dropout,
            config.specaugment,
        )
