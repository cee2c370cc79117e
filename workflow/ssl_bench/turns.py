"""Which interfaces are trained at once over one reading of the stream."""

import math
from collections.abc import Iterator

from ssl_bench.features import SHARE, Features, gpu_memory
from ssl_bench.fine_tuning import Waveforms
from ssl_bench.recipe import Training
from ssl_bench.runs import Run

STACKED = 72
"""Most runs of one interface that are stacked, and of several that read states that are held."""
WORKING = 2.5
"""Bytes that a run takes for a byte of its batch's states, for each shape, whose steps are
recorded."""


def turns(
    features: Features, training: Training, runs: dict[str, list[Run]]
) -> Iterator[dict[str, list[Run]]]:
    """Divide interfaces into those that are trained at once, each with its runs.

    All are, where states are encoded for every batch. A GPU that holds the states takes as
    many as it has room for: they read the same batches, and one loss is computed for all of them.
    On a CPU, or from a disk, that would save nothing, and one at a time needs less memory.
    """
    most = at_once(features, training)
    turn: dict[str, list[Run]] = {}
    for interface, own in runs.items():
        if turn and most is not None and sum(map(len, turn.values())) + len(own) > most:
            yield turn
            turn = {}
        turn[interface] = own
    if turn:
        yield turn


def at_once(features: Features, training: Training) -> int | None:
    """Return how many runs of several interfaces may be trained at once; None: any number."""
    if isinstance(features, Waveforms):
        return 1
    if features.live or training.encodes:
        return None
    held = features.device.type == "cuda" and features.host is None
    if not held:
        return 1
    room = (1 - SHARE) * gpu_memory()
    each = WORKING * training.shapes * _batch_bytes(features, training)
    return max(1, min(STACKED, int(room / each)))


def _batch_bytes(features: Features, training: Training) -> float:
    """Return the size of the states that one run reads in a step."""
    seconds = training.batch_seconds
    if seconds is None:
        assert training.batch_utterances is not None
        longest = float(features.frames.max()) * features.seconds_per_frame
        seconds = training.batch_utterances * min(longest, training.crop_seconds or longest)
    state = features.layers * features.dim * features.dtype.itemsize
    return seconds / features.seconds_per_frame * state


def parts(features: Features, runs: list[Run]) -> list[list[Run]]:
    """Divide the runs of one interface evenly into those that are stacked."""
    most = 1 if isinstance(features, Waveforms) else STACKED
    size = math.ceil(len(runs) / math.ceil(len(runs) / most))
    return [runs[start : start + size] for start in range(0, len(runs), size)]
