"""Layer attentive pooling, LAP (Kim et al., Interspeech 2025, arXiv 2512.22148).

At every frame and for each of K heads, gates for the layers come from the mean and the maximum of
each layer's channels, and the largest gated value wins:

    x_l = W h_l + b                        (D) = K heads of D / K channels, each by itself below
    z(v) = C ReLU(S v + s) + c             S (⌊L/2⌋, L), C (L, ⌊L/2⌋): a head's squeeze and expand
    a = sigmoid(z(mean_d x) + z(max_d x))  (L), mean and maximum over the head's channels
    u_d = max_l a_l · x_ld
    y = LayerNorm(U [u of head 1; …; u of head K] + v)

States (L, B, T, D) → (B, T, output_dim). Parameters: D² + D + K·(2·L·⌊L/2⌋ + ⌊L/2⌋ + L) +
(D + 3)·output_dim (1,184,820 at 13×768, 2,111,440 at 25×1024).

From the authors' code: equations, W only if K > 1, dropout of 0.1 on the gates, Xavier uniform
initial weights (here by the sizes of one head's matrix, there by those of all in one tensor) and
zero biases, K = 16 for D = 1024 and 12 for 768. The choice here: K is the largest divisor of D up
to D / 64, which gives those; ``output_dim`` is D, not 512, as of the other interfaces. What must
differ: the code has a BatchNorm before W and one after U, whose batch statistics would let an
utterance's features depend on the batch and its padding. Before W the layer norm of every state
(``normalize``) stands for it, after U a LayerNorm. The temporal pooling behind LAP (ASTP) belongs
to a head and is not part of this.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from SSL_Interface.base import Interface, InterfaceConfig
from SSL_Interface.gating import gated_maximum, statistics


@dataclass
class LAPConfig(InterfaceConfig):
    """Shape of the pooling.

    Args:
        heads: K, a divisor of D; None takes the largest divisor up to D / 64.
        dropout: of the gates, in training.
        output_dim: width of the features; None takes D.
    """

    heads: int | None = None
    dropout: float = 0.1
    output_dim: int | None = None


class LAP(Interface):
    """Gate the layers at every frame and keep the largest value of each channel."""

    Config = LAPConfig
    one_type = True

    def __init__(self, config: LAPConfig) -> None:
        super().__init__(config)
        count, dim = len(self.layers), self.dim
        largest = max(heads for heads in range(1, max(1, dim // 64) + 1) if dim % heads == 0)
        self.heads = self.positive("heads", largest if config.heads is None else config.heads)
        if dim % self.heads:
            raise self.error("heads", f"a divisor of {dim}", self.heads)
        self.dropout = self.share("dropout", config.dropout)
        width = dim if config.output_dim is None else config.output_dim
        self._output_dim = self.positive("output_dim", width)

        self.inner = max(1, count // 2)
        self.project = nn.Linear(dim, dim) if self.heads > 1 else nn.Identity()
        self.squeeze = nn.Parameter(torch.empty(self.heads, count, self.inner))
        self.squeeze_bias = nn.Parameter(torch.zeros(self.heads, self.inner))
        self.expand = nn.Parameter(torch.empty(self.heads, self.inner, count))
        self.expand_bias = nn.Parameter(torch.zeros(self.heads, count))
        self.output = nn.Linear(dim, width)
        self.norm = nn.LayerNorm(width)
        for layer in (self.project, self.output):
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)
        bound = math.sqrt(6 / (count + self.inner))
        nn.init.uniform_(self.squeeze, -bound, bound)
        nn.init.uniform_(self.expand, -bound, bound)

    @override
    def join(self, states: Tensor) -> Tensor:
        values = self.project(states).unflatten(-1, (self.heads, -1))  # (N, B, T, heads, D / heads)
        values, means, maxima = statistics(values)
        gates = F.dropout(self._gates(means, maxima), self.dropout, self.training)
        pooled = gated_maximum(gates.to(values.dtype), values)
        return self.norm(self.output(pooled.flatten(-2)))

    @override
    def macs_per_frame(self) -> int:
        count, dim = len(self.layers), self.dim
        projection = count * dim**2 if self.heads > 1 else 0
        # Two squeezes, one expansion: z is linear behind its ReLU, so its two uses share C.
        return projection + 3 * self.heads * count * self.inner + dim * self.output_dim

    def _gates(self, means: Tensor, maxima: Tensor) -> Tensor:
        """Gates (N, B, T, heads), each from 0 to 1, from two statistics of that shape."""
        both = torch.stack([means, maxima])
        inner = torch.einsum("snbth,hnk->sbthk", both, self.squeeze) + self.squeeze_bias
        logits = torch.einsum("bthk,hkn->nbth", inner.relu().sum(0), self.expand)
        return (logits + 2 * self.expand_bias.T[:, None, None]).sigmoid()
