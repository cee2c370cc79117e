"""Fluent Speech Commands: spoken commands with an action, an object and a location (SUPERB's IC).

``<root>/data/{train,valid,test}_data.csv`` and ``<root>/wavs/speakers/<speaker>/<utterance>.wav``.
``lhotse.recipes.slu`` has no return value (lhotse 1.33), no speakers, and numbers for ids, so the
lists are read here.
"""

from pathlib import Path
from typing import Any

from ssl_bench.corpora import _recordings, _rows
from ssl_bench.corpora._recordings import Utterance
from ssl_bench.corpora.base import CorpusConfig
from ssl_bench.errors import StudyError, no_column

LISTS = {"train": "train_data.csv", "dev": "valid_data.csv", "test": "test_data.csv"}
SLOTS = ("action", "object", "location")
COLUMNS = ("path", "speakerId", "transcription", *SLOTS)
"""Of its lists."""
UTTERANCES = {"train": 23_132, "dev": 3_118, "test": 3_793}


class Config(CorpusConfig):
    """Keys of a ``fluent_speech_commands`` corpus: ``root`` has the folders data and wavs."""

    root: str


def inputs(config: Config) -> list[str]:
    """List the three lists."""
    return [str(_list(config, split)) for split in LISTS]


def missing(config: Config) -> list[str]:
    """List the lists, and the recordings that they name, that do not exist."""
    gone = [str(_list(config, split)) for split in LISTS if not _list(config, split).is_file()]
    for split in LISTS:
        if _list(config, split).is_file():
            gone += _recordings.absent(u.path for u in _utterances(config, split))
    return gone


def published(config: Config) -> dict[str, int]:
    """Return the utterances of each split."""
    return UTTERANCES


def prepare(config: Config, folder: Path, workers: int = 1) -> dict[str, Any]:
    """Return one CutSet per split, labels ``action``, ``object`` and ``location``.

    Utterances are in the order of the lists. Nothing is written.

    Raises:
        StudyError: files are missing, a list is not in order, or recordings cannot be used.
    """
    where = f"fluent_speech_commands {config.root}"
    _recordings.demand(where, missing(config))
    return _recordings.cuts(where, {split: _utterances(config, split) for split in LISTS})


def _list(config: Config, split: str) -> Path:
    return Path(config.root) / "data" / LISTS[split]


def _utterances(config: Config, split: str) -> list[Utterance]:
    file = _list(config, split)
    columns, rows = _rows.read(file)
    for name in COLUMNS:
        if name not in columns:
            raise StudyError(f"{file}: {no_column(name, filter(None, columns), COLUMNS)}")
    utterances = []
    for row in rows:
        cells = row.cells
        empty = [name for name in ("path", *SLOTS) if not cells[name]]
        if empty:
            raise StudyError(
                f"{file}: row {row.number}: {empty[0]}: expected a value, found an empty cell"
            )
        utterances.append(
            Utterance(
                Path(cells["path"]).with_suffix("").as_posix(),
                Path(config.root) / cells["path"],
                cells["transcription"] or None,
                cells["speakerId"] or None,
                "en",
                {slot: cells[slot] for slot in SLOTS},
            )
        )
    return utterances
