"""Text as characters, for speech recognition."""

import string
from typing import Any, Literal

import numpy as np
import pandas as pd

from ssl_bench.tasks._sequence import SequenceTask
from ssl_bench.tasks.base import TaskConfig

SPACE = "|"
UNKNOWN = "\N{REPLACEMENT CHARACTER}"
"""Stands for a decoded spare symbol: one character, and never the right one."""
PUNCTUATION = str.maketrans("", "", string.punctuation)


class CharacterConfig(TaskConfig):
    """Keys of speech recognition tasks."""

    column: str = "text"
    metric: Literal["wer", "cer"] = "wer"


class CharacterTask(SequenceTask):
    """Recognise upper-case characters; count errors in words or in characters with spaces.

    Symbols are those of the train split. A character that only dev or test has can never be
    recognised and counts as an error, as it does in the published recipes.
    """

    strip_punctuation = False
    word_end = False
    """Whether a target ends with the space symbol, too."""
    eos = False

    def __init__(self, config: Any, table: pd.DataFrame) -> None:
        super().__init__(config, table)
        self.metric = config.metric  # type: ignore[misc]  # the study chooses it
        self.texts = self.labels(config.column).map(self.normalised)
        empty = self.texts == ""
        if empty.any():
            raise self.error(
                f"{int(empty.sum())} texts in column {config.column!r} have no characters but "
                f"punctuation: {self.some(self.texts.index[empty])}; expected some in each"
            )
        self.select()
        transcripts = self.transcripts()
        self.read(transcripts, sorted(set(transcripts[self.ids("train")].explode())), self.eos)

    def select(self) -> None:
        """Drop the utterances that the task does not use."""

    def transcripts(self) -> pd.Series:
        """Return each utterance's symbols, a list: its characters."""
        end = SPACE if self.word_end else ""
        return self.texts.map(lambda text: list(text.replace(" ", SPACE) + end))

    def normalised(self, text: str) -> str:
        """Return a text as it is trained on and scored."""
        if self.strip_punctuation:
            text = text.translate(PUNCTUATION)
        return " ".join(text.upper().replace(SPACE, " ").split())

    def _units(self, text: str) -> list[str]:
        return text.split() if self.metric == "wer" else list(text)

    def reference(self, utterance: str) -> list[str]:
        return self._units(self.texts[utterance])

    def hypothesis(self, symbols: np.ndarray) -> list[str]:
        text = "".join(UNKNOWN if symbol in self.spare else symbol for symbol in symbols)
        return self._units(" ".join(text.replace(SPACE, " ").split()))
