"""IEMOCAP: four emotions, five folds by session, split as SUPERB's ER splits them.

``<root>/Session<n>/sentences/wav/<dialog>/<utterance>.wav``, labels in
``<root>/Session<n>/dialog/EmoEvaluation/<dialog>.txt``. lhotse has no recipe for it.
"""

import re
from pathlib import Path
from typing import Any, Literal

from ssl_bench.corpora import _recordings
from ssl_bench.corpora._recordings import Utterance
from ssl_bench.corpora.base import CorpusConfig
from ssl_bench.errors import StudyError

SESSIONS = (1, 2, 3, 4, 5)
UTTERANCES = (1_085, 1_023, 1_151, 1_031, 1_241)
"""Of the four emotions, by session: 5,531 in all."""
EMOTIONS = {"neu": "neu", "hap": "hap", "exc": "hap", "ang": "ang", "sad": "sad"}
"""Their label → the class; all other labels are left out."""
_LABEL = re.compile(r"\[[^\]]*\]\t(?P<name>\S+)\t(?P<emotion>\w+)\t")
_ORDER = Path(__file__).with_name("iemocap_dialogs.txt")
"""s3prl's order of the dialogs (``downstream/emotion/meta_data``), on which its random split
depends: within a dialog utterances are sorted."""


class Config(CorpusConfig):
    """Keys of an ``iemocap`` corpus.

    ``fold`` N tests on session N. The utterances of the other four are split at random, seed 0,
    into train (80 %) and dev (20 %): the same ones as in s3prl.
    """

    root: str
    fold: Literal[1, 2, 3, 4, 5]


def missing(config: Config) -> list[str]:
    """List the sessions' folders, and the recordings that the labels name, that do not exist."""
    gone = []
    for session in SESSIONS:
        labels = _labels(config, session)
        if not labels.is_dir():
            gone.append(f"{labels}/")
        else:
            gone += _recordings.absent(u.path for u in _utterances(config, session))
    return gone


def published(config: Config) -> dict[str, int]:
    """Return the utterances of each split: test is one session, train 80 % of the others."""
    test = UTTERANCES[config.fold - 1]
    rest = sum(UTTERANCES) - test
    return {"train": int(0.8 * rest), "dev": rest - int(0.8 * rest), "test": test}


def prepare(config: Config, folder: Path, workers: int = 1) -> dict[str, Any]:
    """Return one CutSet per split, label ``emotion``; nothing is written.

    Raises:
        StudyError: files are missing, or recordings cannot be used.
    """
    where = f"iemocap {config.root}"
    _recordings.demand(where, missing(config))
    train, dev = _random_split(
        [u for session in SESSIONS if session != config.fold for u in _utterances(config, session)]
    )
    splits = {"train": train, "dev": dev, "test": _utterances(config, config.fold)}
    return _recordings.cuts(where, splits)


def _random_split(utterances: list[Utterance]) -> tuple[list[Utterance], list[Utterance]]:
    """Split as ``torch.utils.data.random_split`` does after ``torch.manual_seed(0)``."""
    import torch

    order = torch.randperm(len(utterances), generator=torch.Generator().manual_seed(0)).tolist()
    size = int((1 - 0.2) * len(utterances))
    return [utterances[i] for i in order[:size]], [utterances[i] for i in order[size:]]


def _labels(config: Config, session: int) -> Path:
    return Path(config.root) / f"Session{session}" / "dialog" / "EmoEvaluation"


def _utterances(config: Config, session: int) -> list[Utterance]:
    """Return a session's utterances of the four emotions, in s3prl's order."""
    rank = {dialog: i for i, dialog in enumerate(_recordings.lines(_ORDER))}
    files = [
        path for path in _labels(config, session).glob("*.txt") if not path.name.startswith(".")
    ]
    found = []
    for file in sorted(files, key=lambda file: (rank.get(file.stem, len(rank)), file.stem)):
        matches = [_LABEL.match(line) for line in _recordings.lines(file)]
        listed = {match["name"]: match["emotion"] for match in matches if match}
        if not listed:
            raise StudyError(
                f"{file}: no line '[<start> - <end>]<tab><utterance><tab><emotion><tab>…'"
            )
        for name in sorted(listed):
            if listed[name] in EMOTIONS:
                found.append(_utterance(config, session, file.stem, name, listed[name]))
    return found


def _utterance(config: Config, session: int, dialog: str, name: str, emotion: str) -> Utterance:
    sentences = Path(config.root) / f"Session{session}" / "sentences" / "wav" / dialog
    # Ses01F_impro01_M003: in a dialog named after the woman, the man speaks.
    speaker = name[:5] + name.rpartition("_")[2][0]
    labels = {"emotion": EMOTIONS[emotion], "session": str(session)}
    return Utterance(name, sentences / f"{name}.wav", None, speaker, "en", labels)
