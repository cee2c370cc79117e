"""Adam and AdamW for rows of parameters in one pass over memory: a GPU's ``Runs.update``.

A dozen kernels of torch read and write each of the rows some thirty times; this one reads four and
writes three. The arithmetic is the same, in fp32.
"""

from functools import cache

import torch
import triton  # type: ignore[import-untyped]
import triton.language as tl  # type: ignore[import-untyped]
from torch import Tensor

BLOCK = 1024


def update_rows(
    rows: Tensor,
    grads: Tensor,
    first: Tensor,
    second: Tensor,
    steps: Tensor,
    rates: Tensor,
    scale: Tensor,
    shrink: Tensor,
    taken: Tensor,
    decay: float,
    decoupled: bool,
) -> None:
    """Take one step in place.

    Args:
        rows: (R, P) float32 parameters, ``grads``, ``first`` and ``second`` (moments) like them.
        grads: gradients, not clipped.
        first: mean of gradients.
        second: mean of their squares.
        steps: (R,) how many steps each run has taken with this one.
        rates: (R,) learning rate of each run in this step.
        scale: (P,) how many times faster than the rest a parameter learns.
        shrink: (R,) what gradients are multiplied by, to clip them.
        taken: (R,) bool; other rows stay as they are, and so do their moments.
        decay: weight decay.
        decoupled: AdamW's rather than Adam's.
    """
    runs, count = rows.shape
    biases = torch.stack([1 - 0.9**steps, (1 - 0.999**steps).sqrt()], 1).float()
    _kernel[(triton.cdiv(count, BLOCK), runs)](
        *(rows, grads, first, second, biases, rates, scale, shrink, taken),
        count,
        decay,
        COUPLED=bool(decay) and not decoupled,
        DECOUPLED=bool(decay) and decoupled,
        SIZE=BLOCK,
    )


def prepare(count: int, decay: float, decoupled: bool, device: torch.device) -> None:
    """Compile and load the kernel for rows of ``count``: a recording cannot."""
    _try(16 if count % 16 == 0 else 17, decay, decoupled, device)


@cache
def _try(count: int, decay: float, decoupled: bool, device: torch.device) -> None:
    one, row = torch.ones(1, device=device), torch.ones(1, count, device=device)
    arguments = row, row, row, row.clone(), one.double(), one, row[0], one, one.bool()
    update_rows(*arguments, decay, decoupled)


@triton.jit
def _kernel(  # type: ignore[no-untyped-def]
    rows,
    grads,
    first,
    second,
    biases,
    rates,
    scale,
    shrink,
    taken,
    count,
    decay,
    COUPLED: tl.constexpr,
    DECOUPLED: tl.constexpr,
    SIZE: tl.constexpr,
):
    run = tl.program_id(1)
    column = tl.program_id(0) * SIZE + tl.arange(0, SIZE)
    inside = (column < count) & (tl.load(taken + run) != 0)
    place = run.to(tl.int64) * count + column
    value = tl.load(rows + place, inside, 0.0)
    found = tl.load(grads + place, inside, 0.0) * tl.load(shrink + run)
    if COUPLED:
        found += decay * value
    mean = tl.load(first + place, inside, 0.0)
    mean += 0.1 * (found - mean)
    square = tl.load(second + place, inside, 0.0) * 0.999 + 0.001 * found * found
    tl.store(first + place, mean, inside)
    tl.store(second + place, square, inside)
    rate = tl.load(rates + run) * tl.load(scale + column, inside, 0.0)
    first_bias, second_bias = tl.load(biases + 2 * run), tl.load(biases + 2 * run + 1)
    change = rate * (mean / first_bias) / (tl.sqrt(square) / second_bias + 1e-8)
    if DECOUPLED:
        change += rate * decay * value
    tl.store(rows + place, value - change, inside)
