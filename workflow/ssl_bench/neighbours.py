"""Batches of the published recipes: at random, or of utterances that lie beside each other.

A pass goes through groups of utterances, in an order of each seed's own: a group is one utterance,
or neighbours in an order of lengths. A batch is the next few groups, of the next pass as well where
one ends, as s3prl and ESPnet accumulate batches: a group may then come twice. It is padded to
the narrowest of a few widths that holds every seed's utterances, so that a step can be recorded:
runs of several seeds train on exactly the utterances that each would see alone, and padding changes
no result but for rounding and where dropout falls.

Groups may differ in size. Each counts as much as any other, as batches do whose gradients are
accumulated: an utterance of a smaller one counts more. Rows of no weight fill it up.
"""

from collections.abc import Iterator
from typing import Literal, Protocol

import numpy as np

from ssl_bench.sampling import Batch, Crops, Weighted

Way = Literal["random", "sorted", "sliding"]
Last = Literal["filled", "smaller", "halves", "shared"]


class Groups:
    """What a pass goes through: ``places`` (G, n) of utterances, of which ``sizes`` (G,) count.

    Places that do not count repeat the group's last. ``usual``: how many utterances a group has,
    but for a few.
    """

    def __init__(self, places: np.ndarray, sizes: np.ndarray | None = None, usual: int = 0) -> None:
        count, room = places.shape
        self.sizes = np.full(count, room) if sizes is None else sizes
        counts = np.minimum(np.arange(room), self.sizes[:, None] - 1)
        self.places = np.take_along_axis(places, counts, 1)
        self.usual = min(usual or room, room)

    def __len__(self) -> int:
        return len(self.places)

    def counted(self) -> list[np.ndarray]:
        """Return for each group the places (n,) of those that count."""
        return [own[:size] for own, size in zip(self.places, self.sizes, strict=True)]

    def halved(self, long: np.ndarray) -> "Groups":
        """Return the groups, of those whose first utterance is ``long`` (N,) the first half alone.

        As s3prl's ``downstream/ctc/data.py``, which needs the memory.
        """
        half = long[self.places[:, 0]] & (self.sizes > 1)
        return Groups(self.places, np.where(half, self.sizes // 2, self.sizes), self.usual)


def grouped_batches(
    rows: np.ndarray,
    frames: np.ndarray,
    groups: Groups,
    each: int,
    widths: int,
    steps: int,
    seeds: list[int],
    *,
    crop: int | None = None,
    spare: np.ndarray | None = None,
    weights: np.ndarray | None = None,
    cut: int | None = None,
    accumulated: int = 1,
) -> Iterator[Batch]:
    """Yield ``steps`` batches for R runs, one a seed.

    Args:
        rows: (N,) rows that may be drawn.
        frames: (N,) their lengths.
        groups: of places among the N, as :func:`groups_of` returns them. Each is drawn once a pass.
        each: how many groups a batch has.
        widths: how many widths there may be at most.
        steps: how many batches to yield.
        seeds: (R,) seed of each run's order; equal seeds give equal batches.
        crop: most frames of an utterance; a longer one is cut to them, anywhere.
        spare: (N,) the last place where a crop may begin; None: where ``crop`` frames are left.
        weights: (G,) how likely each group is drawn, with replacement; without them every group is
            drawn once a pass.
        cut: joins so many groups of one utterance to one, of which a batch has ``each``; what is
            left of a pass is a smaller one.
        accumulated: how many published batches a batch has: ``each``, unless groups are single
            utterances that are not joined.
    """
    used = frames if crop is None else np.minimum(frames, crop)
    cut = cut and min(cut, len(groups))
    distinct = list(dict.fromkeys(seeds))
    room = cut or groups.places.shape[1]
    usual = cut or groups.usual
    drawn_at_once = each * len(distinct) * (cut or 1)
    edges = _widths(used[groups.places].max(1), drawn_at_once, widths)
    orders: dict[int, _Order] = {}
    for seed in distinct:
        rng = np.random.default_rng((seed, 0))
        orders[seed] = _Cut(len(groups), cut, rng) if cut else _Whole(groups, weights, rng)
    crops = None if crop is None else Crops(distinct, 1)
    if crop is not None and spare is None:
        spare = np.maximum(frames - crop, 0)
    for _ in range(steps):
        drawn = {seed: order.take(each) for seed, order in orders.items()}
        starts = None
        if crops is not None and spare is not None:
            first = crops.draw({s: spare[places].ravel() for s, (places, _) in drawn.items()})
            starts = {seed: own.reshape(each, room) for seed, own in first.items()}
        sizes = {seed: counts for seed, (_, counts) in drawn.items()}
        fits = max(int(counts.max()) for counts in sizes.values()) <= usual
        held = usual if fits else room
        own = {seed: places[:, :held].ravel() for seed, (places, _) in drawn.items()}
        longest = max(int(used[places].max()) for places in own.values())
        even = all((counts == held).all() for counts in sizes.values())
        yield Batch(
            np.stack([rows[own[seed]] for seed in seeds]),
            int(edges[np.searchsorted(edges, longest)]),
            None if starts is None else np.stack([starts[s][:, :held].ravel() for s in seeds]),
            None if even else np.stack([_shares(sizes[seed], held) for seed in seeds]),
            accumulated,
        )


class _Order(Protocol):
    """Draws groups for a seed."""

    def take(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the next groups: their places (count, n), and how many of each count, (count,)."""


class _Whole:
    """Draws groups, each once a pass or as likely as its weight says."""

    def __init__(
        self, groups: Groups, weights: np.ndarray | None, rng: np.random.Generator
    ) -> None:
        self.groups = groups
        self.order: _Passes | Weighted = _Passes(len(groups), rng)
        if weights is not None:
            self.order = Weighted(np.arange(len(groups)), weights, rng)

    def take(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`_Order`."""
        taken = self.order.take(count)
        return self.groups.places[taken], self.groups.sizes[taken]


class _Passes:
    """Draws numbers up to ``count``, each once a pass, one pass after another."""

    def __init__(self, count: int, rng: np.random.Generator) -> None:
        self.count, self.rng = count, rng
        self.queue = np.arange(0)

    def take(self, count: int) -> np.ndarray:
        """Return the next numbers, (count,)."""
        while len(self.queue) < count:
            self.queue = np.concatenate([self.queue, self.rng.permutation(self.count)])
        taken, self.queue = self.queue[:count], self.queue[count:]
        return taken


class _Cut:
    """Cuts the order of a pass, drawn anew each time, into groups of ``size`` of N utterances."""

    def __init__(self, utterances: int, size: int, rng: np.random.Generator) -> None:
        self.utterances, self.size, self.rng = utterances, size, rng
        self.queue = np.arange(0)

    def take(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`_Order`."""
        taken = [self._next() for _ in range(count)]
        places = [np.pad(own, (0, self.size - len(own)), mode="edge") for own in taken]
        return np.stack(places), np.array([len(own) for own in taken])

    def _next(self) -> np.ndarray:
        if not len(self.queue):
            self.queue = self.rng.permutation(self.utterances)
        taken, self.queue = self.queue[: self.size], self.queue[self.size :]
        return taken


def _shares(sizes: np.ndarray, room: int) -> np.ndarray:
    """Return the weights (groups · room,) that give each group as much as any other, 1 in all."""
    counted = np.arange(room) < sizes[:, None]
    return (counted / sizes[:, None] / len(sizes)).ravel().astype(np.float32)


def groups_of(way: Way, lengths: np.ndarray, size: int, last: Last = "filled") -> Groups:
    """Return the groups that a pass goes through, of ``size`` or of all N if there are fewer.

    ``random`` has N groups of one. The others order utterances from the longest to the shortest,
    equal ones as they come. ``sliding`` has a group from each place on, as s3prl's
    ``downstream/ctc/corpus`` does: the places too near the end for a whole group have the last one.
    ``sorted`` cuts this order into groups, and ``last`` says what becomes of the utterances that
    are left at its end:

    * ``filled``: a group with the utterances before them;
    * ``smaller``: a group of their own;
    * ``halves``: groups are halves of such twice as large, and what is left of these is one, but
      for one utterance alone, as in s3prl's ``downstream/asr/dataset.py``;
    * ``shared``: there is none, some groups are larger, as in ESPnet's ``SortedBatchSampler``.

    Args:
        way: which utterances are a group.
        lengths: (N,) what they are ordered by.
        size: utterances of a group, but for ``random``.
        last: what becomes of the last, with ``sorted``.
    """
    count = len(lengths)
    if way == "random":
        return Groups(np.arange(count)[:, None])
    size = min(size, count)
    order = np.argsort(-lengths, kind="stable")
    if way == "sliding" or last == "filled":
        first = np.arange(0, count, size if way == "sorted" else 1)
        return Groups(order[np.minimum(first, count - size)[:, None] + np.arange(size)])
    first = _cuts(count, size, last)
    sizes = np.diff(first)
    places = first[:-1, None] + np.arange(sizes.max())
    return Groups(order[np.minimum(places, count - 1)], sizes, size)


def _cuts(count: int, size: int, last: Last) -> np.ndarray:
    """Return where groups begin in an order of ``count`` utterances, and where the last ends."""
    if last == "shared":
        groups = count // size
        return np.arange(groups + 1) * count // groups
    if last == "smaller":
        return np.append(np.arange(0, count, size), count)
    left = count % (2 * size)
    whole = np.arange(0, count - left + 1, size)
    return np.append(whole, count) if left > 1 or count == 1 else whole


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
