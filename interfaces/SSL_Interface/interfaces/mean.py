"""The mean of the layers: a weighted sum that does not learn.

y = (1/L) Σ_l h_l. States (L, B, T, D) → (B, T, D); no parameters. Source: the weighted sum of arXiv
2406.12209 as it is before its first step.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from typing_extensions import override

from SSL_Interface.base import Interface, InterfaceConfig


@dataclass
class MeanConfig(InterfaceConfig):
    """No options of its own."""


class Mean(Interface):
    """Average the layers."""

    Config = MeanConfig
    profile_kind = "weight × norm"

    @override
    def join(self, states: Tensor) -> Tensor:
        return states.mean(0)

    @override
    def mixing_weights(self) -> Tensor:
        return torch.full((len(self.layers),), 1 / len(self.layers))

    @override
    def macs_per_frame(self) -> int:
        return len(self.layers) * self.dim
