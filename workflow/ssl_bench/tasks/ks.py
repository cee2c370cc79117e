"""Keyword spotting: the class in column ``keyword``.

SUPERB KS on Speech Commands: batch 32, 200,000 steps, train and dev sampled so that classes are
balanced (not done here).
"""

from ssl_bench.tasks._classification import ClassificationConfig, ClassificationTask


class Config(ClassificationConfig):
    """Keys of keyword spotting."""

    column: str = "keyword"


class Task(ClassificationTask):
    """Keyword spotting."""
