"""Say what would fit where a batch does not fit in memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import psutil
import torch

from ssl_bench.errors import StudyError
from ssl_bench.progress import amount

if TYPE_CHECKING:
    from ssl_bench.features import Features

SAFE = 0.8
"""Share of the free memory that a batch is advised to take."""


@contextmanager
def fitting(
    features: "Features", shape: tuple[int, ...], width: int, layer: np.ndarray | None
) -> Iterator[None]:
    """Turn running out of memory into a line that says what a batch takes and what would fit.

    Args:
        features: the stream.
        shape: of the batch's rows, (B,) or (R, B).
        width: T in frames.
        layer: the single layer of each run, or None.

    Raises:
        StudyError: the memory is full.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch's own on a GPU is a RuntimeError
        if not _full(error):
            raise
        raise StudyError(too_large(features, shape, width, layer)) from error


def _full(error: Exception) -> bool:
    kinds = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, kinds) or "can't allocate memory" in str(error)


def too_large(
    features: "Features", shape: tuple[int, ...], width: int, layer: np.ndarray | None
) -> str:
    """Say what a batch takes, what is free, and how many seconds of audio would fit."""
    *stacked, utterances = shape
    runs, depth = stacked[0] if stacked else 1, features.layers if layer is None else 1
    frame = runs * depth * features.dim * features.dtype.itemsize
    size, free = utterances * width * frame, free_memory(features.device)
    seconds = width * features.seconds_per_frame
    fits = int(SAFE * free / frame) * features.seconds_per_frame
    advice = f"batch_seconds: {fits:.0f} would fit"
    if fits < seconds:
        advice = "not one utterance would fit; train fewer runs at once (seeds, learning rates)"
    elif size <= SAFE * free:  # the states fit, what is made of them does not
        advice = f"try batch_seconds: {max(seconds, utterances * seconds / 2):.0f}"
    each = f"{runs} runs × " if runs > 1 else ""
    return (
        f"memory of the {features.device.type}: a batch of {each}{utterances} utterances × "
        f"{seconds:.1f} s ({utterances * seconds:.0f} s with padding) has {amount(size)} of "
        f"states, {amount(free)} are free; {advice}"
    )


def free_memory(device: torch.device) -> int:
    """Return the bytes that a batch may still take."""
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + cached
    return int(psutil.virtual_memory().available)
