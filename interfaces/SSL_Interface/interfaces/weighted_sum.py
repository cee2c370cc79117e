"""Weighted sum: SUPERB's interface, the baseline of the paper (arXiv 2406.12209, section 2).

y = Σ_l softmax(w)_l · h_l, with w = 0 at the start. States (L, B, T, D) → (B, T, D).
Parameters: L (13 at 13×768, 25 at 25×1024).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from typing_extensions import override

from SSL_Interface.base import Interface, InterfaceConfig
from SSL_Interface.products import softmax_sum


@dataclass
class WeightedSumConfig(InterfaceConfig):
    """No options of its own."""


class WeightedSum(Interface):
    """Sum the layers with softmax weights."""

    Config = WeightedSumConfig
    profile_kind = "weight × norm"

    def __init__(self, config: WeightedSumConfig) -> None:
        super().__init__(config)
        # The published name, spelt as published, so that state dicts load both ways.
        self.weighte_sum_weights = nn.Parameter(torch.zeros(len(self.layers)))

    @override
    def join(self, states: Tensor) -> Tensor:
        return softmax_sum(self.weighte_sum_weights, states)

    @override
    def mixing_weights(self) -> Tensor:
        return self.weighte_sum_weights.softmax(0)

    @override
    def macs_per_frame(self) -> int:
        return len(self.layers) * self.dim
