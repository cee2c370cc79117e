"""Emotion recognition: the class in column ``emotion``.

SUPERB ER on IEMOCAP: batch 4 × 8 accumulated, 30,000 steps; five folds by session, whose accuracies
are averaged: five tasks and an entry in the study's ``averages``. The synthetic corpus has no
emotions but classes of prosody: ``column: prosody``.
"""

from ssl_bench.tasks._classification import ClassificationConfig, ClassificationTask
from ssl_bench.tasks._published import superb

RECIPE = superb(
    1e-4,
    steps=30_000,
    every=1_000,
    batch_utterances=32,
    neighbours=4,
    last_batch="smaller",
    scored_utterances=4,
)


class Config(ClassificationConfig):
    """Keys of emotion recognition."""

    column: str = "emotion"


class Task(ClassificationTask):
    """Emotion recognition."""
