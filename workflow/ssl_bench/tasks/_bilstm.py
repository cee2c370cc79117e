"""SUPERB's recogniser of ASR and slot filling: its keys and its head."""

from typing import Any

from pydantic import Field
from torch import nn

from ssl_bench.heads.bilstm import BiLSTMHead
from ssl_bench.heads.specaugment import SpecAugmentConfig
from ssl_bench.tasks.base import TaskConfig


class BiLSTMConfig(TaskConfig):
    """Keys of the recogniser; ``specaugment: null`` turns warp and masks off."""

    hidden: int = Field(1024, ge=1)
    layers: int = Field(2, ge=1)
    dropout: float = Field(0.2, ge=0, lt=1)
    specaugment: SpecAugmentConfig | None = SpecAugmentConfig(
        feature_masks=4,
        feature_width=50,
        time_masks=2,
        time_width=40,
        time_warp=5,
        extent="batch",
    )


def recogniser(config: Any, dim: int, classes: int) -> nn.Module:
    """Return the head for features of width ``dim``."""
    return BiLSTMHead(
        dim, classes, config.hidden, config.layers, config.dropout, config.specaugment
    )
