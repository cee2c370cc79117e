"""Sums and matrix products over layers, with their backward passes written out.

What plain tensor code costs here is memory traffic: copies of the states into another layout or
type, products kept only to be added, gradients padded with zeros. Each function below is one
``torch.autograd.Function`` that reads the states where they lie. Its plain form, given beside it,
is the same mathematics: it is what runs under ``torch.func.vmap`` (several runs at once), and what
``torch.compile`` and ``torch.export`` see, since a compiler schedules plain code by itself.

Under autocast the products are in the autocast type with sums in fp32, as torch's own are. Weight
gradients are added up in fp32 on a GPU, and rounded once.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

Windows = list[tuple[int, int, int]]
"""For each output position: first and last + 1 real position, and where the window starts."""


def layer_sum(weights: Tensor, states: Tensor) -> Tensor:
    """Sum states (N, B, T, D) with weights (N,) in one pass → (B, T, D), in the states' type."""
    return plain_sum(weights, states) if _traced() else _LayerSum.apply(weights, states)


def layer_products(states: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Project states (N, B, T, D), side by side, with weight (C, N·D) and bias (C,) → (B, T, C)."""
    if _traced():
        return plain_products(states, weight, bias)
    return _LayerProducts.apply(states, weight, bias)


def window_products(rows: Tensor, weight: Tensor, bias: Tensor, windows: Windows) -> Tensor:
    """ReLU of a Conv1d over the positions of every frame.

    Args:
        rows: (B, T, positions · D), the positions of a frame side by side.
        weight: (C, D, k), as Conv1d keeps it.
        bias: (C,).
        windows: of each output position; what they share with the padding is left out.

    Returns:
        (B, T, len(windows) · C).
    """
    if _traced():
        return plain_windows(rows, weight, bias, windows)
    return _WindowProducts.apply(rows, weight, bias, windows)


def plain_sum(weights: Tensor, states: Tensor) -> Tensor:
    """``layer_sum`` as one product."""
    return (weights.to(states.dtype) @ states.flatten(1)).unflatten(0, states.shape[1:])


def plain_products(states: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``layer_products`` as one linear map of the concatenated states."""
    return F.linear(states.movedim(0, -2).flatten(-2), weight, bias)


def plain_windows(rows: Tensor, weight: Tensor, bias: Tensor, windows: Windows) -> Tensor:
    """``window_products`` as a linear map for each position."""
    dim, taps = weight.shape[1], weight.transpose(1, 2).flatten(1)  # (C, k·D), tap-major
    outputs = [
        F.linear(rows[..., _span(dim, first, last)], taps[:, _span(dim, first, last, start)], bias)
        for first, last, start in windows
    ]
    return torch.cat(outputs, -1).relu()


def side_by_side(states: Tensor) -> Tensor:
    """Lay the N states of each frame side by side: (N, B, T, D) → (B, T, N·D) in one pass at most.

    A view where they lie so already; else a copy, which under autocast casts as well.
    """
    frames = states.movedim(0, -2)
    if not _traced():
        frames = frames.to(_working_type(states), memory_format=torch.contiguous_format)
    return frames.flatten(-2)


class _LayerSum(torch.autograd.Function):
    """Forward and backward read the states once each."""

    @staticmethod
    def forward(weights: Tensor, states: Tensor) -> Tensor:
        weights = weights.to(states.dtype)
        frames = states.movedim(0, -2)
        with _no_autocast(states):
            if frames.is_contiguous():
                return weights @ frames
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
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> tuple[Tensor, int]:
        return _vmapped(plain_sum, info, in_dims, inputs)


class _LayerProducts(torch.autograd.Function):
    """States that lie layer by layer are multiplied there, and the products added up in place."""

    @staticmethod
    def forward(states: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        dtype = _working_type(states)
        blocks = weight.to(dtype)
        with _no_autocast(states):
            if states.movedim(0, -2).is_contiguous():
                return plain_products(states.to(dtype), blocks, bias.to(dtype))
            total = bias.to(_sum_type(dtype)).repeat(states[0, ..., 0].numel(), 1)
            for state, block in zip(states, blocks.chunk(len(states), 1), strict=True):
                _accumulate(total, state.flatten(0, 1).to(dtype), block.t())
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
            layers = states.flatten(1, 2).to(gradient.dtype)
            blocks = gradient.t().expand(len(layers), -1, -1) @ layers  # (N, C, D)
            for_weight = torch.empty_like(weight)
            for_weight.unflatten(1, (len(states), -1)).copy_(blocks.transpose(0, 1))
        if ctx.needs_input_grad[2]:
            for_bias = gradient.sum(0, dtype=bias.dtype)
        return for_states, for_weight, for_bias

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> tuple[Tensor, int]:
        return _vmapped(plain_products, info, in_dims, inputs)


class _WindowProducts(torch.autograd.Function):
    """One product a position, written where the next convolution reads it."""

    @staticmethod
    def forward(rows: Tensor, weight: Tensor, bias: Tensor, windows: Windows) -> Tensor:
        dtype, dim = _working_type(rows), weight.shape[1]
        frames, taps, shift = rows.to(dtype).flatten(0, 1), _tap_major(weight, dtype), bias.to(dtype)
        outputs = frames.new_empty(len(frames), len(windows), len(weight))
        for output, (first, last, start) in zip(outputs.unbind(1), windows, strict=True):
            block = taps[:, _span(dim, first, last, start)].t()
            torch.addmm(shift, frames[:, _span(dim, first, last)], block, out=output)
        return outputs.relu_().flatten(1).unflatten(0, rows.shape[:2])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        rows, weight, bias, ctx.windows = inputs
        ctx.save_for_backward(rows, weight, bias, output)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight, bias, output = ctx.saved_tensors
        channels, dim, _ = weight.shape
        for_rows = for_weight = for_bias = None
        passed = torch.empty_like(output, memory_format=torch.contiguous_format)
        torch.ops.aten.threshold_backward(gradient, output, 0, grad_input=passed)
        passed = passed.flatten(0, 1).unflatten(1, (-1, channels))
        frames, taps = rows.to(output.dtype).flatten(0, 1), None
        if ctx.needs_input_grad[0]:
            taps, for_rows, done = _tap_major(weight, output.dtype), torch.zeros_like(frames), 0
            for part, (first, last, start) in zip(passed.unbind(1), ctx.windows, strict=True):
                # What an earlier window has written is added to, the rest written for the first time.
                cut = min(max(done, first), last)
                if first < cut:
                    block = taps[:, _span(dim, first, cut, start)]
                    _accumulate(for_rows[:, _span(dim, first, cut)], part, block)
                if cut < last:
                    block = taps[:, _span(dim, cut, last, start)]
                    torch.mm(part, block, out=for_rows[:, _span(dim, cut, last)])
                done = max(done, last)
            for_rows = for_rows.view(rows.shape).to(rows.dtype)
        if ctx.needs_input_grad[1]:
            total = frames.new_zeros(channels, weight[0].numel(), dtype=_sum_type(output.dtype))
            for part, (first, last, start) in zip(passed.unbind(1), ctx.windows, strict=True):
                block = total[:, _span(dim, first, last, start)]
                _accumulate(block, part.t(), frames[:, _span(dim, first, last)])
            for_weight = torch.empty_like(weight)
            for_weight.copy_(total.unflatten(1, (-1, dim)).transpose(1, 2))
        if ctx.needs_input_grad[2]:
            for_bias = passed.flatten(0, 1).sum(0, dtype=bias.dtype)
        return for_rows, for_weight, for_bias, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> tuple[Tensor, int]:
        *tensors, windows = inputs
        in_dims = in_dims[:-1]
        return _vmapped(lambda *given: plain_windows(*given, windows), info, in_dims, tensors)


def _dots(states: Tensor, gradient: Tensor) -> Tensor:
    """Dot product of every state with one tensor: (N, B, T, D), (B, T, D) → (N,)."""
    frames = states.movedim(0, -2)
    if not states.is_cuda and not frames.is_contiguous():
        return states.flatten(1) @ gradient.flatten()
    # One product a frame, then a sum: a single one would have N results only, too few to be spread
    # over a GPU.
    products = torch.bmm(frames.flatten(0, 1), gradient.flatten(0, 1)[..., None])
    return products.sum((0, 2), dtype=_sum_type(states.dtype))


def _accumulate(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add left @ right to total, which may be of a wider type."""
    if total.dtype == left.dtype:
        torch.addmm(total, left, right, out=total)
    elif total.is_cuda:
        torch.addmm(total, left, right, out_dtype=total.dtype, out=total)
    else:
        total.add_(left @ right)


def _tap_major(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Lay out and cast a Conv1d weight in one pass: (C, D, k) → (C, k·D)."""
    taps = weight.new_empty(weight.shape[0], weight.shape[2], weight.shape[1], dtype=dtype)
    return taps.copy_(weight.transpose(1, 2)).flatten(1)


def _span(dim: int, first: int, last: int, start: int = 0) -> slice:
    """Columns of the positions from first to last, counted from a start."""
    return slice((first - start) * dim, (last - start) * dim)


def _working_type(tensor: Tensor) -> torch.dtype:
    """The type of its products: autocast's where that is on, else its own."""
    device = tensor.device.type
    if device == "meta" or tensor.dtype == torch.float64 or not torch.is_autocast_enabled(device):
        return tensor.dtype
    return torch.get_autocast_dtype(device)


def _sum_type(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype in (torch.bfloat16, torch.float16) else dtype


def _no_autocast(tensor: Tensor) -> AbstractContextManager:
    device = tensor.device.type
    return nullcontext() if device == "meta" else torch.autocast(device, enabled=False)


def _traced() -> bool:
    return torch.compiler.is_compiling()


def _vmapped(
    plain: Callable[..., Tensor], info: Any, in_dims: tuple[Any, ...], inputs: Sequence[Any]
) -> tuple[Tensor, int]:
    """Run the plain form for all runs at once; autograd goes through it."""
    return torch.vmap(plain, in_dims, randomness=info.randomness)(*inputs), 0
