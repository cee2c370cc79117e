"""CLS pooling: attention over layers by a learned query (arXiv 2406.12209, section 2).

At every frame the L states are a sequence of tokens. A learned CLS token c is put before them, one
Transformer layer reads the L + 1 tokens, and its output at CLS is the feature:

    a = c + Attention(query c; keys and values [c, h_0, …, h_{L−1}])
    x = LayerNorm(a),   y = LayerNorm(x + W₂ ReLU(W₁ x + b₁) + b₂)

States (L, B, T, D) → (B, T, D). Parameters: 4D² + 2·D·F + 10·D + F, F the inner width
(4,727,808 at 13×768 and 8,400,896 at 25×1024, independent of L).

What the paper leaves open, and the choice here: torch's layer (post-norm, ReLU); F = 2·D, which
brings the layer near HConv in parameters (torch's fixed 2048 would not scale with D); no layer
positions, so the order of the layers does not matter; dropout off; c drawn from N(0, 0.02²).

Only the CLS row is computed. Its query is the same at every frame, so it is folded into the key
projection (scores = h Kᵀq), and states are averaged by attention before the value projection:
2·L·D·heads + 2·D² + 2·D·F products a frame in place of a whole layer over L + 1 tokens.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from SSL_Interface.base import Interface, InterfaceConfig
from SSL_Interface.working import frames_axis, in_working_type


@dataclass
class CLSPoolingConfig(InterfaceConfig):
    """Shape of the Transformer layer.

    Args:
        heads: attention heads, a divisor of D; None takes the largest divisor up to 8.
        feedforward: inner width F; None takes 2·D.
        dropout: as in torch's layer, also on the attention.
    """

    heads: int | None = None
    feedforward: int | None = None
    dropout: float = 0.0


class CLSPooling(Interface):
    """Read the layers with one Transformer layer and keep its CLS output."""

    Config = CLSPoolingConfig
    one_type = True
    profile_kind = "attention"

    def __init__(self, config: CLSPoolingConfig) -> None:
        super().__init__(config)
        dim = self.dim
        largest = max(heads for heads in range(1, 9) if dim % heads == 0)
        self.heads = self.positive("heads", largest if config.heads is None else config.heads)
        if dim % self.heads:
            raise self.error("heads", f"a divisor of {dim}", self.heads)
        width = 2 * dim if config.feedforward is None else config.feedforward
        self.feedforward = self.positive("feedforward", width)
        dropout = self.share("dropout", config.dropout)
        self.cls = nn.Parameter(0.02 * torch.randn(dim))
        # Holds parameters under torch's names and with torch's initial values; never called.
        self.layer = nn.TransformerEncoderLayer(
            dim, self.heads, self.feedforward, dropout, batch_first=True
        )

    @override
    def join(self, states: Tensor) -> Tensor:
        layer, attention = self.layer, self.layer.self_attn
        states = in_working_type(states)
        probabilities = self._attend(states)  # (N + 1, B, T, heads)
        probabilities = F.dropout(probabilities, attention.dropout, self.training)
        value_weight = attention.in_proj_weight[2 * self.dim :].unflatten(0, (self.heads, -1))
        value_bias = attention.in_proj_bias[2 * self.dim :].unflatten(0, (self.heads, -1))

        own, others = probabilities[0, ..., None], probabilities[1:].to(states.dtype)
        pooled = torch.einsum("lbth,lbtd->bthd", others, states)
        values = torch.einsum("bthd,hed->bthe", pooled, value_weight)
        # In the products' type at once: mixed types would widen every step from here to fp32.
        own_value = (value_weight @ self.cls).to(values.dtype)
        values = torch.addcmul(values, own.to(values.dtype), own_value)
        weight, bias = attention.out_proj.weight, attention.out_proj.bias
        if self.training and attention.dropout:
            # Dropout leaves attention that does not sum to one, and the bias is scaled by it.
            values = values + (probabilities.sum(0)[..., None] * value_bias).to(values.dtype)
        else:
            bias = bias + weight @ value_bias.flatten()
        attended = F.linear(values.flatten(-2), weight, bias)

        x = layer.norm1(self.cls + layer.dropout1(attended))
        inner = layer.dropout(layer.linear1(x).relu())
        return layer.norm2(x + layer.dropout2(layer.linear2(inner)))

    @override
    def profile(self, states: Tensor, frames: Tensor) -> Tensor:
        """Mean attention on each layer; what CLS pays to itself is left out."""
        return self._attend(in_working_type(states))[1:, frames].mean((1, 2))

    @override
    def macs_per_frame(self) -> int:
        attention = 2 * len(self.layers) * self.dim * self.heads
        return attention + 2 * self.dim**2 + 2 * self.dim * self.feedforward

    def _attend(self, states: Tensor) -> Tensor:
        """Attention of CLS on itself and on states (N, B, T, D) → (N + 1, B, T, heads)."""
        weight, bias = self.layer.self_attn.in_proj_weight, self.layer.self_attn.in_proj_bias
        dim, heads = self.dim, self.heads
        query = F.linear(self.cls, weight[:dim], bias[:dim]).unflatten(0, (heads, -1, 1))
        query = query / math.sqrt(dim // heads)
        key_weight = weight[dim : 2 * dim].unflatten(0, (heads, -1))
        key_bias = bias[dim : 2 * dim].unflatten(0, (heads, -1))
        folded = (query * key_weight).sum(1)  # (heads, D)
        constant = (query.squeeze(-1) * key_bias).sum(1)  # (heads,)

        axis = frames_axis(states)
        scores = F.linear(states.movedim(0, axis), folded, constant).movedim(axis, 0)
        own = F.linear(self.cls, folded, constant).expand_as(scores[:1])
        return torch.cat([own, scores]).softmax(0)
