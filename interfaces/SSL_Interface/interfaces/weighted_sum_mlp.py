"""Weighted sum + MLP: the control that has HConv's size and non-linearity but joins by summing.

Table 3 of arXiv 2406.12209 enlarges the downstream model of the weighted sum; here the size goes
into the interface, so that the same head serves all rows.

    z = Σ_l softmax(w)_l · h_l
    y = W₂ ReLU(W₁ z + b₁) + b₂,   W₁ (H, D), W₂ (D, H)

States (L, B, T, D) → (B, T, D). Parameters: L + H·(2D + 1) + D, where H is chosen so that the count
is the nearest to the wanted one (by default HConv's: 4,424,267 of
4,424,832 at 13×768, 6,990,188 of 6,990,165 at 25×1024).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from typing_extensions import override

from SSL_Interface.base import Interface, InterfaceConfig
from SSL_Interface.interfaces.hconv import hconv_parameters
from SSL_Interface.products import softmax_sum


@dataclass
class WeightedSumMLPConfig(InterfaceConfig):
    """How large the interface is.

    Args:
        parameters: the parameter count to come nearest to; None takes ``match``.
        match: the interface whose count (at this L and D, in its default form) is matched;
            "hconv" is the only one there is.
    """

    parameters: int | None = None
    match: str = "hconv"


class WeightedSumMLP(Interface):
    """Sum the layers with softmax weights, then two linear layers with a ReLU between."""

    Config = WeightedSumMLPConfig
    one_type = True

    def __init__(self, config: WeightedSumMLPConfig) -> None:
        super().__init__(config)
        if config.match != "hconv":
            raise self.error("match", "'hconv'", repr(config.match))
        count = len(self.layers)
        if config.parameters is not None:
            wanted = self.positive("parameters", config.parameters)
        elif count > 1:
            wanted = hconv_parameters(count, self.dim)
        else:
            raise self.error("parameters", "a number, HConv has none for a single layer", None)
        hidden = (wanted - count - self.dim) / (2 * self.dim + 1)
        self.hidden = max(1, math.floor(hidden + 0.5))
        self.weights = nn.Parameter(torch.zeros(count))
        self.expand = nn.Linear(self.dim, self.hidden)
        self.contract = nn.Linear(self.hidden, self.dim)

    @override
    def join(self, states: Tensor) -> Tensor:
        return self.contract(self.expand(softmax_sum(self.weights, states)).relu())

    @override
    def mixing_weights(self) -> Tensor:
        return self.weights.softmax(0)

    @override
    def macs_per_frame(self) -> int:
        return len(self.layers) * self.dim + 2 * self.dim * self.hidden
