"""Sensitive layer selection, SLS: an utterance sets a gate for each of its layers.

Source: Zhang, Wen & Hu, "Audio Deepfake Detection with XLS-R and SLS Classifier", ACM MM 2024.
Every layer of an utterance gets a gate from its own mean over time; the gated layers are added:

    a_l = sigmoid(w · mean_t h_l + b)      one w for all layers
    y = Σ_l a_l · h_l                      gates do not compete: they do not sum to one

States (L, B, T, D) → (B, T, D). Parameters: D + 1 (769 at 13×768, 1,025 at 25×1024).

From the authors' code, up to the sum. What follows there (BatchNorm, SELU, 3 × 3 max pooling over
frames and channels, two linear layers for a fixed number of frames) is the classifier of their task
and would leave no features of single frames. They join the 24 Transformer layers without the input
to the first: ``layers=list(range(1, 25))``. What differs: the mean is over valid frames only (all
recordings there have one length), and states are layer-normed first unless ``normalize`` is off,
which is theirs.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from typing_extensions import override

from SSL_Interface.base import Interface, InterfaceConfig
from SSL_Interface.interfaces._utterance import utterance_scores


@dataclass
class SLSConfig(InterfaceConfig):
    """No options of its own."""


class SLS(Interface):
    """Add the layers, each with a gate that the utterance itself sets."""

    Config = SLSConfig
    one_type = True
    profile_kind = "weight × norm"

    def __init__(self, config: SLSConfig) -> None:
        super().__init__(config)
        self.gate = nn.Linear(self.dim, 1)

    @override
    def join(self, states: Tensor) -> Tensor:
        return self.join_valid(states)

    @override
    def join_valid(self, states: Tensor, frames: Tensor | None = None) -> Tensor:
        gates = self._gates(states, frames).to(states.dtype)
        return torch.einsum("nb,nbtd->btd", gates, states)

    @override
    def profile(self, states: Tensor, frames: Tensor) -> Tensor:
        """Mean over valid frames of the layer's gate times its norm."""
        norms = states.float().norm(dim=-1) * self._gates(states, frames).float()[..., None]
        return norms[:, frames].mean(1)

    @override
    def macs_per_frame(self) -> int:
        return 2 * len(self.layers) * self.dim

    def _gates(self, states: Tensor, frames: Tensor | None) -> Tensor:
        """(N, B), each from 0 to 1."""
        return utterance_scores(states, self.gate.weight, self.gate.bias, frames).sigmoid()
