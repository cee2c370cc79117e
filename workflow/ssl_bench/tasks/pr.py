"""Phone recognition: SUPERB's linear CTC head, phone error rate.

SUPERB PR on LibriSpeech: Adam 1e-2, batch 16 × 2 accumulated, clip 1, 100,000 steps, no
SpecAugment. s3prl (``downstream/ctc``) appends ``<eos>`` to every target and drops it from what is
decoded, so it counts in the loss's target length and not in the error rate; its indices start
with ``<pad>`` (the blank), ``<eos>``, ``<unk>``; an ``<unk>`` that is decoded is an error. The same
is done here.
"""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from pydantic import Field
from torch import nn

from ssl_bench.heads.activation import Activation
from ssl_bench.heads.frame_linear import FrameLinearHead
from ssl_bench.tasks._published import LONG, superb
from ssl_bench.tasks._sequence import SequenceTask
from ssl_bench.tasks.base import TaskConfig

RECIPE = superb(
    1e-2,
    steps=100_000,
    every=1_000,
    batch_utterances=32,
    batches="sliding",
    neighbours=16,
    halve_seconds=LONG,
)


class Config(TaskConfig):
    """Keys of phone recognition.

    ``activation: relu`` puts one ReLU between the head's two linear layers (not published).
    ``vocabulary_file`` lists the phones, one a line; without it they are those of the train split.
    """

    column: str = "phones"
    hidden: int = Field(256, ge=1)
    activation: Activation = "none"
    eos: bool = True
    vocabulary_file: str | None = None


class Task(SequenceTask):
    """Phone recognition."""

    metric: ClassVar[str] = "per"
    inner_width: ClassVar[str | None] = "hidden"

    def __init__(self, config: Any, table: pd.DataFrame) -> None:
        super().__init__(config, table)
        self.phones = self.labels(config.column).str.split()
        self.read(self.phones, self._vocabulary(), config.eos)

    def _vocabulary(self) -> list[str]:
        if self.config.vocabulary_file is None:
            source = "the train split"
            phones = set(self.phones[self.ids("train")].explode())
        else:
            source = self.config.vocabulary_file
            path = Path(source)
            if not path.is_file():
                raise self.error(f"no vocabulary_file {source!r}; expected a list of phones")
            phones = set(path.read_text(encoding="utf-8").split())
        used = self.phones.explode()
        unknown = used[~used.isin(phones)]
        if len(unknown):
            first = unknown.drop_duplicates()
            shown = [
                f"{phone!r} in {name} ({self.rows.at[name, 'split']})"
                for name, phone in first.head(3).items()
            ]
            raise self.error(
                f"{len(first)} phones of column {self.config.column!r} are not in {source}: "
                f"{', '.join(shown)}{', …' if len(first) > len(shown) else ''}; "
                "expected all to be: drop these utterances or list all phones in a vocabulary_file"
            )
        return sorted(phones)

    def head(self, dim: int) -> nn.Module:
        classes = len(self.symbols)
        return FrameLinearHead(dim, self.config.hidden, classes, self.config.activation)

    def reference(self, utterance: str) -> list[str]:
        return self.phones[utterance]

    def hypothesis(self, symbols: np.ndarray) -> list[str]:
        return symbols.tolist()
