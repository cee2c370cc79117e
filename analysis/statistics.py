"""Intervals, corrections and ranks: pure functions of arrays."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean and its confidence interval; the bounds are NaN where n < 2."""

    mean: float
    low: float
    high: float
    n: int

    @property
    def half(self) -> float:
        """Half the interval's width."""
        return (self.high - self.low) / 2


def mean_interval(values: Sequence[float] | np.ndarray, level: float = LEVEL) -> Interval:
    """Return the mean over seeds with Student's t interval."""
    values = np.asarray(values, dtype=float)
    if not len(values):
        raise ValueError("mean_interval: expected at least one value, found none")
    mean = float(values.mean())
    if len(values) < 2:
        return Interval(mean, np.nan, np.nan, len(values))
    half = stats.t.ppf((1 + level) / 2, len(values) - 1) * stats.sem(values)
    return Interval(mean, float(mean - half), float(mean + half), len(values))


def holm(p: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return Holm's adjusted p values, in the order given; NaN stays NaN and does not count."""
    p = np.asarray(p, dtype=float)
    adjusted = np.full_like(p, np.nan)
    valid = np.flatnonzero(~np.isnan(p))
    order = valid[np.argsort(p[valid], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * factors))
    return adjusted


@dataclass(frozen=True)
class Ranks:
    """Average ranks of methods over blocks (Demšar, 2006)."""

    mean: pd.Series
    """Mean rank of every method, 1 is best, ascending."""
    critical_difference: float
    """Nemenyi: two mean ranks further apart than this differ at the 5 % level."""
    friedman_p: float
    nemenyi_p: pd.DataFrame
    blocks: int


def average_ranks(losses: pd.DataFrame, level: float = LEVEL) -> Ranks:
    """Rank methods (columns; lower is better) within blocks (rows) and test their mean ranks.

    Raises:
        ValueError: fewer than three methods or two blocks, or a missing value.
    """
    blocks, methods = losses.shape
    if methods < 3 or blocks < 2 or losses.isna().any().any():
        raise ValueError(
            "average_ranks: expected at least 3 methods and 2 blocks without gaps, "
            f"found {methods} methods, {blocks} blocks, {int(losses.isna().sum().sum())} gaps"
        )
    import scikit_posthocs

    mean = losses.rank(axis=1).mean().sort_values(kind="stable")
    quantile = stats.studentized_range.ppf(level, methods, np.inf) / np.sqrt(2)
    return Ranks(
        mean=mean,
        critical_difference=float(quantile * np.sqrt(methods * (methods + 1) / (6 * blocks))),
        friedman_p=float(stats.friedmanchisquare(*losses.to_numpy().T).pvalue),
        nemenyi_p=scikit_posthocs.posthoc_nemenyi_friedman(losses),
        blocks=blocks,
    )
