"""The recurrence of a bidirectional LSTM on a GPU: one kernel forward, one backward.

cuDNN launches a kernel for each frame and direction, which leaves a small LSTM waiting. Here one
program takes some utterances in one direction through all their frames, and its recurrent weights
stay on the chip. What does not recur, such as the products with inputs, is left to torch.

Sums are taken in fp32, in an order that depends on shapes only, and so is the cell kept: the same
bits every time.
"""

from typing import Any

import torch
import triton  # type: ignore[import-untyped]
import triton.language as tl  # type: ignore[import-untyped]
from torch import Tensor
from torch.autograd.function import once_differentiable

ROWS = 16
"""Utterances of a program: the fewest that a product on tensor cores has."""


class Recurrence(torch.autograd.Function):
    """Both directions through all frames, the second from each utterance's own last frame."""

    @staticmethod
    def forward(ctx: Any, projected: Tensor, weights: Tensor, lengths: Tensor) -> Tensor:
        """Return the hidden states (B, T, 2, H), zero beyond each length, in ``projected``'s type.

        Args:
            ctx: torch's.
            projected: (B, T, 2, 4, H) inputs of the gates (in, forget, cell, out) with all biases.
            weights: (2, 4, H, H) recurrent weights, in the same type.
            lengths: (B,) frames of each utterance, at most T.
        """
        projected, weights, lengths = (x.contiguous() for x in (projected, weights, lengths))
        batch, frames, _, _, width = projected.shape
        hidden = projected.new_zeros(batch, frames, 2, width)
        before, gates = torch.zeros_like(hidden), torch.empty_like(projected)
        cells = torch.empty_like(hidden, dtype=torch.float32)
        with torch.cuda.device_of(projected):
            _forward[_grid(batch)](
                *(projected, weights, lengths, hidden, before, gates, cells, batch, frames),
                **_constants(width, projected.dtype),
            )
        ctx.save_for_backward(weights, lengths, before, gates, cells)
        return hidden

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        """Return the gradients of ``projected`` and ``weights``."""
        weights, lengths, before, gates, cells = ctx.saved_tensors
        batch, frames, _, _, width = gates.shape
        found = torch.zeros_like(gates)
        with torch.cuda.device_of(gates):
            _backward[_grid(batch)](
                *(gradient.contiguous(), weights, lengths, gates, cells, found, batch, frames),
                **_constants(width, gates.dtype),
            )
        rows, hidden = found.flatten(0, 1), before.flatten(0, 1)
        ways = [rows[:, way].flatten(1).T @ hidden[:, way] for way in (0, 1)]
        return found, torch.stack(ways).view_as(weights), None


def _constants(hidden: int, dtype: torch.dtype) -> dict[str, int]:
    """What the kernels are compiled for; units are a power of two."""
    size = max(16, triton.next_power_of_2(hidden))
    warps = size // 16 if dtype.itemsize == 2 else size // 8
    return {"HIDDEN": hidden, "SIZE": size, "BLOCK": ROWS, "num_warps": warps}


def _grid(batch: int) -> tuple[int, int]:
    return triton.cdiv(batch, ROWS), 2


@triton.jit
def _tanh(x):  # type: ignore[no-untyped-def]
    return 2 * tl.sigmoid(2 * x) - 1


@triton.jit
def _four(first, apart: tl.constexpr, mask, kind: tl.constexpr):  # type: ignore[no-untyped-def]
    """Load what belongs to the four gates; zero where the mask is false."""
    return (
        tl.load(first, mask, 0.0).to(kind),
        tl.load(first + apart, mask, 0.0).to(kind),
        tl.load(first + 2 * apart, mask, 0.0).to(kind),
        tl.load(first + 3 * apart, mask, 0.0).to(kind),
    )


@triton.jit
def _store_four(first, apart: tl.constexpr, mask, a, b, c, d):  # type: ignore[no-untyped-def]
    kind: tl.constexpr = first.dtype.element_ty
    tl.store(first, a.to(kind), mask)
    tl.store(first + apart, b.to(kind), mask)
    tl.store(first + 2 * apart, c.to(kind), mask)
    tl.store(first + 3 * apart, d.to(kind), mask)


@triton.jit
def _at(step, way, length, start):  # type: ignore[no-untyped-def]
    """Where utterances (BLOCK,) are in a direction's step, counted in hidden states of one."""
    return (start + tl.where(way == 0, step, length - 1 - step)) * 2 + way


@triton.jit(do_not_specialize=["batch", "frames"])
def _forward(  # type: ignore[no-untyped-def]
    projected,
    weights,
    lengths,
    hidden,
    before,
    gates,
    cells,
    batch,
    frames,
    HIDDEN: tl.constexpr,
    SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    way = tl.program_id(1)
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    length = tl.load(lengths + row, row < batch, 0).to(tl.int32)
    start = row.to(tl.int64) * frames
    kind: tl.constexpr = projected.dtype.element_ty
    # Units that there are not have weights and inputs of zero, and so a cell of zero.
    unit = tl.arange(0, SIZE)
    real = (unit < HIDDEN)[None, :]
    square: tl.constexpr = HIDDEN * HIDDEN
    corner = weights + way * 4 * square + unit[None, :] * HIDDEN + unit[:, None]  # (from, to)
    known = real & (unit < HIDDEN)[:, None]
    to_in, to_forget, to_cell, to_out = _four(corner, square, known, kind)

    now = tl.zeros((BLOCK, SIZE), kind)
    cell = tl.zeros((BLOCK, SIZE), tl.float32)
    own = (length > 0)[:, None] & real
    place = _at(0, way, length, start)[:, None] * HIDDEN
    a, b, c, d = _four(projected + place * 4 + unit[None, :], HIDDEN, own, kind)
    for step in range(tl.max(length)):
        into, forget, new, out = a, b, c, d
        one, four = place + unit[None, :], place * 4 + unit[None, :]
        # What the next step reads is asked for now, since it takes as long as a step to come.
        still = (step + 1 < length)[:, None] & real
        place = _at(step + 1, way, length, start)[:, None] * HIDDEN
        a, b, c, d = _four(projected + place * 4 + unit[None, :], HIDDEN, still, kind)
        into = tl.sigmoid(tl.dot(now, to_in, into.to(tl.float32), input_precision="ieee"))
        forget = tl.sigmoid(tl.dot(now, to_forget, forget.to(tl.float32), input_precision="ieee"))
        new = _tanh(tl.dot(now, to_cell, new.to(tl.float32), input_precision="ieee"))
        out = tl.sigmoid(tl.dot(now, to_out, out.to(tl.float32), input_precision="ieee"))
        cell = forget * cell + into * new
        now = (out * _tanh(cell)).to(kind)
        tl.store(hidden + one, now, own)
        tl.store(before + place + unit[None, :], now, still)
        tl.store(cells + one, cell, own)
        _store_four(gates + four, HIDDEN, own, into, forget, new, out)
        own = still


@triton.jit(do_not_specialize=["batch", "frames"])
def _backward(  # type: ignore[no-untyped-def]
    gradient,
    weights,
    lengths,
    gates,
    cells,
    found,
    batch,
    frames,
    HIDDEN: tl.constexpr,
    SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    way = tl.program_id(1)
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    length = tl.load(lengths + row, row < batch, 0).to(tl.int32)
    start = row.to(tl.int64) * frames
    kind: tl.constexpr = gates.dtype.element_ty
    unit = tl.arange(0, SIZE)
    real = (unit < HIDDEN)[None, :]
    square: tl.constexpr = HIDDEN * HIDDEN
    corner = weights + way * 4 * square + unit[:, None] * HIDDEN + unit[None, :]  # (to, from)
    known = real & (unit < HIDDEN)[:, None]
    to_in, to_forget, to_cell, to_out = _four(corner, square, known, kind)

    hidden_back = tl.zeros((BLOCK, SIZE), tl.float32)
    cell_back = tl.zeros((BLOCK, SIZE), tl.float32)
    longest = tl.max(length)
    for number in range(longest):
        step = longest - 1 - number
        # Where an utterance has ended gates are zero, and so is all that is made of them.
        own = (step < length)[:, None] & real
        place = _at(step, way, length, start)[:, None] * HIDDEN
        one, four = place + unit[None, :], place * 4 + unit[None, :]
        into, forget, new, out = _four(gates + four, HIDDEN, own, tl.float32)
        cell = _tanh(tl.load(cells + one, own, 0.0))
        earlier = _at(step - 1, way, length, start)[:, None] * HIDDEN + unit[None, :]
        earlier = tl.load(cells + earlier, own & (step > 0), 0.0)
        hidden_back += tl.load(gradient + one, own, 0.0).to(tl.float32)
        cell_back += hidden_back * out * (1 - cell * cell)
        into_back = (cell_back * new * into * (1 - into)).to(kind)
        forget_back = (cell_back * earlier * forget * (1 - forget)).to(kind)
        new_back = (cell_back * into * (1 - new * new)).to(kind)
        out_back = (hidden_back * cell * out * (1 - out)).to(kind)
        cell_back *= forget
        _store_four(found + four, HIDDEN, own, into_back, forget_back, new_back, out_back)
        # Two sums, which tensor cores take side by side.
        one_half = tl.dot(into_back, to_in, input_precision="ieee")
        other_half = tl.dot(new_back, to_cell, input_precision="ieee")
        one_half = tl.dot(forget_back, to_forget, one_half, input_precision="ieee")
        other_half = tl.dot(out_back, to_out, other_half, input_precision="ieee")
        hidden_back = one_half + other_half
