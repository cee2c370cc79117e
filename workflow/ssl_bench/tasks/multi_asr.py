"""Multilingual speech recognition of ML-SUPERB: the characters of all languages, CER.

ML-SUPERB: the head and settings of ``mono_asr``; 30 epochs of 10,000 batches of 8 (ten minutes of
each language; 20,000 with one hour), gradients of 4 accumulated, that is 75,000 (150,000) updates
of 32. With ``language_token`` every text begins with its language, ``[eng]``, which is one symbol:
the joint task. The token is left out of the character error rate, and the score table has a column
``language_correct``.
"""

import numpy as np
import pandas as pd

from ssl_bench.tasks._ml_superb import LANGUAGE, MLSuperbConfig, MLSuperbTask, first_language
from ssl_bench.tasks._published import ml_superb

RECIPE = ml_superb(iterations=10_000)


class Config(MLSuperbConfig):
    """Keys of multilingual speech recognition."""

    language_token: bool = False
    language_column: str = "language"


class Task(MLSuperbTask):
    """Multilingual speech recognition."""

    def transcripts(self) -> pd.Series:
        characters = super().transcripts()
        if not self.config.language_token:
            return characters
        self.tokens = self.language_tokens(self.config.language_column)
        return self.tokens.map(lambda token: [token]) + characters

    def hypothesis(self, symbols: np.ndarray) -> list[str]:
        return super().hypothesis(
            np.array([s for s in symbols if not LANGUAGE.fullmatch(s)], dtype=object)
        )

    def score(self, split: str, ids: list[str], predictions: list[np.ndarray]) -> pd.DataFrame:
        table = super().score(split, ids, predictions)
        if not self.config.language_token:
            return table
        heard = [first_language(self.symbols[tokens]) for tokens in predictions]
        right = np.array(heard, dtype=object) == self.tokens[ids].to_numpy()
        return table.assign(language_correct=right.astype(np.int64))
