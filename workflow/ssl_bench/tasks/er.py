"""Emotion recognition: the class in column ``emotion``.

SUPERB ER on IEMOCAP: batch 4 × 8 accumulated, 30,000 steps, five folds by session. The synthetic
corpus has no emotions but classes of prosody: ``column: prosody``.
"""

from ssl_bench.tasks._classification import ClassificationConfig, ClassificationTask


class Config(ClassificationConfig):
    """Keys of emotion recognition."""

    column: str = "emotion"


class Task(ClassificationTask):
    """Emotion recognition."""
