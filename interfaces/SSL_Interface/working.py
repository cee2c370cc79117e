"""How states lie in memory, and in which type their products are taken."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

SMALL = 50_000
"""Values of a layer below which calls cost more time than the memory that they save."""


def small(layers: Tensor) -> bool:
    """Whether layers (N, …) are so small that torch's own few calls are the fastest."""
    return layers[0].numel() < SMALL


def frames_axis(states: Tensor) -> int:
    """Where to move the first axis of states (N, B, T, D) so that they are in memory's order.

    0 where they lie layer by layer; 2 where they lie frame by frame, which most kernels would
    answer with a copy.
    """
    return 2 if states.movedim(0, 2).is_contiguous() and not states.is_contiguous() else 0


def traced() -> bool:
    """Whether ``torch.compile`` or ``torch.export`` is looking on."""
    return torch.compiler.is_compiling()


def casts(tensor: Tensor) -> bool:
    """Whether autocast is on and sees to the type of its products."""
    device = tensor.device.type
    wide = device == "meta" or tensor.dtype == torch.float64
    return not wide and torch.is_autocast_enabled(device)


def working_type(tensor: Tensor) -> torch.dtype:
    """The type of its products: autocast's where that is on, else its own."""
    return torch.get_autocast_dtype(tensor.device.type) if casts(tensor) else tensor.dtype


def in_working_type(states: Tensor) -> Tensor:
    """Cast states once to the type of their products, rather than in each product."""
    return states if traced() else states.to(working_type(states))


def side_by_side(states: Tensor) -> Tensor:
    """Lay the N states of each frame side by side: (N, B, T, D) → (B, T, N·D) in one pass at most.

    A view where they lie so already; else a copy, which under autocast casts as well.
    """
    frames = states.movedim(0, -2)
    if not traced():
        frames = frames.to(working_type(states), memory_format=torch.contiguous_format)
    return frames.flatten(-2)


def sum_type(dtype: torch.dtype) -> torch.dtype:
    """The type in which products of this type are added up."""
    return torch.float32 if dtype in (torch.bfloat16, torch.float16) else dtype


def no_autocast(tensor: Tensor) -> AbstractContextManager:
    """Leave autocast, for code that has chosen its types."""
    device = tensor.device.type
    if device == "meta" or not torch.is_autocast_enabled(device):
        return nullcontext()
    return torch.autocast(device, enabled=False)


def accumulate(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add left @ right to total, which may be of a wider type.

    A GPU adds into the wider type itself; ``benchmarks/schedules.py`` compares it with the other.
    """
    if total.dtype == left.dtype:
        torch.addmm(total, left, right, out=total)
    elif total.is_cuda:
        torch.addmm(total, left, right, out_dtype=total.dtype, out=total)
    else:
        total.add_(left @ right)


def vmapped(
    plain: Callable[..., Any], info: Any, in_dims: tuple[Any, ...], inputs: Sequence[Any]
) -> tuple[Any, int]:
    """Fill a Function's ``vmap`` with its plain form: all runs at once, autograd goes through."""
    return torch.vmap(plain, in_dims, randomness=info.randomness)(*inputs), 0
