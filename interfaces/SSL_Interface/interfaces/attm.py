"""Attentive merging, AttM (Pan et al., Interspeech 2024, arXiv 2406.10283).

Gates for the layers of an utterance come from all its layers' means over time; the gated layers are
concatenated and merged by two linear layers:

    p_l = SiLU(w · mean_t h_l)             one w for all layers
    a = sigmoid(E SiLU(S p))               (L); S (⌊L/2⌋, L), E (L, ⌊L/2⌋)
    y = N SiLU(M [a_0 h_0; …; a_{L−1} h_{L−1}] + m) + n,   M (H, L·D), N (D, H)

H = ⌊L·D / 4⌋. States (L, B, T, D) → (B, T, D). Parameters: D + 2·L·⌊L/2⌋ + (L·D + 1)·H + (H + 1)·D
(26,841,180 at 13×768, 170,402,648 at 25×1024): the largest of all interfaces by far; ``hidden``
makes it smaller.

From the authors' code: equations, H, and w, S, E drawn from N(0, 1). Differences that change
nothing: an unused linear layer in the code (an argument of its activation) is left out, and
channels are concatenated layer by layer where the code interleaves them, a permutation of M's
columns. What differs: the mean is over valid frames only, and states are layer-normed first unless
``normalize`` is off, which is theirs. They join the Transformer layers without the input to the
first: ``layers=list(range(1, 25))``.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from SSL_Interface.base import Interface, InterfaceConfig
from SSL_Interface.gating import gated_rows
from SSL_Interface.interfaces._utterance import utterance_scores


@dataclass
class AttMConfig(InterfaceConfig):
    """``hidden``: H, width between the merging layers; None takes a quarter of L·D."""

    hidden: int | None = None


class AttM(Interface):
    """Gate the layers of an utterance, concatenate and merge them."""

    Config = AttMConfig
    one_type = True

    def __init__(self, config: AttMConfig) -> None:
        super().__init__(config)
        count, wide = len(self.layers), len(self.layers) * self.dim
        hidden = max(1, wide // 4) if config.hidden is None else config.hidden
        self.hidden = self.positive("hidden", hidden)
        self.inner = max(1, count // 2)
        self.pool = nn.Parameter(torch.randn(1, self.dim))
        self.squeeze = nn.Parameter(torch.randn(count, self.inner))
        self.expand = nn.Parameter(torch.randn(self.inner, count))
        self.merge = nn.Linear(wide, hidden)
        self.narrow = nn.Linear(hidden, self.dim)

    @override
    def join(self, states: Tensor) -> Tensor:
        return self.join_valid(states)

    @override
    def join_valid(self, states: Tensor, frames: Tensor | None = None) -> Tensor:
        pooled = F.silu(utterance_scores(states, self.pool, None, frames))  # (N, B)
        gates = (F.silu(pooled.T @ self.squeeze) @ self.expand).sigmoid()  # (B, N)
        return self.narrow(F.silu(self.merge(gated_rows(gates, states))))

    @override
    def macs_per_frame(self) -> int:
        wide = len(self.layers) * self.dim
        return wide + wide * self.hidden + self.hidden * self.dim
