"""Speaker identification: the class in column ``speaker``.

SUPERB SID on VoxCeleb1: batch 8 × 4 accumulated, 200,000 steps, random crops of 8 s in training.
The same speakers are in all splits.
"""

from ssl_bench.tasks._classification import ClassificationConfig, ClassificationTask
from ssl_bench.tasks._published import superb

RECIPE = superb(
    1e-4,
    steps=200_000,
    every=5_000,
    batch_utterances=32,
    neighbours=8,
    last_batch="smaller",
    crop_seconds=8.0,
    crop="waveform",
)


class Config(ClassificationConfig):
    """Keys of speaker identification."""

    column: str = "speaker"


class Task(ClassificationTask):
    """Speaker identification."""
