"""Speaker identification: the class in column ``speaker``.

SUPERB SID on VoxCeleb1: batch 8 × 4 accumulated, 200,000 steps, random crops of 8 s in training
(not done here). The same speakers are in all splits.
"""

from ssl_bench.tasks._classification import ClassificationConfig, ClassificationTask


class Config(ClassificationConfig):
    """Keys of speaker identification."""

    column: str = "speaker"


class Task(ClassificationTask):
    """Speaker identification."""
