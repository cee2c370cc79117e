"""The last (selected) layer of the upstream: what a model's own output gives.

y = h_{L−1}. States (L, B, T, D) → (B, T, D); no parameters. Source: the usual use of an encoder
before SUPERB (arXiv 2105.01051) took weighted sums.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from typing_extensions import override

from SSL_Interface.base import Interface, InterfaceConfig


@dataclass
class LastConfig(InterfaceConfig):
    """No options of its own."""


class Last(Interface):
    """Pass on the last layer."""

    Config = LastConfig
    profile_kind = "weight × norm"

    def __init__(self, config: LastConfig) -> None:
        super().__init__(config)
        self.layers = self.layers[-1:]

    @override
    def join(self, states: Tensor) -> Tensor:
        return states[0]

    @override
    def mixing_weights(self) -> Tensor:
        return torch.ones(1)

    @override
    def macs_per_frame(self) -> int:
        return 0
