"""Metrics, in percent, from counts and scores."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike
from rapidfuzz.distance import Levenshtein


def edit_errors(
    references: Iterable[Sequence[str]], hypotheses: Iterable[Sequence[str]]
) -> np.ndarray:
    """Count insertions + deletions + substitutions of each pair of sequences, (N,) int64."""
    pairs = zip(references, hypotheses, strict=True)
    counts = (Levenshtein.distance(reference, hypothesis) for reference, hypothesis in pairs)
    return np.fromiter(counts, dtype=np.int64)


def error_rate(errors: ArrayLike, reference_lengths: ArrayLike) -> float:
    """Return total errors / total reference length (PER, CER, WER), in percent."""
    return 100.0 * float(np.sum(np.asarray(errors))) / float(np.sum(np.asarray(reference_lengths)))


def accuracy(correct: ArrayLike) -> float:
    """Return the share of correct utterances, in percent."""
    return 100.0 * float(np.mean(np.asarray(correct)))


def equal_error_rate(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return where the ROC curve, interpolated linearly, has equal error rates, in percent.

    Source: s3prl ``downstream/sv_voxceleb1/utils.py``, which searches the same point.

    Args:
        labels: (N,), 1 for a trial of the same speaker and 0 for another.
        scores: (N,), higher for the same speaker.

    Returns:
        The rate, or NaN where a score is not finite (training has diverged).

    Raises:
        ValueError: one of the two kinds of trials is missing.
    """
    if not np.isfinite(scores).all():
        return float("nan")
    if len(np.unique(labels)) != 2:
        raise ValueError("an equal error rate needs trials of the same and of different speakers")
    from sklearn.metrics import roc_curve  # slow to import, and most tasks do without

    accepted, detected, _ = roc_curve(labels, scores, drop_intermediate=False)
    gap = (1.0 - detected) - accepted  # falls from 1 to -1
    after = int(np.argmax(gap <= 0))
    before = after - 1
    share = gap[before] / (gap[before] - gap[after])
    return 100.0 * float(accepted[before] + share * (accepted[after] - accepted[before]))
