"""Labels for utterances of noise, of as many classes as the published corpora have.

How large a head is, and how long its loss takes, depends on the number of classes and on the
length of the targets; what they are does not matter.
"""

from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import pandas as pd

CLASSES = {
    "speaker": 1251,  # VoxCeleb1, identification
    "keyword": 12,
    "emotion": 4,
    "action": 6,
    "object": 14,
    "location": 4,
    "language": 143,
    "prosody": 5,
}
VERIFIED = 1211
"""Speakers of VoxCeleb1's training part, which verification learns from."""
SLOTS = 39
"""Of Audio SNIPS."""
CHARACTERS = 5000
"""Of ML-SUPERB's 143 languages, several of which write in Chinese: a guess of ours."""
PHONES_A_SECOND, CHARACTERS_A_SECOND = 10, 14
HELD_OUT = 60
"""Utterances of dev and test together."""
WORD = 5
"""Letters of each word of a text."""


def fewest() -> int:
    """Return how many utterances all classes need."""
    return max(VERIFIED, *CLASSES.values()) + HELD_OUT


def table(kind: str, seconds: np.ndarray) -> pd.DataFrame:
    """Make the utterance table that a task of a kind reads.

    Args:
        kind: of task. Verification has speakers of their own in dev and test, every other task the
            same in all splits; texts of ``multi_asr`` have the characters of all languages.
        seconds: (N,) lengths of the utterances, the last of which are those of dev and test.

    Raises:
        ValueError: there are too few utterances for all classes.
    """
    count = len(seconds)
    if count < fewest():
        raise ValueError(f"found {count} utterances, expected at least {fewest()}, one a class")
    half = HELD_OUT // 2
    splits = np.array(["train"] * (count - HELD_OUT) + ["dev"] * half + ["test"] * half)
    place = np.arange(count)
    columns = {name: [f"{name}{n % classes}" for n in place] for name, classes in CLASSES.items()}
    if kind == "sv":
        most = np.where(splits == "train", VERIFIED, 5)
        columns["speaker"] = [f"{s}{n % m}" for s, n, m in zip(splits, place, most, strict=True)]
    texts = _texts(seconds, _symbols(kind))
    return pd.DataFrame(
        {
            "id": [f"u{n}" for n in place],
            "split": splits,
            "duration": seconds,
            "phones": [" ".join(own) for own in _sequences(seconds, PHONES_A_SECOND, _phones())],
            "text": texts,
            "slots": _slots(texts),
            **columns,
        }
    )


def _phones() -> list[str]:
    path = Path(__file__).resolve().parents[1] / "config" / "phones_superb.txt"
    return path.read_text(encoding="utf-8").split()


def _symbols(kind: str) -> list[str]:
    if kind == "multi_asr":
        return [chr(0x4E00 + n) for n in range(CHARACTERS)]
    return list("ABCDEFGHIJKLMNOPQRSTUVWXYZ'")


def _sequences(seconds: np.ndarray, rate: float, symbols: list[str]) -> Iterator[list[str]]:
    """Yield symbols for each utterance, all of them in turn, so that train has every one."""
    shuffled = np.random.default_rng(0).permutation(symbols).tolist()
    endless = cycle(shuffled)
    for length in seconds:
        yield list(islice(endless, max(1, round(float(length) * rate))))


def _texts(seconds: np.ndarray, symbols: list[str]) -> list[str]:
    """Return texts whose rate counts the spaces between words."""
    rate = CHARACTERS_A_SECOND * WORD / (WORD + 1)
    return [
        " ".join("".join(own[at : at + WORD]) for at in range(0, len(own), WORD))
        for own in _sequences(seconds, rate, symbols)
    ]


def _slots(texts: list[str]) -> list[str]:
    """Return a slot for each word: every other one has none."""
    names = cycle(name for n in range(SLOTS) for name in (f"slot{n}", "O"))
    return [" ".join(islice(names, len(text.split()))) for text in texts]
