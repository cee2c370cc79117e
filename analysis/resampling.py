"""Bootstrap over speakers, and the paired test of two cells on the same test material.

Utterances of one speaker are not independent, so speakers are drawn, with all their utterances.
Two cells with the same speakers see the same draws: differences are paired. A trial of speaker
verification belongs to two speakers; it counts as often as both were drawn together (a same-speaker
trial: as often as its speaker was drawn).

A difference between interfaces is uncertain for two reasons: other test speakers, other seeds. The
first standard error is that of the bootstrap of the difference of the means over seeds, the second
comes from the differences seed by seed; they add as variances, with Welch and Satterthwaite's
degrees of freedom. With one seed only the speakers count, and the test is about that one run.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np
from scipy import stats

from analysis.statistics import LEVEL

RESAMPLES = 2000
BLOCK = 64


@dataclass(frozen=True)
class Draws:
    """One cell's metric in percent, per seed, on the test set and on its resamples."""

    value: np.ndarray
    """(S,)"""
    resampled: np.ndarray
    """(B, S)"""
    seeds: tuple[int, ...]
    speakers: int
    utterances: int
    material: int
    """Checksum of the utterances' ids: cells are compared on the same material only."""


@dataclass(frozen=True)
class Estimate:
    """A quantity with its interval and the two-sided p value of its being zero."""

    value: float
    low: float
    high: float
    p: float
    error_speakers: float
    error_seeds: float
    degrees_of_freedom: float


def speaker_weights(
    speakers: Sequence[str] | np.ndarray, resamples: int = RESAMPLES, seed: int = 0
) -> np.ndarray:
    """Draw how often each speaker is in each resample, (B, K) float32.

    The draws depend on the seed and on the names alone, so that every cell tested on the same
    speakers gets the same ones.
    """
    names = "\n".join(speakers)
    rng = np.random.default_rng([seed, crc32(names.encode())])
    count = len(speakers)
    return rng.multinomial(count, np.full(count, 1 / count), size=resamples).astype(np.float32)


def ratio_draws(
    numerator: np.ndarray,
    denominator: np.ndarray,
    speakers: np.ndarray,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Bootstrap 100 · Σ numerator / Σ denominator: an error rate, or an accuracy.

    Args:
        numerator: (S, N) errors, or 0 and 1.
        denominator: (S, N) reference lengths, or ones.
        speakers: (N,) names.

    Returns:
        The value (S,) and its resamples (B, S), in percent.
    """
    names, block = np.unique(speakers.astype(str), return_inverse=True)
    top, bottom = (
        np.stack([np.bincount(block, row, minlength=len(names)) for row in table])
        for table in (numerator, denominator)
    )
    weights = speaker_weights(names, resamples, seed)
    value = 100 * top.sum(1) / bottom.sum(1)
    return value, 100 * (weights @ top.T) / (weights @ bottom.T)


def equal_error_rate(score: np.ndarray, label: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return weighted equal error rates in percent, by linear interpolation of the ROC.

    Args:
        score: (N,) higher means more likely the same speaker.
        label: (N,) 1 for the same speaker, 0 otherwise.
        weights: (B, N) how often every trial counts.

    Returns:
        (B,) NaN where only one kind of trial has weight.
    """
    return _crossing(score, label, np.ascontiguousarray(weights.T))


def _crossing(score: np.ndarray, label: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Do as :func:`equal_error_rate`, with weights (N, B) so that trials are rows of memory.

    The ROC is summed in blocks of trials first; only the block in which the two error rates cross
    is looked at trial by trial.
    """
    order = np.argsort(-score, kind="stable")
    weights = np.take(weights, order, axis=0)
    hits = weights * label[order, None].astype(weights.dtype)
    alarms = weights - hits
    starts = np.flatnonzero(np.diff(score[order], prepend=np.inf))
    if len(starts) < len(score):
        # Equal scores are one point of the ROC.
        hits, alarms = (np.add.reduceat(table, starts, axis=0) for table in (hits, alarms))
    total = np.stack([hits.sum(0), alarms.sum(0)]).astype(float)  # (2, B)
    with np.errstate(invalid="ignore", divide="ignore"):
        ends = np.stack([_block_sums(hits), _block_sums(alarms)]).cumsum(1) / total[:, None]
        block = np.minimum((ends.sum(0) < 1).sum(0), ends.shape[1] - 1)
        begin = np.concatenate([np.zeros_like(ends[:, :1]), ends], axis=1)
        begin = np.take_along_axis(begin, block[None, None], axis=1)
        rows = block * BLOCK + np.arange(BLOCK)[:, None]
        inside = np.minimum(rows, len(hits) - 1)
        steps = np.stack([np.take_along_axis(table, inside, axis=0) for table in (hits, alarms)])
        steps = np.where(rows < len(hits), steps, 0).cumsum(1) / total[:, None]
        roc = np.concatenate([begin, begin + steps], axis=1)  # (2, 1 + BLOCK, B)
        gap = roc.sum(0) - 1
        after = np.clip((gap < 0).sum(0), 1, BLOCK)[None]
        low, high = (np.take_along_axis(gap, at, axis=0)[0] for at in (after - 1, after))
        left, right = (np.take_along_axis(roc[1], at, axis=0)[0] for at in (after - 1, after))
        return 100 * (left + -low / (high - low) * (right - left))


def _block_sums(table: np.ndarray) -> np.ndarray:
    """(N, B) → sums over blocks of trials, the last one shorter."""
    full = len(table) // BLOCK * BLOCK
    sums = table[:full].reshape(-1, BLOCK, table.shape[1]).sum(1)
    rest = table[full:].sum(0, keepdims=True)
    return np.concatenate([sums, rest]) if full < len(table) else sums


def trial_draws(
    score: np.ndarray,
    label: np.ndarray,
    speakers: np.ndarray,
    resamples: int = RESAMPLES,
    seed: int = 0,
    chunk: int = 200,
) -> tuple[np.ndarray, np.ndarray]:
    """Bootstrap the equal error rate over speakers.

    Args:
        score: (S, N) of every trial.
        label: (N,) 1 for the same speaker.
        speakers: (N,) "speaker of a|speaker of b".
        chunk: resamples held at a time.

    Returns:
        The value (S,) and its resamples (B, S), in percent.
    """
    pairs = np.array([str(name).split("|") for name in speakers])
    names, index = np.unique(pairs, return_inverse=True)
    first, second = index.reshape(pairs.shape).T
    same = first == second
    drawn = speaker_weights(names, resamples, seed)
    ones = np.ones((1, len(label)), dtype=np.float32)
    value = np.array([equal_error_rate(row, label, ones)[0] for row in score])
    resampled = np.empty((resamples, len(score)))
    for start in range(0, resamples, chunk):
        part = drawn[start : start + chunk]
        weights = part.T[first] * np.where(same[:, None], np.float32(1), part.T[second])
        for column, row in enumerate(score):
            resampled[start : start + chunk, column] = _crossing(row, label, weights)
    return value, resampled


def estimate(
    per_seed: np.ndarray, resampled: np.ndarray, speakers: int, level: float = LEVEL
) -> Estimate:
    """Join the uncertainty over speakers and over seeds.

    Args:
        per_seed: (S,) the quantity, seed by seed.
        resampled: (B,) its mean over seeds on every resample.
        speakers: how many speakers were drawn from.
    """
    count = len(per_seed)
    value = float(np.mean(per_seed))
    by_speaker = float(np.nanstd(resampled, ddof=1)) if speakers > 1 else 0.0
    by_seed = float(np.std(per_seed, ddof=1) / np.sqrt(count)) if count > 1 else 0.0
    variance = by_speaker**2 + by_seed**2
    if variance == 0:
        known = speakers > 1 or count > 1
        p = (1.0 if value == 0 else 0.0) if known else np.nan
        bound = value if known else np.nan
        return Estimate(value, bound, bound, p, 0.0, 0.0, np.nan)
    freedom = variance**2 / (by_speaker**4 / max(speakers - 1, 1) + by_seed**4 / max(count - 1, 1))
    error = float(np.sqrt(variance))
    half = stats.t.ppf((1 + level) / 2, freedom) * error
    p = 2 * stats.t.sf(abs(value) / error, freedom)
    return Estimate(
        value,
        float(value - half),
        float(value + half),
        float(p),
        by_speaker,
        by_seed,
        float(freedom),
    )


def paired(a: Draws, b: Draws) -> tuple[Draws, Draws]:
    """Cut two cells to their common seeds.

    Raises:
        ValueError: they were tested on different material, or share no seed.
    """
    if a.material != b.material:
        raise ValueError("the two cells were not tested on the same utterances")
    common = sorted(set(a.seeds) & set(b.seeds))
    if not common:
        raise ValueError(f"the two cells share no seed: {list(a.seeds)} and {list(b.seeds)}")
    return _at(a, common), _at(b, common)


def _at(draws: Draws, seeds: list[int]) -> Draws:
    columns = [draws.seeds.index(seed) for seed in seeds]
    return Draws(
        draws.value[columns],
        draws.resampled[:, columns],
        tuple(seeds),
        draws.speakers,
        draws.utterances,
        draws.material,
    )


def paired_difference(a: Draws, b: Draws, level: float = LEVEL) -> Estimate:
    """Test a − b, in points of the metric, averaged over their common seeds."""
    a, b = paired(a, b)
    return estimate(a.value - b.value, (a.resampled - b.resampled).mean(1), a.speakers, level)


def nested_draws(groups: Sequence[Sequence[Draws]]) -> Draws | None:
    """Average cells over groups, seed by seed and resample by resample; None without common seeds.

    Speakers of different tasks are drawn independently unless they are the same ones. The mean is
    given 1 + Σ (speakers − 1) of them: the degrees of freedom of a sum of equal variances.
    """
    flat = [draws for group in groups for draws in group]
    if len(flat) == 1:
        return flat[0]
    seeds = sorted(set.intersection(*(set(draws.seeds) for draws in flat)))
    if not seeds:
        return None

    def mean(part: Callable[[Draws], np.ndarray]) -> np.ndarray:
        rows = [
            np.mean([part(d)[..., [d.seeds.index(s) for s in seeds]] for d in group], axis=0)
            for group in groups
        ]
        return np.mean(rows, axis=0)

    return Draws(
        mean(lambda d: d.value),
        mean(lambda d: d.resampled),
        tuple(seeds),
        1 + sum(draws.speakers - 1 for draws in flat),
        sum(draws.utterances for draws in flat),
        crc32(repr([draws.material for draws in flat]).encode()),
    )
