"""The paper's published cells, and where a study has them under its own names.

``published/`` holds the numbers of Shih & Harwath (arXiv 2406.12209) and the names; its README says
what every column means.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import yaml

from ssl_bench.errors import StudyError

FOLDER = Path(__file__).with_name("published")
NUMBERS = ("table1", "table2", "table3", "table4")
HIGHER = {"cer": False, "per": False, "eer": False, "accuracy": True}
"""Whether more is better, of the published metrics."""
Cell = tuple[str, str, str]
"""(task, upstream, interface) as a study names them."""
Groups = list[list[Cell]]
"""The cells behind a published one: its value is the mean over groups of the mean in each."""


class Place(NamedTuple):
    """A cell as the paper names it."""

    task: str
    upstream: str
    interface: str
    downstream: str = "published"
    tuning: str = "frozen"


@cache
def published(table: str) -> pd.DataFrame:
    """Read a published table (``table1`` … ``table4``).

    ``value`` is a number in percent, ``printed`` the same with the decimals that it has in print.
    """
    frame = pd.read_csv(FOLDER / f"{table}.csv", dtype=str).rename(columns={"value": "printed"})
    frame["value"] = frame["printed"].astype(float)
    frame["higher_is_better"] = frame["metric"].map(HIGHER).astype(bool)
    return frame


def places(table: pd.DataFrame) -> list[Place]:
    """List the cells of a published table, in its order."""
    return [Place(*row) for row in table[list(Place._fields)].itertuples(index=False)]


@cache
def names() -> dict[str, Any]:
    """Read ``names.yaml``."""
    return yaml.safe_load((FOLDER / "names.yaml").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Finder:
    """Find published cells among the cells of a study.

    Args:
        cells: every (task, upstream, interface) of the study.
        stand_ins: take a smaller encoder or a like task where the study lacks the paper's.
    """

    cells: frozenset[Cell]
    stand_ins: bool = False

    def find(self, place: Place) -> Groups | None:
        """Return the study's cells of one published cell, or None if any of them is absent."""
        for groups in self._candidates(place):
            if all(cell in self.cells for group in groups for cell in group):
                return groups
        return None

    def named(self, axis: str, name: str) -> list[str]:
        """List what a study may call an upstream or an interface; the paper's name comes last."""
        listed = list(names()[axis].get(name, []))
        if self.stand_ins:
            listed += names()["stand_ins"].get(axis, {}).get(name, [])
        return listed if name in listed else [*listed, name]

    def _candidates(self, place: Place) -> Iterator[Groups]:
        for ends in _endings(place):
            for tasks, upstream, interface in product(
                self._tasks(place.task),
                self.named("upstreams", place.upstream),
                self.named("interfaces", place.interface),
            ):
                yield [
                    [(t + ends["task"], upstream + ends["upstream"], interface + ends["interface"])
                     for t in group]
                    for group in tasks
                ]  # fmt: skip

    def _tasks(self, task: str) -> Iterator[list[list[str]]]:
        entry = names()["tasks"].get(task, {"names": [task]})
        listed = list(entry["names"])
        if self.stand_ins:
            listed += names()["stand_ins"]["tasks"].get(task, [])
        for name in listed:
            yield [[name]]
        for pattern in entry.get("members", []):
            groups = names()["groups"][entry["over"]]
            yield [[pattern.format(member) for member in group] for group in groups]


def _endings(place: Place) -> Iterator[dict[str, str]]:
    """Yield the ways to say that a downstream is enlarged and that an upstream is fine-tuned."""
    variants = names()["variants"]
    said = [v for v in (place.downstream, place.tuning) if v in variants]
    axes = ("task", "upstream", "interface")
    for ways in product(*(product(axes, variants[variant]) for variant in said)):
        ends = dict.fromkeys(axes, "")
        for axis, ending in ways:
            ends[axis] += ending
        yield ends


def held(cells: Iterable[Cell]) -> list[str]:
    """List the published tables of which a study has at least one cell."""
    finder = Finder(frozenset(cells))
    return [
        table for table in NUMBERS if any(map(finder.find, places(published(table))))
    ]  # fmt: skip


def nested(groups: Groups, results: pd.DataFrame) -> pd.Series:
    """Average test values over groups, seed by seed.

    Args:
        groups: the study's cells behind one published cell.
        results: ``Tables.cells``.

    Returns:
        One value a seed that all the cells have, by seed.

    Raises:
        StudyError: the cells disagree on whether more is better.
    """
    flat = [cell for group in groups for cell in group]
    keys = pd.MultiIndex.from_frame(results[["task", "upstream", "interface"]])
    rows = results[keys.isin(flat)]
    if rows["higher_is_better"].nunique() > 1:
        listed = ", ".join(f"{t} {m}" for t, m in rows.groupby("task")["metric"].first().items())
        raise StudyError(f"results.csv: tasks that are averaged differ in direction: {listed}")
    values = rows.pivot_table(
        index="seed", columns=["task", "upstream", "interface"], values="test"
    ).dropna()
    means = [values[group].mean(axis=1) for group in groups]
    return pd.concat(means, axis=1).mean(axis=1)
