"""Language identification of ML-SUPERB: the recogniser emits one symbol, ``[eng]``; accuracy.

The head and settings of ``multi_asr``. An utterance is right where the first symbol that is decoded
is its language. ``lid`` is the same question with SUPERB's linear utterance head.
"""

from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd

from ssl_bench import metrics
from ssl_bench.tasks._ml_superb import MLSuperbConfig, MLSuperbTask, first_language
from ssl_bench.tasks._published import ml_superb

RECIPE = ml_superb(iterations=10_000)


class Config(MLSuperbConfig):
    """Keys of language identification; ``column`` names the language."""

    column: str = "language"
    metric: Literal["accuracy"] = "accuracy"  # type: ignore[assignment]


class Task(MLSuperbTask):
    """Language identification."""

    higher_is_better: ClassVar[bool] = True
    strip_punctuation = False

    def transcripts(self) -> pd.Series:
        self.tokens = self.language_tokens(self.config.column)
        if self.tokens.nunique() < 2:
            raise self.error(
                f"the corpus has one language only, {self.tokens.iloc[0]!r}; expected several"
            )
        return self.tokens.map(lambda token: [token])

    def score(self, split: str, ids: list[str], predictions: list[Any]) -> pd.DataFrame:
        heard = [first_language(self.symbols[tokens]) for tokens in predictions]
        right = np.array(heard, dtype=object) == self.tokens[ids].to_numpy()
        return pd.DataFrame(
            {"id": ids, "speaker": self.speakers(ids), "correct": right.astype(np.int64)}
        )

    def value(self, scores: pd.DataFrame) -> float:
        return metrics.accuracy(scores["correct"])
