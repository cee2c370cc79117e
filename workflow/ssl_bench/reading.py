"""Batches of states from the host's memory or from shards, copied block by block.

An utterance's frames lie side by side, so it is one copy: as fast as memory, or, from a file that
is not in the memory yet, as fast as the disk. Nothing here calls CUDA, so that a thread may read
while another one records a graph.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ssl_bench.shards import SEEN_AS, Reader, raw


class Host(Protocol):
    """States that the host can read."""

    slow: bool
    """Whether a read may wait for a disk, and is better done ahead."""

    def read(self, row: int, first: int, layers: np.ndarray | None, out: np.ndarray) -> None:
        """Copy frames of an utterance from ``first`` on into (n, k, D); None: all layers."""


class Held:
    """States in the host's memory: (frames, L, D), and (N,) where each utterance begins."""

    slow = False

    def __init__(self, flat: Tensor, starts: Tensor) -> None:
        self._flat, self._starts = raw(flat), starts.numpy()

    def read(self, row: int, first: int, layers: np.ndarray | None, out: np.ndarray) -> None:
        """See :class:`Host`."""
        begin = self._starts[row] + first
        held = self._flat[begin : begin + len(out)]
        if layers is None:
            out[:] = held
        else:
            for place, layer in enumerate(layers):
                out[:, place] = held[:, layer]


class Stored:
    """States in shards: of each utterance (N,) the shard, and at which of its frames it begins."""

    slow = True

    def __init__(self, readers: Sequence[Reader], shard: np.ndarray, start: np.ndarray) -> None:
        self._readers, self._shard, self._start = readers, shard, start

    def read(self, row: int, first: int, layers: np.ndarray | None, out: np.ndarray) -> None:
        """See :class:`Host`."""
        self._readers[self._shard[row]].read(int(self._start[row]) + first, layers, out)


class Extended:
    """States whose last frames are repeated beyond those that are kept of each utterance, (N,)."""

    def __init__(self, host: Host, kept: np.ndarray) -> None:
        self._host, self._kept, self.slow = host, kept, host.slow

    def read(self, row: int, first: int, layers: np.ndarray | None, out: np.ndarray) -> None:
        """See :class:`Host`."""
        begin = min(first, self._kept[row] - 1)
        there = min(len(out), self._kept[row] - begin)
        self._host.read(row, begin, layers, out[:there])
        out[there:] = out[there - 1]


def fresh(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Return new memory of the host; numpy asks for huge pages, which come faster, torch not."""
    return torch.from_numpy(np.empty(shape, SEEN_AS[dtype.itemsize])).view(dtype)


def padded(
    host: Host,
    rows: np.ndarray,
    held: np.ndarray,
    firsts: np.ndarray | None,
    layer: np.ndarray | None,
    out: Tensor,
) -> None:
    """Read a batch, zeros behind each utterance.

    Args:
        host: what is read.
        rows: (B,) or (R, B) utterances.
        held: of the same shape, how many frames of each.
        firsts: of the same shape, the first of them; None: 0.
        layer: (R,) the layer that each run wants; None: all.
        out: (…, T, L or 1, D): is filled.
    """
    view = raw(out)
    for place in np.ndindex(rows.shape):
        first = 0 if firsts is None else int(firsts[place])
        only = None if layer is None else layer[place[0] : place[0] + 1]
        host.read(int(rows[place]), first, only, view[place][: held[place]])
        view[place][held[place] :] = 0


@dataclass(frozen=True)
class Packed:
    """What of an utterance a batch wants, each once: for a device that gathers by itself."""

    rows: np.ndarray
    firsts: np.ndarray
    counts: np.ndarray
    """(U,) utterances, their first frame, how many frames."""
    layers: np.ndarray | None
    """(k,) which layers, in order; None: all."""
    begins: np.ndarray
    """Of the batch's shape: at which of the packed frames each of its utterances begins."""

    @property
    def frames(self) -> int:
        """In all."""
        return int(self.counts.sum())

    def read(self, host: Host, out: Tensor) -> None:
        """Fill the first frames of (frames + 1, L or k, D)."""
        view, at = raw(out), 0
        for row, first, count in zip(self.rows, self.firsts, self.counts, strict=True):
            host.read(int(row), int(first), self.layers, view[at : at + count])
            at += count


def pack(
    rows: np.ndarray, held: np.ndarray, firsts: np.ndarray | None, layer: np.ndarray | None
) -> Packed:
    """List what a batch wants, each once; arguments as of :func:`padded`."""
    first = np.zeros_like(rows) if firsts is None else firsts
    keys, place, inverse = np.unique(
        np.stack([rows.ravel(), first.ravel()]), axis=1, return_index=True, return_inverse=True
    )
    counts = held.ravel()[place]
    begins = np.cumsum([0, *counts[:-1]])[inverse.ravel()].reshape(rows.shape)
    return Packed(keys[0], keys[1], counts, None if layer is None else np.unique(layer), begins)
