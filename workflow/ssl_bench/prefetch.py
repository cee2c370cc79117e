"""The next batches of states are read while the last one is computed with.

Where states come from disk, threads read coming batches into the host's memory. On a GPU that
memory is pinned, and copied on a stream of its own while the GPU computes; the threads themselves
never call CUDA, so a step may be recorded as a graph meanwhile. Where states are in memory already,
or encoded by the device that trains, there is nothing to wait for, and batches are made when asked
for.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ssl_bench.features import Features
from ssl_bench.fitting import fitting
from ssl_bench.reading import Packed, pack
from ssl_bench.sampling import Batch

AHEAD = 2
"""Batches that are read beforehand, each by a thread."""

Ready = tuple[Batch, Tensor, Tensor]


class Reader(Protocol):
    """A group of runs that reads batches."""

    layers: np.ndarray | None
    """(R,) the single layer of each run, or None."""

    def own(self, batch: Batch) -> Batch:
        """Return what it reads of a batch that is made for all groups."""


def readings(
    features: Features, batches: Iterable[Batch], readers: Sequence[Reader]
) -> Iterator[list[Ready]]:
    """Yield for every batch what each group reads of it: its rows, states and lengths.

    States of one group that lie on disk are read ahead. What several groups read is encoded once,
    and gathered once where they read the same.
    """
    if len(readers) == 1:
        (reader,) = readers
        for ready in prefetch(features, map(reader.own, batches), reader.layers):
            yield [ready]
        return
    for batch in batches:
        page = features.page(batch)
        once: dict[Any, tuple[Tensor, Tensor]] = {}
        reads = []
        for reader in readers:
            own, layers = reader.own(batch), reader.layers
            key = own.rows.shape, own.rows.tobytes(), layers is None or layers.tobytes()
            if key not in once:
                once[key] = page.batch(own.rows, own.width, layers, own.starts)
            reads.append((own, *once[key]))
        yield reads


def prefetch(
    features: Features, batches: Iterable[Batch], layers: np.ndarray | None = None
) -> Iterator[Ready]:
    """Yield every batch with its states and lengths, as :meth:`Features.batch` returns them.

    Args:
        features: the stream.
        batches: is read up to ``AHEAD`` batches ahead.
        layers: (R,) the single layer of each run, or None.

    Raises:
        StudyError: as :meth:`Features.batch`.
    """
    if features.host is None or not features.host.slow:
        for batch in batches:
            page = features.page(batch)
            yield batch, *page.batch(batch.rows, batch.width, layers, batch.starts)
    elif features.device.type == "cpu":
        yield from read_ahead(features, batches, layers)
    else:
        yield from copied_ahead(features, batches, layers)


def read_ahead(
    features: Features, batches: Iterable[Batch], layers: np.ndarray | None
) -> Iterator[Ready]:
    """Let a thread make the batches, where the device that trains is the host."""
    with ThreadPoolExecutor(1) as pool:
        waiting: deque[tuple[Batch, Future[tuple[Tensor, Tensor]]]] = deque()
        try:
            for batch in batches:
                arguments = (batch.rows, batch.width, layers, batch.starts)
                waiting.append((batch, pool.submit(features.batch, *arguments)))
                if len(waiting) > 1:
                    first, made = waiting.popleft()
                    yield first, *made.result()
            while waiting:
                first, made = waiting.popleft()
                yield first, *made.result()
        finally:
            pool.shutdown(cancel_futures=True)


def copied_ahead(
    features: Features, batches: Iterable[Batch], layers: np.ndarray | None
) -> Iterator[Ready]:
    """Read into pinned memory by threads, copy on a side stream, gather on the device.

    What arrives is used by the stream that is current when it is yielded. On a device that is no
    GPU the same is done without pinned memory and streams.
    """
    lane = _Lane(features, layers)
    with ThreadPoolExecutor(AHEAD) as pool:
        try:
            for batch in batches:
                lane.start(batch, pool)
                if len(lane.waiting) > AHEAD:
                    yield lane.finish()
            while lane.waiting:
                yield lane.finish()
        finally:
            pool.shutdown(cancel_futures=True)


@dataclass
class _Load:
    """A batch on its way from disk to the device."""

    batch: Batch
    wanted: Packed
    held: np.ndarray
    staging: Tensor
    read: Future[None]
    arrived: Tensor | None = None
    event: torch.cuda.Event | None = None


class _Lane:
    """The way from disk to the device, with room for ``AHEAD`` batches and the one that is used."""

    def __init__(self, features: Features, layers: np.ndarray | None) -> None:
        self.features, self.layers = features, layers
        self.gpu = features.device.type == "cuda"
        self.side = torch.cuda.Stream(features.device) if self.gpu else None
        self.waiting: deque[_Load] = deque()
        self._used: deque[_Load] = deque()
        """Loads from whose host memory a copy may still be under way."""
        self._free: list[Tensor] = []

    def start(self, batch: Batch, pool: ThreadPoolExecutor) -> None:
        """Let a thread read a batch."""
        features, host = self.features, self.features.host
        assert host is not None
        held = features.held(batch.rows, batch.width, batch.starts)
        wanted = pack(batch.rows, held, batch.starts, self.layers)
        with fitting(features, batch.rows.shape, batch.width, self.layers):
            staging = self._take(wanted)
        read = pool.submit(wanted.read, host, staging)
        self.waiting.append(_Load(batch, wanted, held, staging, read))

    def finish(self) -> Ready:
        """Return the oldest batch; begin to copy those behind it that have been read."""
        load = self.waiting.popleft()
        width = load.batch.width
        with fitting(self.features, load.batch.rows.shape, width, self.layers):
            for one in (load, *self.waiting):
                if one.arrived is None and (one is load or one.read.done()):
                    self._copy(one)
            assert load.arrived is not None
            if load.event is not None:
                stream = torch.cuda.current_stream(self.features.device)
                stream.wait_event(load.event)
                load.arrived.record_stream(stream)
            states, lengths = self.features.unpack(
                load.wanted, load.arrived, load.held, width, self.layers
            )
        load.arrived = None
        self._used.append(load)
        return load.batch, states, lengths

    def _copy(self, load: _Load) -> None:
        load.read.result()
        flat = load.staging[: load.wanted.frames + 1]
        flat[-1] = 0
        if self.side is None:
            load.arrived = flat.clone()
            return
        with torch.cuda.stream(self.side):
            load.arrived = flat.to(self.features.device, non_blocking=True)
            load.event = torch.cuda.Event()
            load.event.record(self.side)

    def _take(self, wanted: Packed) -> Tensor:
        """Return host memory that nothing is copied from any more, or new memory."""
        while self._used and (self._used[0].event is None or self._used[0].event.query()):
            self._free.append(self._used.popleft().staging)
        if not self._free and len(self._used) > 1:
            done = self._used.popleft()
            assert done.event is not None
            done.event.synchronize()
            self._free.append(done.staging)
        fit = [n for n, one in enumerate(self._free) if len(one) > wanted.frames]
        if fit:
            return self._free.pop(fit[0])
        if self._free:
            self._free.pop(0)  # the larger one takes its place
        return self.features.staging(wanted, pinned=self.gpu)
