"""ML-SUPERB's recogniser: characters or language tokens by convolution + Transformer and CTC.

Text is upper case without ASCII punctuation. ESPnet sums a text's CTC loss and averages over the
batch, it does not divide by the text's length; neither does this. SpecAugment's time masks are
placed within the longest utterance of the batch, or of its group (``padding: group``), as ESPnet
places them.
"""

import re
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
from pydantic import Field, model_validator
from torch import nn

from ssl_bench.heads.conv_transformer import SHORTEST, ConvTransformerHead
from ssl_bench.heads.specaugment import SpecAugmentConfig
from ssl_bench.tasks._characters import CharacterConfig, CharacterTask

LANGUAGE = re.compile(r"\[[^\[\] ]+\]")
"""A language as a symbol: ``[eng]``."""


class MLSuperbConfig(CharacterConfig):
    """Keys of ML-SUPERB's recogniser; ``specaugment: null`` turns warp and masks off."""

    metric: Literal["wer", "cer"] = "cer"
    projection: int = Field(80, ge=SHORTEST)
    dim: int = Field(256, ge=2)
    layers: int = Field(2, ge=0)
    attention_heads: int = Field(8, ge=1)
    feed_forward: int = Field(1024, ge=1)
    dropout: float = Field(0.1, ge=0, lt=1)
    specaugment: SpecAugmentConfig | None = SpecAugmentConfig(
        feature_masks=2,
        feature_width=27,
        time_masks=10,
        time_ratio=0.05,
        time_warp=5,
        extent="batch",
    )

    @model_validator(mode="after")
    def _divisible(self) -> "MLSuperbConfig":
        if self.dim % self.attention_heads:
            raise ValueError(
                f"dim {self.dim} is not a multiple of attention_heads {self.attention_heads}"
            )
        return self


class MLSuperbTask(CharacterTask):
    """Recognition with ML-SUPERB's head."""

    inner_width: ClassVar[str | None] = "feed_forward"
    strip_punctuation = True
    per_symbol = False

    def head(self, dim: int) -> nn.Module:
        return recogniser(self.config, dim, len(self.symbols))

    def language_tokens(self, column: str) -> pd.Series:
        """Return the symbol ``[language]`` of each utterance; test's must be those of train."""
        tokens = self.labels(column).map("[{}]".format)
        splits = self.rows["split"]
        known = tokens[splits == "train"].unique()
        unseen = tokens[~tokens.isin(known)]
        if len(unseen):
            raise self.error(
                f"{unseen.nunique()} {column!r} labels of dev or test are not in train: "
                f"{unseen.iloc[0]!r} in {self.some(unseen.index)}; expected those of train alone"
            )
        return tokens


def recogniser(config: Any, dim: int, classes: int) -> nn.Module:
    """Return the head for features of width ``dim``."""
    return ConvTransformerHead(
        dim,
        classes,
        config.projection,
        config.dim,
        config.layers,
        config.attention_heads,
        config.feed_forward,
        config.dropout,
        config.specaugment,
    )


def first_language(symbols: np.ndarray) -> str | None:
    """Return the first language token of what was decoded, None if there is none."""
    return next((symbol for symbol in symbols if LANGUAGE.fullmatch(symbol)), None)
