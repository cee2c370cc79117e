"""What a training costs: seconds, energy and memory, over all of its starts."""

import resource
import time
from typing import Any, NamedTuple

import torch

from ssl_bench.energy import Meter
from ssl_bench.provenance import commit


class Spent(NamedTuple):
    """What some starts of a training took together."""

    seconds: float
    joules: float | None
    """None where a start had no counter."""
    peak: int
    """Bytes: of the GPU's memory, or resident where a CPU trains."""
    commits: tuple[str, ...]
    """The commit of each start."""


class Spending:
    """Counts what a stage spends on a device from now on, and what earlier starts of it spent.

    A start that was killed counts up to its last checkpoint, for nothing else is left of it.
    """

    def __init__(self, device: torch.device) -> None:
        self._device, self._meter, self._began = device, Meter(device), time.monotonic()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        self._earlier = Spent(0.0, 0.0, 0, ())

    def resume(self, kept: dict[str, Any]) -> None:
        """Take up what a checkpoint holds of :meth:`now`; of several the latest counts."""
        earlier = Spent(**{**kept, "commits": tuple(kept["commits"])})
        self._earlier = max(self._earlier, earlier, key=lambda spent: spent.seconds)

    def now(self) -> Spent:
        """Return what all starts together have spent so far."""
        seconds, joules, peak, commits = self._earlier
        own = self._meter.joules()
        return Spent(
            seconds + time.monotonic() - self._began,
            None if joules is None or own is None else joules + own,
            max(peak, self._peak()),
            (*commits, commit()),
        )

    def _peak(self) -> int:
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
