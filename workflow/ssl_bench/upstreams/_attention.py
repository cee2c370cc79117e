"""Attention in ``_packed.py``: the frames (N, D) of all utterances, one after the other."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn

from ssl_bench.device import upload

ALIGNED = 8
"""Values that a row of a bias is a multiple of, so that the kernel reads it where it lies."""


class Attention:
    """The weights of one block's attention; projections to query, key and value are one.

    Args:
        layer: attention of transformers' HuBERT, wav2vec2 or WavLM.
        dtype: of weights and products.
    """

    def __init__(self, layer: Any, dtype: torch.dtype) -> None:
        three = [layer.q_proj, layer.k_proj, layer.v_proj]
        self.heads = layer.num_heads
        self.weight = torch.cat([part.weight.detach() for part in three]).to(dtype)
        self.bias = torch.cat([part.bias.detach() for part in three]).to(dtype)
        last = layer.out_proj
        self.output = last.weight.detach().to(dtype), last.bias.detach().to(dtype)
        self.gate: tuple[Tensor, Tensor] | None = None
        if hasattr(layer, "gru_rel_pos_linear"):
            # Each of the gate's two values is a sum of four outputs, which is one output.
            linear = layer.gru_rel_pos_linear
            weight = linear.weight.detach().view(2, 4, -1).sum(1)
            self.gate = weight.to(dtype), linear.bias.detach().view(2, 4).sum(1).to(dtype)
            self.constant = layer.gru_rel_pos_const.detach().view(-1).float()  # (heads,)

    def three(self, x: Tensor) -> Tensor:
        """(N, D) → query, key and value of every head, (N, 3, heads, D / heads)."""
        return F.linear(x, self.weight, self.bias).view(len(x), 3, self.heads, -1)

    def gates(self, x: Tensor) -> Tensor:
        """(N, D) → what WavLM multiplies the bias of each query with, (N, heads)."""
        assert self.gate is not None
        two = F.linear(x.view(len(x), self.heads, -1), *self.gate).float().sigmoid()
        first, second = two.unbind(-1)
        return first * (second * self.constant - 1) + 2


class Unequal:
    """Flash attention on sequences of unequal length: HuBERT's and wav2vec2's.

    Args:
        counts: frames of each utterance.
        device: of the frames.
    """

    def __init__(self, counts: Sequence[int], device: torch.device) -> None:
        ends = F.pad(torch.tensor(counts).cumsum(0).int(), (1, 0))
        self.ends, self.longest = upload(ends, device), max(counts)

    def __call__(self, attention: Attention, x: Tensor) -> Tensor:
        """(N, D) → (N, D)."""
        query, key, value = attention.three(x).unbind(1)
        sizes = self.ends, self.ends, self.longest, self.longest
        mixed = varlen_attn(query, key, value, *sizes)
        assert isinstance(mixed, Tensor)
        return F.linear(mixed.reshape(len(x), -1), *attention.output)


class Relative:
    """WavLM's: to each score is added a bias for the distance, times a gate of head and query.

    A kernel for sequences of unequal length takes no bias, so utterances are padded here, and the
    bias masks what is not there. It is written anew by each block, in the same place.

    Args:
        first: transformers' attention of the first block, which has the bias of all.
        counts: frames of each utterance.
        kept: where the frames lie in the padded batch (N,); None if nothing is padded.
        dtype: of the products.
    """

    def __init__(
        self, first: Any, counts: Sequence[int], kept: Tensor | None, dtype: torch.dtype
    ) -> None:
        device = first.rel_attn_embed.weight.device
        self.kept, self.sizes = kept, (len(counts), max(counts))
        self.position = first.compute_bias(max(counts), max(counts)).to(dtype)  # (heads, T, T)
        rows, longest = self.sizes
        aligned = longest + -longest % ALIGNED
        shape = (rows, len(self.position), longest, aligned)
        self.scores = torch.empty(shape, dtype=dtype, device=device)[..., :longest]
        self.missing: Tensor | None = None
        if kept is not None:
            self.missing = torch.ones(rows * longest, dtype=torch.bool, device=device)
            self.missing[kept] = False
            self.missing = self.missing.view(rows, 1, 1, longest)

    def __call__(self, attention: Attention, x: Tensor) -> Tensor:
        """(N, D) → (N, D)."""
        gates = self._padded(attention.gates(x).to(x.dtype)).transpose(1, 2)  # (B, heads, T)
        torch.mul(gates[..., None], self.position, out=self.scores)
        if self.missing is not None:
            self.scores.masked_fill_(self.missing, -torch.inf)
        query, key, value = self._padded(attention.three(x)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, self.scores)
        mixed = mixed.transpose(1, 2).flatten(2).flatten(0, 1)
        return F.linear(mixed if self.kept is None else mixed[self.kept], *attention.output)

    def _padded(self, x: Tensor) -> Tensor:
        """(N, …) → (B, T, …)."""
        if self.kept is not None:
            full = x.new_zeros(self.sizes[0] * self.sizes[1], *x.shape[1:])
            full[self.kept] = x
            x = full
        return x.unflatten(0, self.sizes)
