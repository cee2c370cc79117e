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

from SSL_Interface import fusing
from SSL_Interface.fusing import kernels_for
from SSL_Interface.working import (
    accumulate,
    frames_axis,
    no_autocast,
    small,
    sum_type,
    traced,
    vmapped,
    working_type,
)


def softmax_sum(logits: Tensor, states: Tensor) -> Tensor:
    """Sum states (N, B, T, D) with the softmax of logits (N,) → (B, T, D), in the states' type.

    Forward and backward read the states once each; on a GPU by the kernels of ``kernels``, where
    they run. Autocast changes nothing, as with torch's sums.
    """
    if traced() or not _written_out(states):
        return plain_softmax_sum(logits, states)
    return _SoftmaxSum.apply(logits, states)


def _written_out(states: Tensor) -> bool:
    """Whether to sum by ``_SoftmaxSum``.

    Off a GPU torch's own product reads states that lie layer by layer as often, in fewer calls.
    """
    return states.device.type in fusing.DEVICES or frames_axis(states) != 0


def plain_softmax_sum(logits: Tensor, states: Tensor) -> Tensor:
    """``softmax_sum`` as one product."""
    return plain_sum(logits.softmax(0), states)


def plain_sum(weights: Tensor, states: Tensor) -> Tensor:
    """Sum states (N, B, T, D) with weights (N,), as one product."""
    with no_autocast(states):
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
    if traced() or (small(states) and not states.is_cuda):
        return plain_products(states, weight, bias)
    return _LayerProducts.apply(states, weight, bias)


def plain_products(states: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``layer_products`` as one linear map of the concatenated states."""
    dtype = working_type(states)
    return F.linear(states.movedim(0, -2).flatten(-2), weight.to(dtype), bias.to(dtype))


class _SoftmaxSum(torch.autograd.Function):
    """Of one run; of R runs at once, logits (R, N), only where the kernels run."""

    @staticmethod
    def forward(logits: Tensor, states: Tensor) -> Tensor:
        kernels = kernels_for(logits, states)
        if kernels is not None:
            return kernels.softmax_sum(logits, states)
        with no_autocast(states):
            weights = logits.softmax(0).to(states.dtype)
            if frames_axis(states):
                return weights @ states.movedim(0, -2)
            return plain_sum(weights, states)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        logits, states = ctx.saved_tensors
        for_logits = for_states = None
        if ctx.needs_input_grad[0]:
            for_logits = _backward_logits(logits, states, gradient)
        if ctx.needs_input_grad[1]:
            weights = logits.softmax(0).to(states.dtype)
            for_states = weights[:, None, None, None] * gradient
        return for_logits, for_states

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Tensor) -> tuple[Tensor, int]:
        logits, states = (
            tensor if dim is None else tensor.movedim(dim, 0)
            for tensor, dim in zip(inputs, in_dims, strict=True)
        )
        # Products read shared states once for all runs; and they give states their gradient.
        own = None not in in_dims and logits.ndim == 2 and not states.requires_grad
        if own and kernels_for(logits, states) is not None:
            return _SoftmaxSum.apply(logits, states), 0
        return vmapped(plain_softmax_sum, info, in_dims, inputs)


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


def _backward_logits(logits: Tensor, states: Tensor, gradient: Tensor) -> Tensor:
    """Gradient for the logits, (N,) or (R, N), from one for the sum."""
    kernels = kernels_for(logits, states, gradient)
    if kernels is not None:
        return kernels.softmax_sum_backward(logits, states, gradient)
    # Several runs come here where many gradients are asked for at once.
    dots = _dots(states, gradient) if logits.ndim == 1 else torch.vmap(_dots)(states, gradient)
    weights = logits.softmax(-1)
    dots = dots.to(weights.dtype)
    return torch.ops.aten._softmax_backward_data(dots, weights, -1, logits.dtype)


def _dots(states: Tensor, gradient: Tensor) -> Tensor:
    """Dot product of every state with one tensor: (N, B, T, D), (B, T, D) → (N,)."""
    # One product a frame, then a sum: a single product has N results only, too few to be spread
    # over a GPU.
    frames = states.movedim(0, -2).flatten(0, 1)
    products = torch.bmm(frames, gradient.reshape(-1, gradient.shape[-1], 1))
    return products.sum((0, 2), dtype=sum_type(states.dtype))
