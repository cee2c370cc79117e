"""Triton kernels of the softmax-weighted sum, for states on a GPU: one reading forward, one back.

Torch has no call for either: as matrix products both have one result for each row or column, and
reach half of a copy's bandwidth or less. Triton comes with torch's CUDA build; ``fusing`` says when
these kernels are used, ``products`` has the same in torch.

Each kernel serves R runs in one launch. Sums are taken in fp32, in an order that depends on shapes
and the number of multiprocessors only: a step gives the same bits every time.
"""

from functools import cache
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from SSL_Interface import fusing
from SSL_Interface.fusing import Layout


def softmax_sum(logits: Tensor, states: Tensor) -> Tensor:
    """Sum the layers with the softmax of logits.

    Args:
        logits: (N,), or (R, N) for R runs.
        states: (N, B, T, D), read by all runs, or (R, N, B, T, D). In a type of ``fusing.TYPES``
            and a layout that ``fusing.layout`` knows.

    Returns:
        (B, T, D) or (R, B, T, D), in the states' type.
    """
    where, sizes, runs = _where(states), states.shape[-3:], logits.shape[:-1].numel()
    total = states.new_empty(logits.shape[:-1] + sizes)
    count, tiling = sizes.numel(), fusing.TILING
    grid = (runs * triton.cdiv(count, tiling.sum_block),)
    with torch.cuda.device_of(states):
        _sum[grid](
            logits.contiguous(),
            states,
            total,
            runs,
            count,
            *where.strides,
            **_constants(where, logits),
            BLOCK=tiling.sum_block,
            num_warps=tiling.sum_warps,
        )
    return total


def softmax_sum_backward(logits: Tensor, states: Tensor, gradient: Tensor) -> Tensor:
    """Gradient for the logits, in their shape and type, from one for the result; rest as above."""
    where, tiling = _where(states), fusing.TILING
    runs, layers = logits.shape[:-1].numel(), logits.shape[-1]
    count, rows = states.shape[-3:].numel(), triton.next_power_of_2(layers)
    block = max(tiling.dots_tile // rows, 16)
    programs = max(tiling.programs * _multiprocessors(states.device) // runs, 1)
    programs = min(programs, triton.cdiv(count, block))
    parts = torch.empty(programs, runs, rows, dtype=torch.float32, device=states.device)
    logits = logits.contiguous()
    result = torch.empty_like(logits)
    with torch.cuda.device_of(states):
        _dots[(runs * programs,)](
            gradient.contiguous(),
            states,
            parts,
            runs,
            count,
            *where.strides,
            **_constants(where, logits),
            ROWS=rows,
            BLOCK=block,
            num_warps=tiling.dots_warps,
        )
        _softmax_backward[(runs,)](
            logits, parts, result, runs, programs, LAYERS=layers, ROWS=rows, BLOCK=64
        )
    return result


def _where(states: Tensor) -> Layout:
    found = fusing.layout(states)
    if found is None:
        raise ValueError(f"states: expected a layout that fusing knows, found {states.stride()}")
    return found


def _constants(where: Layout, logits: Tensor) -> dict[str, Any]:
    """What kernels are compiled for."""
    return {
        "LAYERS": logits.shape[-1],
        "WIDTH": where.width,
        "INDEX": tl.int64 if where.large else tl.int32,
    }


@cache
def _multiprocessors(device: torch.device) -> int:
    # Triton's interpreter, for tests, runs on a CPU.
    cuda = device.type == "cuda"
    return torch.cuda.get_device_properties(device).multi_processor_count if cuda else 1


@triton.jit
def _sum(
    logits,
    states,
    total,
    runs,
    count,
    run_stride,
    layer_stride,
    frame_stride,
    LAYERS: tl.constexpr,
    WIDTH: tl.constexpr,
    INDEX: tl.constexpr,
    BLOCK: tl.constexpr,
):
    # Runs that read the same states are neighbours, so that all but one find them in the cache.
    run = tl.program_id(0) % runs
    index = (tl.program_id(0) // runs).to(INDEX) * BLOCK + tl.arange(0, BLOCK)
    inside = index < count
    place = index
    if WIDTH > 0:
        place = index // WIDTH * frame_stride + index % WIDTH
    logits += run * LAYERS
    largest = tl.load(logits).to(tl.float32)
    for layer in tl.static_range(1, LAYERS):
        largest = tl.maximum(largest, tl.load(logits + layer).to(tl.float32))
    shares = 0.0
    values = tl.zeros((BLOCK,), tl.float32)
    rows = states + run.to(tl.int64) * run_stride + place
    for layer in tl.static_range(LAYERS):
        share = tl.exp(tl.load(logits + layer).to(tl.float32) - largest)
        shares += share
        values += share * tl.load(rows, mask=inside, other=0.0).to(tl.float32)
        rows += layer_stride
    values /= shares
    total += run.to(tl.int64) * count + index
    tl.store(total, values.to(total.dtype.element_ty), mask=inside)


@triton.jit
def _dots(
    gradient,
    states,
    parts,
    runs,
    count,
    run_stride,
    layer_stride,
    frame_stride,
    LAYERS: tl.constexpr,
    WIDTH: tl.constexpr,
    INDEX: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    run = tl.program_id(0) % runs
    part = tl.program_id(0) // runs
    step = tl.num_programs(0) // runs * BLOCK
    layers = tl.arange(0, ROWS)
    real = layers < LAYERS
    rows = states + run.to(tl.int64) * run_stride + layers.to(tl.int64) * layer_stride
    gradient += run.to(tl.int64) * count
    # One product a place, added up over places of the loop; across threads only once, at its end.
    sums = tl.zeros((ROWS, BLOCK), tl.float32)
    for start in range(part.to(INDEX) * BLOCK, count, step):
        index = start + tl.arange(0, BLOCK)
        inside = index < count
        place = index
        if WIDTH > 0:
            place = index // WIDTH * frame_stride + index % WIDTH
        mask = real[:, None] & inside[None, :]
        values = tl.load(rows[:, None] + place[None, :], mask=mask, other=0.0)
        back = tl.load(gradient + index, mask=inside, other=0.0)
        sums += values.to(tl.float32) * back.to(tl.float32)[None, :]
    tl.store(parts + (part * runs + run) * ROWS + layers, tl.sum(sums, 1))


@triton.jit
def _softmax_backward(
    logits,
    parts,
    result,
    runs,
    number,
    LAYERS: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    run = tl.program_id(0)
    layers = tl.arange(0, ROWS)
    real = layers < LAYERS
    sums = tl.zeros((BLOCK, ROWS), tl.float32)
    for start in range(0, number, BLOCK):
        some = start + tl.arange(0, BLOCK)
        places = (some[:, None] * runs + run) * ROWS + layers[None, :]
        sums += tl.load(parts + places, mask=(some < number)[:, None], other=0.0)
    dots = tl.sum(sums, 0)
    values = tl.load(logits + run * LAYERS + layers, mask=real, other=float("-inf"))
    values = values.to(tl.float32)
    shares = tl.exp(values - tl.max(values, 0))
    shares /= tl.sum(shares, 0)
    found = shares * (dots - tl.sum(shares * dots, 0))
    tl.store(result + run * LAYERS + layers, found.to(result.dtype.element_ty), mask=real)
