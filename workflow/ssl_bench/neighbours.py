"""Batches of the published recipes: at random, or of utterances that lie beside each other.

A pass goes through groups of utterances, in an order of each seed's own: a group is one utterance,
or neighbours in an order of lengths. A batch is as many groups as it has room for. It is padded to
the narrowest of a few widths that holds every seed's utterances, so that a step can be recorded:
runs of several seeds train on exactly the utterances that each would see alone, and padding changes
no result but for rounding and where dropout falls.
"""

from collections.abc import Iterator
from typing import Literal

import numpy as np

from ssl_bench.sampling import Batch, Crops, Shuffled, Weighted

Way = Literal["random", "sorted", "sliding"]


def grouped_batches(
    rows: np.ndarray,
    frames: np.ndarray,
    groups: np.ndarray,
    each: int,
    widths: int,
    steps: int,
    seeds: list[int],
    *,
    crop: int | None = None,
    weights: np.ndarray | None = None,
) -> Iterator[Batch]:
    """Yield ``steps`` batches for R runs, one a seed.

    Args:
        rows: (N,) rows that may be drawn.
        frames: (N,) their lengths.
        groups: (G, n) places among the N of the utterances of every group, as :func:`groups_of`
            returns them. Each group is drawn once a pass.
        each: how many groups a batch has; fewer only where a pass has fewer.
        widths: how many widths there may be at most.
        steps: how many batches to yield.
        seeds: (R,) seed of each run's order; equal seeds give equal batches.
        crop: most frames of an utterance; a longer one is cut to them, anywhere.
        weights: (G,) how likely each group is drawn, with replacement; without them every group is
            drawn once a pass.
    """
    used = frames if crop is None else np.minimum(frames, crop)
    each = min(each, len(groups))
    distinct = list(dict.fromkeys(seeds))
    edges = _widths(used[groups].max(1), each * len(distinct), widths)
    every = np.arange(len(groups))
    orders = {
        seed: Shuffled(every, rng) if weights is None else Weighted(every, weights, rng)
        for seed in distinct
        for rng in [np.random.default_rng((seed, 0))]
    }
    crops = None if crop is None else Crops(crop, distinct, 1)
    for _ in range(steps):
        drawn = {seed: groups[order.take(each)].ravel() for seed, order in orders.items()}
        longest = max(int(used[own].max()) for own in drawn.values())
        width = int(edges[np.searchsorted(edges, longest)])
        starts = None if crops is None else crops.draw({s: frames[own] for s, own in drawn.items()})
        yield Batch(
            np.stack([rows[drawn[seed]] for seed in seeds]),
            width,
            None if starts is None else np.stack([starts[seed] for seed in seeds]),
        )


def groups_of(way: Way, lengths: np.ndarray, size: int) -> np.ndarray:
    """Return the groups that a pass goes through, (G, n), n being ``size`` or all N if fewer.

    ``random`` has N groups of one. The others order utterances from the longest to the shortest,
    equal ones as they come. ``sorted`` cuts this order into groups, as s3prl's
    ``downstream/asr/dataset.py`` and ESPnet's ``SortedBatchSampler`` do; what is left at the end is
    filled with the utterances before it. ``sliding`` has a group from each place on, as s3prl's
    ``downstream/ctc/corpus`` does: the places too near the end for a whole group have the last one.

    Args:
        way: which utterances are a group.
        lengths: (N,) what they are ordered by.
        size: utterances of a group, but for ``random``.
    """
    count = len(lengths)
    if way == "random":
        return np.arange(count)[:, None]
    size = min(size, count)
    first = np.arange(0, count, size if way == "sorted" else 1)
    order = np.argsort(-lengths, kind="stable")
    return order[np.minimum(first, count - size)[:, None] + np.arange(size)]


def _widths(longest: np.ndarray, drawn: int, most: int) -> np.ndarray:
    """Return widths that are needed equally often, rising; the last holds everything.

    Args:
        longest: (G,) length of each group's longest.
        drawn: how many groups share a width.
        most: how many widths there may be.
    """
    # the longest of n groups is within a width with a chance of F(width) ** n
    chances = (np.arange(1, most + 1) / most) ** (1 / drawn)
    return np.unique(np.quantile(longest, chances, method="higher"))
