"""Gains of one cell over another, their means and differences: what the paper's claims are made of.

A gain is the share of the second cell's error that is gone in the first, in percent
(``claims.relative_gain``). Gains are known seed by seed and on resamples of the test speakers, so
that a mean or a difference of gains has an interval and a p value too (``resampling.estimate``). A
:class:`Source` has cells under the paper's names: a study, or the published tables themselves.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol
from zlib import crc32

import numpy as np
import pandas as pd

from analysis import style
from analysis.claims import RELU, relative_gain
from analysis.evidence import Evidence
from analysis.paper import HIGHER, NUMBERS, Finder, Groups, Place, names, places, published
from analysis.paper_tables import cells_of
from analysis.resampling import Draws, Estimate, estimate, nested_draws, paired

INTERFACES = tuple(dict.fromkeys(published("table1")["interface"]))
"""The interfaces that the paper compares."""
ENCODERS = tuple(dict.fromkeys(published("table2")["upstream"]))


class Source(Protocol):
    """Cells under the paper's names."""

    tasks: list[str]
    """With the published head."""
    upstreams: list[str]

    def draws(self, place: Place) -> Draws | None:
        """Return a cell's values and resamples; None where it is absent or has no scores."""

    def higher_is_better(self, task: str) -> bool:
        """Return a task's direction."""


class Printed:
    """The published tables: one value a cell, no resamples, so no interval and no p value."""

    def __init__(self) -> None:
        frame = pd.concat([published(table) for table in NUMBERS])
        # Table 1 has more decimals than the others.
        frame = frame.drop_duplicates(list(Place._fields), keep="first")
        self._values = dict(zip(places(frame), frame["value"], strict=True))
        self._higher = dict(zip(frame["task"], frame["metric"].map(HIGHER), strict=True))
        self.tasks = list(self._higher)
        self.upstreams = list(ENCODERS)

    def draws(self, place: Place) -> Draws | None:
        """See :class:`Source`."""
        if place not in self._values:
            return None
        value = np.array([self._values[place]])
        return Draws(value, value[None], (0,), 1, 1, crc32(place.task.encode()))

    def higher_is_better(self, task: str) -> bool:
        """See :class:`Source`."""
        return self._higher[task]


class Own:
    """A study's cells, stand-ins included, and tasks and encoders that the paper does not have.

    A task's variant with another head (``_relu``) is none of the paper's, and neither is an
    upstream that is no trained encoder.
    """

    def __init__(self, evidence: Evidence) -> None:
        self._evidence, tables = evidence, evidence.tables
        self._finder = Finder(cells_of(tables), stand_ins=True)
        self.upstreams = list(
            dict.fromkeys(_paper_name(name) for name in tables.upstreams if _is_encoder(name))
        )
        self._tasks: dict[str, str] = {}  # the paper's name → one of the study's
        for task in names()["tasks"]:
            groups = self._any(task)
            if groups:
                self._tasks[task] = groups[0][0][0]
        covered = {
            t for task in self._tasks for group in self._any(task) or [] for t, _, _ in group
        }
        endings = tuple(end for ends in names()["variants"].values() for end in ends)
        for task in tables.tasks:
            if task not in covered and not task.endswith((RELU, *endings)):
                self._tasks[task] = task
        self.tasks = list(self._tasks)

    def _any(self, task: str) -> Groups | None:
        """Find a task on any upstream, by any interface."""
        found = (
            self._finder.find(Place(task, upstream, interface))
            for upstream in self.upstreams
            for interface in self._evidence.tables.interfaces
        )
        return next((groups for groups in found if groups), None)

    def draws(self, place: Place) -> Draws | None:
        """See :class:`Source`; a cell averaged over tasks has its members' common seeds."""
        groups = self._finder.find(place)
        if groups is None:
            return None
        drawn = [[self._evidence.draws(*cell) for cell in group] for group in groups]
        if any(draws is None for group in drawn for draws in group):
            return None
        return nested_draws([[d for d in group if d is not None] for group in drawn])

    def higher_is_better(self, task: str) -> bool:
        """See :class:`Source`."""
        return self._evidence.tables.metric(self._tasks[task])[1]


def _is_encoder(upstream: str) -> bool:
    endings = tuple(names()["variants"]["fine_tuned"])
    return not style.is_baseline(upstream) and not upstream.endswith(endings)


def _paper_name(upstream: str) -> str:
    stand_ins = names()["stand_ins"]["upstreams"]
    known = [(paper, (*listed, *stand_ins.get(paper, ()))) for paper, listed in
             names()["upstreams"].items()]  # fmt: skip
    return next((paper for paper, listed in known if upstream in listed), upstream)


@dataclass(frozen=True)
class Gain:
    """A gain, or a mean or difference of gains, in percent (or points of percent)."""

    by_seed: dict[int, float]
    resampled: np.ndarray
    """(B,) its mean over seeds."""
    speakers: int
    cells: frozenset[Place]

    def test(self, bound: float = 0.0) -> Estimate:
        """Return the value with its interval, and the p value of its being ``bound``."""
        values = np.array(list(self.by_seed.values()))
        moved = estimate(values - bound, self.resampled - bound, self.speakers)
        return Estimate(
            moved.value + bound,
            moved.low + bound,
            moved.high + bound,
            moved.p,
            moved.error_speakers,
            moved.error_seeds,
            moved.degrees_of_freedom,
        )


def gain(source: Source, first: Place, second: Place) -> Gain | None:
    """Return the first cell's gain over the second, or None if a cell is absent."""
    a, b = source.draws(first), source.draws(second)
    if a is None or b is None or not set(a.seeds) & set(b.seeds):
        return None
    a, b = paired(a, b)
    values, resampled, speakers = relative_gain(a, b, source.higher_is_better(first.task))
    return Gain(
        dict(zip(a.seeds, values, strict=True)), resampled, speakers, frozenset((first, second))
    )


def mean(gains: Iterable[Gain | None]) -> Gain | None:
    """Return the mean of those gains that are there, over their common seeds."""
    there = [gain for gain in gains if gain is not None]
    return _joined(there, np.full(len(there), 1 / len(there))) if there else None


def difference(first: Gain | None, second: Gain | None) -> Gain | None:
    """Return how much larger the first gain is, over their common seeds."""
    return None if first is None or second is None else _joined([first, second], np.array([1, -1]))


def _joined(gains: Sequence[Gain], factors: np.ndarray) -> Gain | None:
    seeds = sorted(set.intersection(*(set(gain.by_seed) for gain in gains)))
    if not seeds:
        return None
    by_seed = {
        seed: float(factors @ [gain.by_seed[seed] for gain in gains]) for seed in seeds
    }  # fmt: skip
    resampled = np.tensordot(factors, np.stack([gain.resampled for gain in gains]), axes=1)
    cells = frozenset(cell for gain in gains for cell in gain.cells)
    return Gain(by_seed, resampled, min(gain.speakers for gain in gains), cells)
