"""Which utterances make which batch.

Utterances are put into buckets of like length; a batch holds a number of seconds, or of utterances,
of one bucket. Which bucket each step takes is the same for every seed, and a seed decides which of
the bucket's utterances: so runs of several seeds can be trained together, each on exactly the
batches it would see alone. A bucket's batches all have one shape, so a step can be recorded.
:mod:`ssl_bench.neighbours` makes the batches of the published recipes.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Batch:
    """Rows of one step, (R, B), and the width in frames that fits them all.

    ``starts`` (R, B) is the first frame of each row's random crop, or its first sample where
    waveforms are cropped; None where there are no crops.
    ``weights`` (R, B) is each row's share in the loss, None where all are equal: a row of no weight
    fills up a batch that is smaller than others of its shape.
    ``groups`` of equally many rows, one after the other, are each a published batch, of those whose
    gradients are accumulated; the last may be smaller.
    """

    rows: np.ndarray
    width: int
    starts: np.ndarray | None = None
    weights: np.ndarray | None = None
    groups: int = 1


def training_batches(
    rows: np.ndarray,
    frames: np.ndarray,
    batch_frames: int | None,
    buckets: int,
    steps: int,
    seeds: list[int],
    *,
    utterances: int | None = None,
    crop: int | None = None,
    spare: np.ndarray | None = None,
    weights: np.ndarray | None = None,
) -> Iterator[Batch]:
    """Yield ``steps`` batches for R runs, one a seed.

    Args:
        rows: (N,) rows that may be drawn.
        frames: (N,) their lengths.
        batch_frames: frames a batch may hold, padding included, or None.
        buckets: how many buckets of equal total length to make.
        steps: how many batches to yield.
        seeds: (R,) seed of each run's order; equal seeds give equal batches.
        utterances: how many utterances a batch holds, where ``batch_frames`` is None. Buckets of
            fewer are joined; only a corpus of fewer has smaller batches.
        crop: most frames of an utterance; a longer one is cut to them, anywhere.
        spare: (N,) the last place where a crop may begin; None: where ``crop`` frames are left.
        weights: (N,) how likely each row is drawn, with replacement; without them every row is
            drawn once a pass.
    """
    used = frames if crop is None else np.minimum(frames, crop)
    groups = _buckets(used, buckets, utterances or 1)
    widths = [int(used[group].max()) for group in groups]
    sizes = [
        min(len(group), utterances or max(1, (batch_frames or 0) // width))
        for group, width in zip(groups, widths, strict=True)
    ]
    mass = np.ones(len(rows)) if weights is None else weights
    share = np.array([mass[g].sum() / size for g, size in zip(groups, sizes, strict=True)])
    schedule = np.random.default_rng(0).choice(len(groups), size=steps, p=share / share.sum())
    orders = {
        seed: [
            Shuffled(group, rng) if weights is None else Weighted(group, weights[group], rng)
            for b, group in enumerate(groups)
            for rng in [np.random.default_rng((seed, b))]
        ]
        for seed in dict.fromkeys(seeds)
    }
    crops = None if crop is None else Crops(list(orders), len(groups))
    if crop is not None and spare is None:
        spare = np.maximum(frames - crop, 0)
    for bucket in schedule:
        width = widths[bucket]
        drawn = {seed: order[bucket].take(sizes[bucket]) for seed, order in orders.items()}
        starts = None
        if crops is not None and spare is not None:
            first = crops.draw({seed: spare[own] for seed, own in drawn.items()})
            starts = np.stack([first[seed] for seed in seeds])
        yield Batch(np.stack([rows[drawn[seed]] for seed in seeds]), width, starts)


def balanced(classes: list[tuple[int, ...]]) -> np.ndarray:
    """Return a weight for each utterance, (N,), that makes all classes equally likely."""
    _, index, count = np.unique(np.array(classes), axis=0, return_inverse=True, return_counts=True)
    return 1.0 / count[index.ravel()]


def evaluation_batches(rows: np.ndarray, frames: np.ndarray, batch_frames: int) -> Iterator[Batch]:
    """Yield every row once, (B,), longest first."""
    order = rows[np.argsort(-frames, kind="stable")]
    length = np.sort(frames, kind="stable")[::-1]
    start = 0
    while start < len(order):
        size = max(1, batch_frames // int(length[start]))
        yield Batch(order[start : start + size], int(length[start]))
        start += size


def published_batches(
    groups: Iterable[np.ndarray], rows: np.ndarray, frames: np.ndarray
) -> Iterator[Batch]:
    """Yield a batch (B,) of each group of places in ``rows`` (N,), whose lengths are ``frames``."""
    for places in groups:
        yield Batch(rows[places], int(frames[places].max()))


class Crops:
    """Draws where utterances are cut, from a stream of numbers of each seed's own.

    Args:
        seeds: each once.
        stream: sets the numbers apart from those that utterances are drawn with.
    """

    def __init__(self, seeds: list[int], stream: int) -> None:
        self.rngs = {seed: np.random.default_rng((seed, stream, 1)) for seed in seeds}

    def draw(self, spare: dict[int, np.ndarray]) -> dict[int, np.ndarray]:
        """Return where a crop of each seed's utterances begins, of the last places (B,) for it."""
        # as random.randint(0, length - crop): both ends may be drawn
        return {seed: self.rngs[seed].integers(0, most + 1) for seed, most in spare.items()}


class Shuffled:
    """Draws without replacement, in a new order at every pass."""

    def __init__(self, rows: np.ndarray, rng: np.random.Generator) -> None:
        self.rows, self.rng, self.queue = rows, rng, rows[:0]

    def take(self, count: int) -> np.ndarray:
        """Return the next rows, (count,), or all of them if there are fewer."""
        if len(self.queue) < count:
            fresh = self.rng.permutation(self.rows)
            held = np.isin(fresh, self.queue)
            # what is left of the last pass comes first; nothing is twice in a batch
            self.queue = np.concatenate([self.queue, fresh[~held], fresh[held]])
        taken, self.queue = self.queue[:count], self.queue[count:]
        return taken


class Weighted:
    """Draws with replacement, each row as often as its weight says."""

    def __init__(self, rows: np.ndarray, weights: np.ndarray, rng: np.random.Generator) -> None:
        self.rows, self.rng, self.ends = rows, rng, np.cumsum(weights / weights.sum())

    def take(self, count: int) -> np.ndarray:
        """Return as many rows, (count,)."""
        place = np.searchsorted(self.ends, self.rng.random(count), side="right")
        return self.rows[np.minimum(place, len(self.rows) - 1)]


def _buckets(frames: np.ndarray, buckets: int, least: int) -> list[np.ndarray]:
    """Return the places of each bucket's utterances; ``least`` at least, if there are so many."""
    order = np.argsort(frames, kind="stable")
    place = np.cumsum(frames[order]) / frames.sum()
    label = np.minimum((place * buckets).astype(int), buckets - 1)
    groups: list[np.ndarray] = []
    for group in (order[label == b] for b in range(buckets)):
        if groups and (len(group) < least or len(groups[-1]) < least):
            groups[-1] = np.concatenate([groups[-1], group])
        elif len(group):
            groups.append(group)
    return groups
