"""Grouped weighted sum (#G): one sum for every group of neighbouring layers (arXiv 2406.12209).

    z_g = Σ_{l in group g} softmax(w_g)_l · h_l        G consecutive groups, w = 0 at the start
    y = W [z_1; …; z_G] + b,   W (D, G·D)

Sizes of the groups differ by at most one, the larger ones first (the paper leaves it open).
States (L, B, T, D) → (B, T, D).
Parameters: L + G·D² + D (1,180,429 for #2 at 13×768, 2,098,201 for #2 at 25×1024).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from typing_extensions import override

from SSL_Interface.base import Interface, InterfaceConfig
from SSL_Interface.products import softmax_sum


@dataclass
class GroupedWeightedSumConfig(InterfaceConfig):
    """``groups``: G, from 1 to the number of layers."""

    groups: int = 2


class GroupedWeightedSum(Interface):
    """Sum each group of layers with its own softmax, concatenate, project."""

    Config = GroupedWeightedSumConfig
    one_type = True

    def __init__(self, config: GroupedWeightedSumConfig) -> None:
        super().__init__(config)
        count = len(self.layers)
        groups = self.positive("groups", config.groups)
        if groups > count:
            raise self.error("groups", f"at most one for each of {count} layers", groups)
        self.sizes = [count // groups + (group < count % groups) for group in range(groups)]
        self.weights = nn.Parameter(torch.zeros(count))
        self.projection = nn.Linear(groups * self.dim, self.dim)

    @override
    def join(self, states: Tensor) -> Tensor:
        groups = zip(self.weights.split(self.sizes), states.split(self.sizes), strict=True)
        return self.projection(torch.cat([softmax_sum(*group) for group in groups], -1))

    @override
    def mixing_weights(self) -> Tensor:
        """Each group's weights sum to one, so all of them sum to G."""
        return torch.cat([weights.softmax(0) for weights in self.weights.split(self.sizes)])

    @override
    def macs_per_frame(self) -> int:
        return len(self.layers) * self.dim + len(self.sizes) * self.dim**2
