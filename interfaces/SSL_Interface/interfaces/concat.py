"""Concatenation + projection: every channel of every layer to every output (arXiv 2406.12209).

y = W [h_0; …; h_{L−1}] + b,   W (D, L·D). States (L, B, T, D) → (B, T, D).
Parameters: L·D² + D (7,668,480 at 13×768, 26,215,424 at 25×1024).
"""

from dataclasses import dataclass

from torch import Tensor, nn
from typing_extensions import override

from SSL_Interface.base import Interface, InterfaceConfig
from SSL_Interface.products import layer_products


@dataclass
class ConcatConfig(InterfaceConfig):
    """No options of its own."""


class Concat(Interface):
    """Concatenate the layers and project them to one width."""

    Config = ConcatConfig
    stacks_frames = True

    def __init__(self, config: ConcatConfig) -> None:
        super().__init__(config)
        self.projection = nn.Linear(len(self.layers) * self.dim, self.dim)

    @override
    def join(self, states: Tensor) -> Tensor:
        return layer_products(states, self.projection.weight, self.projection.bias)

    @override
    def macs_per_frame(self) -> int:
        return len(self.layers) * self.dim**2
