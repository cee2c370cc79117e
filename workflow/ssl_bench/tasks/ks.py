"""Keyword spotting: the class in column ``keyword``.

SUPERB KS on Speech Commands: batch 32, 200,000 steps, train and dev sampled so that classes are
balanced.
"""

from ssl_bench.tasks._classification import ClassificationConfig, ClassificationTask
from ssl_bench.tasks._published import superb

RECIPE = superb(
    1e-4,
    steps=200_000,
    every=5_000,
    batch_utterances=32,
    balance=True,
    scored_utterances=32,
)


class Config(ClassificationConfig):
    """Keys of keyword spotting."""

    column: str = "keyword"


class Task(ClassificationTask):
    """Keyword spotting."""
