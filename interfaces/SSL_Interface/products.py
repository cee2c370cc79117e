"""Sums and products over all layers, with their backward passes written out.

What plain tensor code costs here is memory traffic: copies of the states into another layout or
type, and products that are kept only to be added. Each ``torch.autograd.Function`` below reads the
states where they lie. The plain form beside it is the same mathematics: it is what runs under
``torch.func.vmap`` (several runs at once), and what ``torch.compile`` and ``torch.export`` see,
since a compiler schedules plain code by itself.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from SSL_Interface.working import (
    accumulate,
    frames_axis,
    no_autocast,
    sum_type,
    traced,
    vmapped,
    working_type,
)


def layer_sum(weights: Tensor, states: Tensor) -> Tensor:
    """Sum states (N, B, T, D) with weights (N,) → (B, T, D), in the states' type.

    Forward and backward read the states once each. Autocast changes nothing, as with torch's sums.
    """
    return plain_sum(weights, states) if traced() else _LayerSum.apply(weights, states)


def plain_sum(weights: Tensor, states: Tensor) -> Tensor:
    """``layer_sum`` as one product."""
    return (weights.to(states.dtype) @ states.flatten(1)).unflatten(0, states.shape[1:])


def layer_products(states: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Project the N states of a frame side by side.

    Args:
        states: (N, B, T, D). Those that lie layer by layer are multiplied there, and the products
            added up in place, in fp32 where the states are bf16 or fp16.
        weight: (C, N·D).
        bias: (C,).

    Returns:
        (B, T, C), under autocast in its type.
    """
    if traced():
        return plain_products(states, weight, bias)
    return _LayerProducts.apply(states, weight, bias)


def plain_products(states: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``layer_products`` as one linear map of the concatenated states."""
    return F.linear(states.movedim(0, -2).flatten(-2), weight, bias)


class _LayerSum(torch.autograd.Function):
    @staticmethod
    def forward(weights: Tensor, states: Tensor) -> Tensor:
        weights = weights.to(states.dtype)
        with no_autocast(states):
            if frames_axis(states):
                return weights @ states.movedim(0, -2)
            return plain_sum(weights, states)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        weights, states = ctx.saved_tensors
        for_weights = for_states = None
        if ctx.needs_input_grad[0]:
            for_weights = _dots(states, gradient).to(weights.dtype)
        if ctx.needs_input_grad[1]:
            for_states = weights.to(states.dtype)[:, None, None, None] * gradient
        return for_weights, for_states

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Tensor) -> tuple[Tensor, int]:
        return vmapped(plain_sum, info, in_dims, inputs)


class _LayerProducts(torch.autograd.Function):
    @staticmethod
    def forward(states: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        dtype = working_type(states)
        blocks = weight.to(dtype)
        with no_autocast(states):
            if frames_axis(states):
                return plain_products(states.to(dtype), blocks, bias.to(dtype))
            total = bias.to(sum_type(dtype)).repeat(states[0, ..., 0].numel(), 1)
            for state, block in zip(states, blocks.chunk(len(states), 1), strict=True):
                accumulate(total, state.flatten(0, 1).to(dtype), block.t())
        return total.to(dtype).unflatten(0, states.shape[1:3])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        states, weight, bias = ctx.saved_tensors
        for_states = for_weight = for_bias = None
        gradient = gradient.flatten(0, 1)
        if ctx.needs_input_grad[0]:
            blocks = weight.to(gradient.dtype).unflatten(1, (len(states), -1)).transpose(0, 1)
            for_states = (gradient @ blocks).unflatten(1, states.shape[1:3]).to(states.dtype)
        if ctx.needs_input_grad[1]:
            for_weight = _backward_blocks(gradient, states, weight)
        if ctx.needs_input_grad[2]:
            for_bias = gradient.sum(0, dtype=bias.dtype)
        return for_states, for_weight, for_bias

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Tensor) -> tuple[Tensor, int]:
        return vmapped(plain_products, info, in_dims, inputs)


def _backward_blocks(gradient: Tensor, states: Tensor, weight: Tensor) -> Tensor:
    """Gradients (B·T, C) and the states (N, B, T, D) that were read → (C, N·D)."""
    result = torch.empty_like(weight)
    if states.dtype == gradient.dtype == weight.dtype:
        for state, block in zip(states, result.chunk(len(states), 1), strict=True):
            torch.mm(gradient.t(), state.flatten(0, 1), out=block)
    else:
        layers = states.flatten(1, 2).to(gradient.dtype)
        blocks = gradient.t().expand(len(layers), -1, -1) @ layers  # (N, C, D)
        result.unflatten(1, (len(layers), -1)).copy_(blocks.transpose(0, 1))
    return result


def _dots(states: Tensor, gradient: Tensor) -> Tensor:
    """Dot product of every state with one tensor: (N, B, T, D), (B, T, D) → (N,)."""
    if not states.is_cuda and not frames_axis(states):
        return states.flatten(1) @ gradient.flatten()
    # One product a frame, then a sum: a single product has N results only, too few to be spread
    # over a GPU.
    frames = states.movedim(0, -2).flatten(0, 1)
    products = torch.bmm(frames, gradient.flatten(0, 1)[..., None])
    return products.sum((0, 2), dtype=sum_type(states.dtype))
