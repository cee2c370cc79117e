"""Pre-norm Transformer layers as plain matrix products, for ``vmap``."""

import math

import torch
from torch import Tensor, nn

EPSILON = 1e-12  # ESPnet's LayerNorm


def sinusoids(frames: int, dim: int, like: Tensor) -> Tensor:
    """Return the sinusoidal position encoding (frames, dim), sine and cosine interleaved."""
    position = torch.arange(frames, device=like.device, dtype=torch.float32)[:, None]
    step = torch.arange(0, dim, 2, device=like.device, dtype=torch.float32)
    angle = position * torch.exp(step * (-math.log(10_000.0) / dim))
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)[:, :dim].to(like.dtype)


class TransformerLayer(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x)), with dropout as in ESPnet.

    Query, key and value projections are one matrix; initialised alike, it is the same layer.
    """

    def __init__(self, dim: int, attention_heads: int, feed_forward: int, dropout: float):
        super().__init__()
        self.heads = attention_heads
        self.attention_norm = nn.LayerNorm(dim, eps=EPSILON)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.feed_forward_norm = nn.LayerNorm(dim, eps=EPSILON)
        self.feed_forward = nn.Sequential(
            nn.Linear(dim, feed_forward),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(feed_forward, dim),
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, T, D), mask (B, T) of the frames that may be attended to → (B, T, D)."""
        x = x + self.dropout(self._attend(self.attention_norm(x), mask))
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))

    def _attend(self, x: Tensor, mask: Tensor) -> Tensor:
        batch, frames, dim = x.shape
        qkv = self.qkv(x).reshape(batch, frames, 3, self.heads, dim // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, heads, T, D / heads)
        scores = q @ k.transpose(-2, -1) / math.sqrt(dim // self.heads)
        scores = scores.masked_fill(~mask[:, None, None, :], torch.finfo(scores.dtype).min)
        attended = self.dropout(scores.softmax(dim=-1)) @ v
        return self.out(attended.transpose(1, 2).reshape(batch, frames, dim))
