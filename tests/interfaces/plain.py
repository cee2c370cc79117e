"""Each interface written the plainest way: what the fast forms are held to, and timed against.

``PLAIN[name](interface, states)`` takes a trained interface's parameters and its selected,
normalised states (N, B, T, D), and gives its features (B, T, output_dim). No form here shares code
with the library. The tests compare in fp64; ``benchmarks/interfaces.py`` loads this file as well.
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


PLAIN: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "cls_pooling": cls_pooling,
    "concat": concat,
    "grouped_weighted_sum": grouped_weighted_sum,
    "hconv": hconv,
    "last": one,
    "mean": mean,
    "pca_concat": pca_concat,
    "single_layer": one,
    "weighted_sum": weighted_sum,
    "weighted_sum_mlp": weighted_sum_mlp,
}
