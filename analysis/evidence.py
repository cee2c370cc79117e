"""Per-utterance scores of a study as resampled cells: what every paired test starts from."""

from functools import cached_property
from zlib import crc32

import numpy as np
import pandas as pd

from analysis.resampling import RESAMPLES, Draws, nested_draws, ratio_draws, trial_draws
from analysis.tables import CELL, Tables
from ssl_bench.errors import StudyError

TOLERANCE = 0.5
"""Points by which a metric made from scores.parquet may differ from results.csv."""


class Evidence:
    """The resampled cells of a study; each is made once, when first asked for."""

    def __init__(self, tables: Tables, resamples: int = RESAMPLES, seed: int = 0) -> None:
        self.tables = tables
        self.resamples = resamples
        self.seed = seed
        self._draws: dict[tuple[str, str, str], Draws | None] = {}

    @cached_property
    def _groups(self) -> dict[tuple[str, str, str], pd.DataFrame]:
        scores = self.tables.scores
        if scores is None:
            return {}
        groups = scores.groupby(CELL, observed=True, sort=False)
        return {(str(t), str(u), str(i)): group for (t, u, i), group in groups}

    def draws(self, task: str, upstream: str, interface: str) -> Draws | None:
        """Return one cell's draws, or None where the cell or its scores are absent.

        An average's are the mean of its tasks' (``resampling.nested_draws``).

        Raises:
            StudyError: the scores do not fit the results, or differ in utterances between seeds.
        """
        cell = (task, upstream, interface)
        if cell not in self._draws:
            groups = self.tables.members.get(task)
            self._draws[cell] = self._mean(groups, *cell[1:]) if groups else self._make(*cell)
        return self._draws[cell]

    def _mean(self, groups: list[list[str]], upstream: str, interface: str) -> Draws | None:
        drawn = [[self.draws(task, upstream, interface) for task in tasks] for tasks in groups]
        found = [[draws for draws in group if draws is not None] for group in drawn]
        return nested_draws(found) if list(map(len, found)) == list(map(len, groups)) else None

    def _make(self, task: str, upstream: str, interface: str) -> Draws | None:
        cells = self.tables.cells
        rows = cells[
            (cells["task"] == task)
            & (cells["upstream"] == upstream)
            & (cells["interface"] == interface)
        ].sort_values("seed")
        scores = self._groups.get((task, upstream, interface))
        if rows.empty or scores is None:
            return None
        layer = rows["layer"].iloc[0]
        if not pd.isna(layer):
            scores = scores[scores["layer"] == layer]
        where = f"scores.parquet: {task}, {upstream}, {interface}"
        seeds = tuple(int(seed) for seed in rows["seed"])
        scores = scores[scores["seed"].isin(seeds)]
        counts = scores.groupby("seed").size()
        if len(counts) != len(seeds) or counts.nunique() != 1 or not counts.iloc[0]:
            raise StudyError(
                f"{where}: expected the same utterances for seeds {list(seeds)}, "
                f"found {counts.to_dict()} rows a seed"
            )
        scores = scores.assign(id=scores["id"].astype(str)).sort_values(["seed", "id"])
        ids = scores["id"].to_numpy().reshape(len(seeds), -1)
        if (ids != ids[0]).any():
            raise StudyError(f"{where}: expected the same utterances for every seed, found others")
        names = scores["speaker"].astype(object).where(scores["speaker"].notna(), scores["id"])
        speakers = names.to_numpy().reshape(ids.shape)[0]
        value, resampled = self._bootstrap(scores, speakers, ids.shape, where)
        gap = np.abs(value - rows["test"].to_numpy()).max()
        if gap > TOLERANCE:
            raise StudyError(
                f"{where}: the scores make {np.round(value, 2).tolist()} %, "
                f"results.csv says {rows['test'].round(2).tolist()}"
            )
        people = {part for name in speakers for part in str(name).split("|")}
        material = hash_ids(ids[0])
        return Draws(value, resampled, seeds, len(people), ids.shape[1], material)

    def _bootstrap(
        self, scores: pd.DataFrame, speakers: np.ndarray, shape: tuple[int, int], where: str
    ) -> tuple[np.ndarray, np.ndarray]:
        def column(name: str) -> np.ndarray | None:
            values = scores[name].to_numpy(dtype=float, na_value=np.nan)
            return None if np.isnan(values).any() else values.reshape(shape)

        errors, length = column("errors"), column("reference_length")
        correct, score, label = column("correct"), column("score"), column("label")
        if errors is not None and length is not None:
            return ratio_draws(errors, length, speakers, self.resamples, self.seed)
        if correct is not None:
            return ratio_draws(correct, np.ones(shape), speakers, self.resamples, self.seed)
        if score is not None and label is not None:
            if (label != label[0]).any():
                raise StudyError(
                    f"{where}: expected the same labels of trials for every seed, found others"
                )
            return trial_draws(score, label[0], speakers, self.resamples, self.seed)
        raise StudyError(
            f"{where}: expected errors and reference_length, or correct, or score and label; "
            "each has gaps"
        )


def hash_ids(ids: np.ndarray) -> int:
    """Return a checksum of the utterances' ids in their order."""
    return crc32("\n".join(map(str, ids)).encode())
