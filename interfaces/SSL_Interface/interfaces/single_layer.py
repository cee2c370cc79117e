"""One layer of the upstream, as it is: the baseline that joins nothing.

y = h_k. States (L, B, T, D) → (B, T, D); no parameters. Source: the package published with arXiv
2406.12209, which has a configuration for it (``SingleLayerInterfaceConfig``) and no module.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from typing_extensions import override

from SSL_Interface.base import Interface, InterfaceConfig


@dataclass
class SingleLayerConfig(InterfaceConfig):
    """``layer``: the index k among the selected layers; negative ones count from the end."""

    layer: int = -1


class SingleLayer(Interface):
    """Pass on one layer."""

    Config = SingleLayerConfig
    profile_kind = "weight × norm"

    def __init__(self, config: SingleLayerConfig) -> None:
        super().__init__(config)
        # Narrowing the selection itself leaves the other layers unread and unnormalised.
        self.layers = (self.layers[self.layer_index("layer", config.layer, len(self.layers))],)

    @override
    def join(self, states: Tensor) -> Tensor:
        return states[0]

    @override
    def mixing_weights(self) -> Tensor:
        return torch.ones(1)

    @override
    def macs_per_frame(self) -> int:
        return 0
