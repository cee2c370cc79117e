"""Speaker verification trials: made of a split's utterances, or read from a file."""

from pathlib import Path

import numpy as np
import pandas as pd

from ssl_bench.errors import StudyError

MOST = 2_000_000
"""Trials beyond which all pairs of a split are too many to score again and again."""


def all_pairs(speakers: pd.Series) -> pd.DataFrame:
    """Pair every two utterances; ``speakers`` by utterance id → columns a, b, label."""
    first, second = np.triu_indices(len(speakers), k=1)
    return _frame(speakers, first, second)


def balanced_sample(speakers: pd.Series, trials: int, seed: int) -> pd.DataFrame:
    """Draw ``trials`` pairs without replacement, half of them of the same speaker.

    Raises:
        ValueError: there are not that many pairs of one of the two kinds.
    """
    half = trials // 2
    random = np.random.default_rng(seed)
    ordered = speakers.sort_values(kind="stable")
    counts = ordered.value_counts(sort=False).loc[ordered.unique()].to_numpy()
    offsets = np.cumsum(counts) - counts
    pairs = counts * (counts - 1) // 2
    total = len(ordered) * (len(ordered) - 1) // 2
    same, different = int(pairs.sum()), int(total - pairs.sum())
    if min(same, different) < half:
        raise ValueError(
            f"trials is {trials}, but there are only {same} pairs of the same speaker and "
            f"{different} of different ones"
        )
    ends = np.cumsum(pairs)
    drawn = random.choice(same, size=half, replace=False)
    group = np.searchsorted(ends, drawn, side="right")
    low, high = _unrank(drawn - (ends - pairs)[group])
    targets = (offsets[group] + low, offsets[group] + high)
    # At most ``same`` of the draws can be targets, so enough of the others are left.
    low, high = _unrank(random.choice(total, size=min(total, half + same), replace=False))
    codes = np.repeat(np.arange(len(counts)), counts)
    others = np.flatnonzero(codes[low] != codes[high])[:half]
    first = np.concatenate([targets[0], low[others]])
    second = np.concatenate([targets[1], high[others]])
    return _frame(ordered, first, second)


def read_trials(path: Path, rows: pd.DataFrame) -> pd.DataFrame:
    """Read lines ``<1|0> <id> <id>`` (VoxCeleb's format) → columns a, b, label, split.

    Args:
        path: the file.
        rows: the utterance table, indexed by id.

    Raises:
        StudyError: no such file, or a line is malformed, names an unknown utterance, pairs
            utterances of different splits, or contradicts the speakers.
    """
    if not path.is_file():
        raise StudyError(f"no trials_file {str(path)!r}; expected a file of trials")
    trials = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        where, fields = f"{path}:{number}", line.split()
        if not fields:
            continue
        if len(fields) != 3 or fields[0] not in ("0", "1"):
            raise StudyError(f"{where}: expected '<1|0> <utterance> <utterance>', found {line!r}")
        label, a, b = int(fields[0]), fields[1], fields[2]
        for name in (a, b):
            if name not in rows.index:
                raise StudyError(
                    f"{where}: the corpus has no utterance {name!r}, expected one of its ids"
                )
        split, other = rows.at[a, "split"], rows.at[b, "split"]
        if split != other:
            raise StudyError(
                f"{where}: {a!r} is in {split!r}, but {b!r} in {other!r}, expected both in one"
            )
        if (rows.at[a, "speaker"] == rows.at[b, "speaker"]) != bool(label):
            raise StudyError(
                f"{where}: label {label} contradicts the speakers of {a!r} and {b!r}, "
                f"expected {1 - label}"
            )
        trials.append((a, b, label, split))
    return pd.DataFrame(trials, columns=["a", "b", "label", "split"])


def _unrank(rank: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the ``rank``-th of the pairs (low, high), low < high, counted 01, 02, 12, 03, ….

    The root in floating point may be off by one, which integers then correct.
    """
    high = ((1 + np.sqrt(1 + 8 * rank.astype(np.float64))) // 2).astype(np.int64)
    high -= high * (high - 1) // 2 > rank
    high += high * (high + 1) // 2 <= rank
    return rank - high * (high - 1) // 2, high


def _frame(speakers: pd.Series, first: np.ndarray, second: np.ndarray) -> pd.DataFrame:
    names, codes = speakers.index.to_numpy(), pd.factorize(speakers)[0]
    label = (codes[first] == codes[second]).astype(np.int64)
    return pd.DataFrame({"a": names[first], "b": names[second], "label": label})
