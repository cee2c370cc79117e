"""When the kernels of ``kernels`` may be used instead of torch's own: always optional."""

import importlib
import subprocess
import warnings
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import Parameter

from SSL_Interface.working import traced

DEVICES = ("cuda",)
"""Types of device; Triton's interpreter, for tests, takes others."""
TYPES = (torch.bfloat16, torch.float16, torch.float32)
MOST_LAYERS = 64
"""Kernels are compiled for a number of layers, with a line for each."""


@dataclass(frozen=True)
class Tiling:
    """How the kernels cut up their work; ``benchmarks/schedules.py`` compares others."""

    sum_block: int = 1024
    """Features that a program of the forward pass makes."""
    sum_warps: int = 4
    dots_tile: int = 8192
    """Values, layers × positions, that a program of the backward pass takes at a time."""
    dots_warps: int = 4
    programs: int = 4
    """Programs of the backward pass for each multiprocessor."""


TILING = Tiling()


class Layout(NamedTuple):
    """Where a kernel finds the states of R runs, (R, N, B, T, D) or the same (N, B, T, D) for all.

    ``strides`` are those of runs, layers and frames. ``width`` is D where frames have others
    between them; else 0, as a layer is one block. ``large`` says that int32 cannot count places.
    """

    strides: tuple[int, int, int]
    width: int
    large: bool


def layout(states: Tensor) -> Layout | None:
    """Find how states lie: layer by layer or frame by frame, else None."""
    batch, time, dim = states.shape[-3:]
    of_layer, of_batch, of_time, of_channel = states.stride()[-4:]
    if dim > 1 and of_channel != 1:
        return None
    if batch > 1 and time > 1 and of_batch != time * of_time:
        return None
    of_frame = of_time if time > 1 else of_batch if batch > 1 else dim
    of_run = states.stride(0) if states.ndim == 5 else 0
    frames = batch * time
    large = max(frames * of_frame, frames * dim) >= 2**31 - 2**16
    return Layout((of_run, of_layer, of_frame), dim if of_frame != dim else 0, large)


def kernels_for(logits: Tensor, states: Tensor, *others: Tensor) -> ModuleType | None:
    """Return the module ``kernels`` if it may be used with these tensors.

    That is on a GPU that Triton can compile for, for states in a type of ``TYPES`` and a known
    layout, outside transformations (``vmap``, ``compile``, fake tensors).
    """
    if states.device.type not in DEVICES or traced() or states.dtype not in TYPES:
        return None
    if not 0 < logits.shape[-1] <= MOST_LAYERS or states.numel() == 0 or layout(states) is None:
        return None
    for tensor in (logits, states, *others):
        if tensor.device != states.device or not _plain(tensor):
            return None
    return _working(states.device, states.dtype)


def _plain(tensor: Tensor) -> bool:
    """Whether it is one piece of memory: no subclass, nothing that stands for a batch."""
    functorch = torch._C._functorch
    stands_for = functorch.is_functorch_wrapped_tensor, functorch.is_legacy_batchedtensor
    return type(tensor) in (Tensor, Parameter) and not any(test(tensor) for test in stands_for)


@cache
def _working(device: torch.device, dtype: torch.dtype) -> ModuleType | None:
    """Import and try the kernels: Triton may be missing, or a C compiler, or not know the GPU."""
    try:
        kernels = importlib.import_module("SSL_Interface.kernels")
        errors = importlib.import_module("triton.errors")
    except ImportError:
        return None
    logits, states = torch.zeros(2, device=device), torch.ones(2, 1, 1, 16, device=device)
    states = states.to(dtype)
    try:
        kernels.softmax_sum_backward(logits, states, kernels.softmax_sum(logits, states))
    except (errors.TritonError, RuntimeError, OSError, subprocess.SubprocessError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        warnings.warn(
            f"SSL_Interface: Triton does not work on {device}, so weighted sums are torch's, "
            f"which take longer: {reason[0]}",
            stacklevel=2,
        )
        return None
    return kernels
