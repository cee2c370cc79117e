"""Gumbel selection: every channel takes one layer, which one is learned ("GumD").

A baseline of arXiv 2511.08389, taken there from Chiu et al., "Learnable Layer Selection and Model
Fusion for Speech Self-Supervised Learning Models", Interspeech 2024, and its published code.

    y_d = h_{l(d), d},   l(d) = argmax_l (w_ld + g_ld)

with w = 0 at the start. In training g is Gumbel noise, drawn anew at every forward, so that layer l
is taken with probability softmax(w_d)_l; in evaluation g = 0. The gradient for w is that of
p = softmax((w + g) / τ) in place of the choice (straight-through):

    y_d = Σ_l (onehot(l(d)) + p_ld − stop(p_ld)) · h_ld

States (L, B, T, D) → (B, T, D). Parameters: L·D (9,984 at 13×768, 25,600 at 25×1024).

As published: one w for each layer and channel, hard choices in training too, argmax in evaluation.
What differs or is left open, and the choice here: one draw serves the whole batch (as in the code);
τ stays at ``temperature``, where the code lowers it from 1 to 0.1 over 30,000 steps and on to
0.0001; a caller that wants that sets the attribute ``temperature`` between steps. Evaluation keeps
the straight-through gradient. Fusing models, arXiv 2511.08389 selects within each and
concatenates; here one upstream is meant (see ``SSL_Interface.fusion``).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from typing_extensions import override

from SSL_Interface.base import Interface, InterfaceConfig
from SSL_Interface.gating import gated_sum
from SSL_Interface.profiles import weighted_norms


@dataclass
class GumbelSelectionConfig(InterfaceConfig):
    """``temperature``: τ > 0; the lower, the nearer the gradient is to that of one layer."""

    temperature: float = 1.0


class GumbelSelection(Interface):
    """Take every channel from the layer that it has chosen."""

    Config = GumbelSelectionConfig
    profile_kind = "weight × norm"

    def __init__(self, config: GumbelSelectionConfig) -> None:
        super().__init__(config)
        temperature = config.temperature
        number = isinstance(temperature, int | float) and not isinstance(temperature, bool)
        if not number or not 0 < temperature < math.inf:
            raise self.error("temperature", "above zero", repr(temperature))
        self.temperature = temperature
        self.weights = nn.Parameter(torch.zeros(len(self.layers), self.dim))

    @override
    def join(self, states: Tensor) -> Tensor:
        logits: Tensor = self.weights
        if self.training:
            logits = logits - torch.empty_like(logits).exponential_().log()
        soft = (logits / self.temperature).softmax(0)
        # The difference is zero, so the sum is exactly the choice.
        selection = _choice(logits) + (soft - soft.detach())
        return gated_sum(selection, states)

    @override
    def mixing_weights(self) -> Tensor:
        """The share of the channels that take each layer, without noise."""
        return _choice(self.weights).mean(1)

    @override
    def profile(self, states: Tensor, frames: Tensor) -> Tensor:
        """Mean norm of what is taken from each layer."""
        taken = states * _choice(self.weights)[:, None, None]
        return weighted_norms(taken.new_ones(len(taken)), taken, frames)

    @override
    def macs_per_frame(self) -> int:
        return len(self.layers) * self.dim


def _choice(logits: Tensor) -> Tensor:
    """One-hot of the largest over layers: (N, D) → (N, D)."""
    return torch.zeros_like(logits).scatter(0, logits.argmax(0, keepdim=True), 1.0)
