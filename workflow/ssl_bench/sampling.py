"""Which utterances make which batch.

Utterances are put into buckets of like length; a batch holds ``batch_seconds`` of one bucket. Which
bucket each step takes is the same for every seed, and a seed decides which of the bucket's
utterances: so runs of several seeds can be trained together, each on exactly the batches it would
see alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Batch:
    """Rows of one step, (R, B), and the width in frames that fits them all."""

    rows: np.ndarray
    width: int


def training_batches(
    rows: np.ndarray,
    frames: np.ndarray,
    batch_frames: int,
    buckets: int,
    steps: int,
    seeds: list[int],
) -> Iterator[Batch]:
    """Yield ``steps`` batches for R runs, one a seed.

    Args:
        rows: (N,) rows that may be drawn.
        frames: (N,) their lengths.
        batch_frames: frames a batch may hold, padding included.
        buckets: how many buckets of equal total length to make.
        steps: how many batches to yield.
        seeds: (R,) seed of each run's order; equal seeds give equal batches.
    """
    groups = _buckets(rows, frames, buckets)
    widths = [int(max(frames[np.isin(rows, group)])) for group in groups]
    sizes = [max(1, min(len(g), batch_frames // w)) for g, w in zip(groups, widths, strict=True)]
    share = np.array([len(g) / size for g, size in zip(groups, sizes, strict=True)])
    schedule = np.random.default_rng(0).choice(len(groups), size=steps, p=share / share.sum())
    orders = {
        seed: [_Shuffled(g, np.random.default_rng((seed, b))) for b, g in enumerate(groups)]
        for seed in dict.fromkeys(seeds)
    }
    for bucket in schedule:
        drawn = {seed: order[bucket].take(sizes[bucket]) for seed, order in orders.items()}
        yield Batch(np.stack([drawn[seed] for seed in seeds]), widths[bucket])


def evaluation_batches(rows: np.ndarray, frames: np.ndarray, batch_frames: int) -> Iterator[Batch]:
    """Yield every row once, (B,), longest first."""
    order = rows[np.argsort(-frames, kind="stable")]
    length = np.sort(frames, kind="stable")[::-1]
    start = 0
    while start < len(order):
        size = max(1, batch_frames // int(length[start]))
        yield Batch(order[start : start + size], int(length[start]))
        start += size


class _Shuffled:
    """Draws without replacement, in a new order at every pass."""

    def __init__(self, rows: np.ndarray, rng: np.random.Generator) -> None:
        self.rows, self.rng, self.queue = rows, rng, rows[:0]

    def take(self, count: int) -> np.ndarray:
        if len(self.queue) < count:
            fresh = self.rng.permutation(self.rows)
            held = np.isin(fresh, self.queue)
            # what is left of the last pass comes first; nothing is twice in a batch
            self.queue = np.concatenate([self.queue, fresh[~held], fresh[held]])
        taken, self.queue = self.queue[:count], self.queue[count:]
        return taken


def _buckets(rows: np.ndarray, frames: np.ndarray, buckets: int) -> list[np.ndarray]:
    order = np.argsort(frames, kind="stable")
    place = np.cumsum(frames[order]) / frames.sum()
    label = np.minimum((place * buckets).astype(int), buckets - 1)
    groups = [rows[order[label == b]] for b in range(buckets)]
    return [group for group in groups if len(group)]
