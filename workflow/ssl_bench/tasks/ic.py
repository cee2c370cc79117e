"""Intent classification: three slots, all of which must be right.

SUPERB IC on Fluent Speech Commands: sum of three cross-entropies; batch 32, 200,000 steps.
"""

from typing import Any

from pydantic import Field

from ssl_bench.tasks._classification import ClassificationConfig, ClassificationTask
from ssl_bench.tasks._published import superb

RECIPE = superb(
    1e-4,
    steps=200_000,
    every=5_000,
    batch_utterances=32,
    last_batch="smaller",
    scored_utterances=32,
)


class Config(ClassificationConfig):
    """Keys of intent classification."""

    columns: list[str] = Field(["action", "object", "location"], min_length=1)


class Task(ClassificationTask):
    """Intent classification."""

    @staticmethod
    def columns(config: Any) -> list[str]:
        return list(config.columns)
