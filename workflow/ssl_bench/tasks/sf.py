"""Slot filling: SUPERB's BiLSTM CTC head writes characters and marks of slots.

SUPERB SF on Audio SNIPS: head and SpecAugment of ASR; Adam 1e-4, batch 32, clip 1, 200,000 steps,
the best slot type F1 on dev. Source: s3prl ``downstream/ctc`` (``snips.yaml``, ``text.py``,
``metric.py``). A slot's words stand between one symbol that opens it and one that closes it; what
is not a letter, an apostrophe or a space is ``<unk>``, which is decoded like any other symbol.
"""

import string
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd

from ssl_bench import metrics
from ssl_bench.tasks._bilstm import BiLSTMConfig, recogniser
from ssl_bench.tasks._published import LONG, superb
from ssl_bench.tasks._sequence import SequenceTask
from ssl_bench.tasks._slots import read_slots, type_f1, value_errors

RECIPE = superb(
    1e-4,
    steps=200_000,
    every=2_000,
    batch_utterances=32,
    batches="sliding",
    halve_seconds=LONG,
)
CHARACTERS = [" ", "'", *string.ascii_uppercase]
NONE = "O"


class Config(BiLSTMConfig):
    """Keys of slot filling: words in ``column``, a slot for each of them in ``slots`` (O: none).

    Whatever ``metric`` is not is in the score table, too: the F1 of a row as ``type_f1``, or
    ``value_errors`` with ``value_length``.
    """

    column: str = "text"
    slots: str = "slots"
    metric: Literal["slot_type_f1", "slot_value_cer"] = "slot_type_f1"


class Task(SequenceTask):
    """Slot filling."""

    stackable: ClassVar[bool] = False
    inner_width: ClassVar[str | None] = "hidden"

    def __init__(self, config: Any, table: pd.DataFrame) -> None:
        super().__init__(config, table)
        self.metric = config.metric  # type: ignore[misc]  # the study chooses it
        self.higher_is_better = config.metric == "slot_type_f1"  # type: ignore[misc]
        words = self.labels(config.column).str.upper().str.split()
        slots = self.labels(config.slots).str.split()
        unequal = words.str.len() != slots.str.len()
        if unequal.any():
            raise self.error(
                f"{int(unequal.sum())} utterances do not have one of {config.slots!r} for each "
                f"word of {config.column!r}: {self.some(words.index[unequal])}"
            )
        names = set(slots[self.ids("train")].explode()) - {NONE}
        used = slots.explode()
        unseen = used[~used.isin(names | {NONE})]
        if len(unseen):
            raise self.error(
                f"{unseen.nunique()} {config.slots!r} labels of dev or test are not in train: "
                f"{unseen.iloc[0]!r} in {self.some(unseen.index)}; expected those of train alone"
            )
        marks = [mark for name in sorted(names) for mark in (f"B-{name}", f"E-{name}")]
        known = {*CHARACTERS, *marks}
        transcripts = pd.Series(
            [marked(*pair) for pair in zip(words, slots, strict=True)], index=words.index
        ).map(lambda symbols: [s if s in known else "<unk>" for s in symbols])
        self.read(transcripts, [*CHARACTERS, *marks], eos=True)
        self.truth = transcripts.map(written)

    def head(self, dim: int) -> Any:
        return recogniser(self.config, dim, len(self.symbols))

    def reference(self, utterance: str) -> list[str]:
        return list(self.truth[utterance])

    def hypothesis(self, symbols: np.ndarray) -> list[str]:
        return list(written(symbols.tolist()))

    def score(self, split: str, ids: list[str], predictions: list[Any]) -> pd.DataFrame:
        references = [read_slots(self.truth[utterance], clean=False) for utterance in ids]
        hypotheses = [
            read_slots(written(self.symbols[tokens].tolist()), clean=True) for tokens in predictions
        ]
        pairs = list(zip(references, hypotheses, strict=True))
        f1 = [type_f1(*pair) for pair in pairs]
        counts = np.array([value_errors(*pair) for pair in pairs]).reshape(-1, 2)
        if self.metric == "slot_type_f1":
            names = ("correct", "value_errors", "value_length")
        else:
            names = ("type_f1", "errors", "reference_length")
        columns = dict(zip(names, (f1, counts[:, 0], counts[:, 1]), strict=True))
        return pd.DataFrame({"id": ids, "speaker": self.speakers(ids), **columns})

    def value(self, scores: pd.DataFrame) -> float:
        if self.metric == "slot_type_f1":
            return metrics.accuracy(scores["correct"])
        return metrics.error_rate(scores["errors"], scores["reference_length"])


def marked(words: list[str], slots: list[str]) -> list[str]:
    """Return the symbols of an utterance: characters, spaces, marks where a slot opens and closes.

    Neighbouring words of one slot are one value.
    """
    symbols: list[str] = []
    before, after = [NONE, *slots[:-1]], [*slots[1:], NONE]
    for word, slot, last, following in zip(words, slots, before, after, strict=True):
        symbols += [" "] if symbols else []
        symbols += [f"B-{slot}"] if slot not in (NONE, last) else []
        symbols += list(word)
        symbols += [f"E-{slot}"] if slot not in (NONE, following) else []
    return symbols


def written(symbols: list[str]) -> str:
    """Return symbols as one text, ``B-city NEW YORK E-city``, marks parted by spaces."""
    parts = {"B-": "{} ", "E-": " {}"}
    return "".join(parts.get(symbol[:2], "{}").format(symbol) for symbol in symbols)
