"""A convolution over the layer axis, with ReLU, as one matrix product for each output position.

Layer axes are short, so what a window shares with the padding is much of the work (4 of 25 products
at 13 layers): it is left out. Rows hold the positions of a frame side by side, so that a window is
one vector of k·D, and each product is written where the next convolution reads it. As in
``products``, the plain form is what ``vmap`` and compilers take.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from SSL_Interface.working import accumulate, sum_type, traced, vmapped, working_type

Windows = list[tuple[int, int, int]]
"""For each output position: first and last + 1 real position, and where the window starts."""
ALIGNMENT = {"cuda": 16}
"""Bytes of which a row of outputs is a multiple: for others, of ⌊1024 / 3⌋ channels say, cuBLAS has
kernels of older GPUs alone. Channels of zeros fill rows up."""


def window_products(rows: Tensor, weight: Tensor, bias: Tensor, windows: Windows) -> Tensor:
    """ReLU(Conv1d) over the positions of every frame.

    Args:
        rows: (B, T, positions · D).
        weight: (C, D, k), as Conv1d keeps it.
        bias: (C,).
        windows: one for each output position.

    Returns:
        (B, T, len(windows) · C), under autocast in its type.
    """
    if traced():
        return plain_windows(rows, weight, bias, windows)
    return _WindowProducts.apply(rows, weight, bias, windows)


def plain_windows(rows: Tensor, weight: Tensor, bias: Tensor, windows: Windows) -> Tensor:
    """``window_products`` as linear maps, concatenated."""
    dtype, dim = working_type(rows), weight.shape[1]
    taps, bias = weight.transpose(1, 2).flatten(1).to(dtype), bias.to(dtype)
    outputs = [
        F.linear(rows[..., _span(dim, first, last)], taps[:, _span(dim, first, last, start)], bias)
        for first, last, start in windows
    ]
    return torch.cat(outputs, -1).relu()


class _WindowProducts(torch.autograd.Function):
    @staticmethod
    def forward(rows: Tensor, weight: Tensor, bias: Tensor, windows: Windows) -> Tensor:
        dtype, dim = working_type(rows), weight.shape[1]
        frames, taps = rows.to(dtype).flatten(0, 1), _tap_major(weight, dtype)
        channels, width = len(weight), len(taps)
        bias = bias.to(dtype)
        if width > channels:
            bias = F.pad(bias, (0, width - channels))
        outputs = frames.new_empty(len(frames), len(windows), width)
        for output, (first, last, start) in zip(outputs.unbind(1), windows, strict=True):
            block = taps[:, _span(dim, first, last, start)]
            torch.addmm(bias, frames[:, _span(dim, first, last)], block.t(), out=output)
        filled = outputs.relu_() if width == channels else outputs[..., :channels].relu()
        return filled.flatten(1).unflatten(0, rows.shape[:2])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        rows, weight, bias, ctx.windows = inputs
        ctx.save_for_backward(rows, weight, bias, output)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight, bias, output = ctx.saved_tensors
        for_rows = for_weight = for_bias = None
        split, channels = (len(ctx.windows), len(weight)), len(weight)
        width = _aligned(channels, output.dtype, output.device)
        passed = output.new_empty(*output.shape[:2], len(ctx.windows), width)
        passed[..., channels:] = 0
        torch.ops.aten.threshold_backward(
            gradient.unflatten(-1, split),
            output.unflatten(-1, split),
            0,
            grad_input=passed[..., :channels],
        )
        passed = passed.flatten(0, 1)
        if ctx.needs_input_grad[0]:
            for_rows = _backward_rows(passed, weight, ctx.windows, rows.shape[-1])
            for_rows = for_rows.view(rows.shape).to(rows.dtype)
        if ctx.needs_input_grad[1]:
            frames = rows.to(output.dtype).flatten(0, 1)
            for_weight = _backward_weight(passed, frames, weight, ctx.windows)
        if ctx.needs_input_grad[2]:
            for_bias = passed.flatten(0, 1).sum(0, dtype=bias.dtype)[:channels]
        return for_rows, for_weight, for_bias, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> tuple[Tensor, int]:
        rows, weight, bias, windows = inputs

        def plain(rows: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
            return plain_windows(rows, weight, bias, windows)

        return vmapped(plain, info, in_dims[:3], (rows, weight, bias))


def _backward_rows(passed: Tensor, weight: Tensor, windows: Windows, width: int) -> Tensor:
    """Gradients (M, windows, aligned C) back to the rows (M, width)."""
    dim, taps = weight.shape[1], _tap_major(weight, passed.dtype)
    rows, done = passed.new_zeros(len(passed), width), 0
    for part, (first, last, start) in zip(passed.unbind(1), windows, strict=True):
        # What an earlier window wrote is added to; the rest is written for the first time.
        fresh = min(max(done, first), last)
        if first < fresh:
            block = taps[:, _span(dim, first, fresh, start)]
            accumulate(rows[:, _span(dim, first, fresh)], part, block)
        if fresh < last:
            block = taps[:, _span(dim, fresh, last, start)]
            torch.mm(part, block, out=rows[:, _span(dim, fresh, last)])
        done = max(done, last)
    return rows


def _backward_weight(passed: Tensor, frames: Tensor, weight: Tensor, windows: Windows) -> Tensor:
    """Gradients (M, windows, aligned C) and the rows (M, width) that were read → (C, D, k)."""
    channels, dim, kernel = weight.shape
    total = frames.new_zeros(passed.shape[-1], kernel * dim, dtype=sum_type(frames.dtype))
    for part, (first, last, start) in zip(passed.unbind(1), windows, strict=True):
        block = total[:, _span(dim, first, last, start)]
        accumulate(block, part.t(), frames[:, _span(dim, first, last)])
    taps = total[:channels].unflatten(1, (kernel, dim))
    return torch.empty_like(weight).copy_(taps.transpose(1, 2))


def _tap_major(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Lay out and cast a Conv1d weight in one pass: (C, D, k) → (aligned C, k·D)."""
    channels, dim, kernel = weight.shape
    taps = weight.new_empty(_aligned(channels, dtype, weight.device), kernel, dim, dtype=dtype)
    taps[:channels].copy_(weight.transpose(1, 2))
    taps[channels:] = 0
    return taps.flatten(1)


def _aligned(channels: int, dtype: torch.dtype, device: torch.device) -> int:
    """Return how many channels a row of outputs has room for."""
    unit = max(1, ALIGNMENT.get(device.type, 1) // dtype.itemsize)
    return -(-channels // unit) * unit


def _span(dim: int, first: int, last: int, start: int = 0) -> slice:
    """Columns of the positions from first to last, counted from a start."""
    return slice((first - start) * dim, (last - start) * dim)
