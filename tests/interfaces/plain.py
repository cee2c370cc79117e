"""Each interface written the plainest way: what the fast forms are held to, and timed against.

``PLAIN[name](interface, states)`` takes a trained interface's parameters and its selected,
normalised states (N, B, T, D), and gives its features (B, T, output_dim). All frames are valid;
``padded`` says what padding means. No form here shares code with the library. The tests compare in
fp64; ``benchmarks/interfaces.py`` loads this file as well.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def prepare(interface: nn.Module, states: Tensor) -> Tensor:
    """Select and normalise states (L, B, T, D) → (N, B, T, D)."""
    if interface.layers != tuple(range(len(states))):
        states = torch.stack([states[layer] for layer in interface.layers])
    return F.layer_norm(states, states.shape[-1:]) if interface.normalize else states


def padded(name: str, interface: nn.Module, states: Tensor, lengths: Tensor) -> Tensor:
    """Each utterance as if alone, without its padding; then zeros up to the longest."""
    rows = [
        PLAIN[name](interface, states[:, row : row + 1, :length])[0]
        for row, length in enumerate(lengths.tolist())
    ]
    return torch.stack([F.pad(row, (0, 0, 0, states.shape[2] - len(row))) for row in rows])


def mean(interface: nn.Module, states: Tensor) -> Tensor:
    return states.sum(0) / len(states)


def one(interface: nn.Module, states: Tensor) -> Tensor:
    return states[0]


def summed(logits: Tensor, states: Tensor) -> Tensor:
    return (logits.softmax(0)[:, None, None, None] * states).sum(0)


def weighted_sum(interface: nn.Module, states: Tensor) -> Tensor:
    return summed(interface.weighte_sum_weights, states)


def grouped_weighted_sum(interface: nn.Module, states: Tensor) -> Tensor:
    sizes = interface.sizes
    groups = zip(interface.weights.split(sizes), states.split(sizes), strict=True)
    return interface.projection(torch.cat([summed(*group) for group in groups], -1))


def weighted_sum_mlp(interface: nn.Module, states: Tensor) -> Tensor:
    hidden = interface.expand(summed(interface.weights, states)).relu()
    return interface.contract(hidden)


def concat(interface: nn.Module, states: Tensor) -> Tensor:
    return interface.projection(torch.cat(list(states), -1))


def pca_concat(interface: nn.Module, states: Tensor) -> Tensor:
    layers = zip(states, interface.mean, interface.components, strict=True)
    return torch.cat([(state - mean) @ rows.T for state, mean, rows in layers], -1)


def hconv(interface: nn.Module, states: Tensor) -> Tensor:
    """Run the convolutions as convolutions: frames are the batch, layers the sequence."""
    layers, batch, time, dim = states.shape
    rows = states.permute(1, 2, 3, 0).reshape(batch * time, dim, layers)
    return interface.projection(interface.transforms(rows).reshape(batch, time, -1))


def cls_pooling(interface: nn.Module, states: Tensor) -> Tensor:
    """Run the whole Transformer layer over CLS and all states, then keep its first output."""
    layers, batch, time, dim = states.shape
    rows = states.permute(1, 2, 0, 3).reshape(batch * time, layers, dim)
    tokens = torch.cat([interface.cls.expand(batch * time, 1, dim).to(rows.dtype), rows], 1)
    return interface.layer(tokens)[:, 0].view(batch, time, dim)


def gumbel_selection(interface: nn.Module, states: Tensor) -> Tensor:
    """Sum with one-hot weights for every channel, straight-through; torch's own in training."""
    logits, temperature = interface.weights, interface.temperature
    if interface.training:
        weights = F.gumbel_softmax(logits, temperature, hard=True, dim=0)
    else:
        soft = (logits / temperature).softmax(0)
        weights = F.one_hot(logits.argmax(0), len(logits)).T + soft - soft.detach()
    return (weights[:, None, None] * states).sum(0)


def lap(interface: nn.Module, states: Tensor) -> Tensor:
    """Gates of every head from the mean and the maximum over its channels, each squeezed alone."""
    values = interface.project(states).unflatten(-1, (interface.heads, -1))

    def excite(statistic: Tensor) -> Tensor:
        """(N, B, T, heads) → the same, mixed over layers."""
        inner = torch.einsum("nbth,hnk->bthk", statistic, interface.squeeze)
        inner = (inner + interface.squeeze_bias).relu()
        outer = torch.einsum("bthk,hkn->bthn", inner, interface.expand)
        return (outer + interface.expand_bias).movedim(-1, 0)

    gates = torch.sigmoid(excite(values.mean(-1)) + excite(values.amax(-1)))
    gates = F.dropout(gates, interface.dropout, interface.training)
    pooled = (gates[..., None] * values).amax(0)
    return interface.norm(interface.output(pooled.flatten(-2)))


def sls(interface: nn.Module, states: Tensor) -> Tensor:
    gates = interface.gate(states.mean(2)).sigmoid()  # (N, B, 1)
    return (gates[:, :, None] * states).sum(0)


def attm(interface: nn.Module, states: Tensor) -> Tensor:
    pooled = F.silu(states.mean(2) @ interface.pool[0])  # (N, B)
    gates = torch.sigmoid(F.silu(pooled.T @ interface.squeeze) @ interface.expand)  # (B, N)
    gated = gates.T[..., None, None] * states
    return interface.narrow(F.silu(interface.merge(torch.cat(list(gated), -1))))


PLAIN: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "attm": attm,
    "cls_pooling": cls_pooling,
    "concat": concat,
    "grouped_weighted_sum": grouped_weighted_sum,
    "gumbel_selection": gumbel_selection,
    "hconv": hconv,
    "lap": lap,
    "last": one,
    "mean": mean,
    "pca_concat": pca_concat,
    "single_layer": one,
    "sls": sls,
    "weighted_sum": weighted_sum,
    "weighted_sum_mlp": weighted_sum_mlp,
}
