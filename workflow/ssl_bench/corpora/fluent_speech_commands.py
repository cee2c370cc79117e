"""Fluent Speech Commands: spoken commands with an action, an object and a location (SUPERB's IC).

``<root>/data/{train,valid,test}_data.csv`` and ``<root>/wavs/speakers/<speaker>/<utterance>.wav``.
Read by ``lhotse.recipes.slu``, whose only result (lhotse 1.33) is the files that it writes. It has
no speakers, numbers for ids, and takes an empty cell for a label, so the lists are gone through
before, and ids and speakers are theirs.
"""

import tempfile
from pathlib import Path
from typing import Any

from ssl_bench.corpora import _lhotse, _recordings, _rows
from ssl_bench.corpora._lhotse import Named
from ssl_bench.corpora.base import CorpusConfig
from ssl_bench.errors import StudyError, no_column

NAMES = {"train": "train", "dev": "valid", "test": "test"}
LISTS = {split: f"{name}_data.csv" for split, name in NAMES.items()}
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
            gone += _recordings.absent(named.path for named in _named(config, split))
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
    utterances = {split: _named(config, split) for split in LISTS}
    with _lhotse.reading(where, utterances):
        manifests = _manifests(config)
    return _lhotse.cuts(where, utterances, manifests, _complete)


def _manifests(config: Config) -> dict[str, _lhotse.Manifests]:
    """Run the recipe and read what it has written."""
    from lhotse import RecordingSet, SupervisionSet
    from lhotse.recipes.slu import prepare_slu

    with tempfile.TemporaryDirectory() as made:
        prepare_slu(config.root, made)
        stem = f"{made}/slu_{{}}_{{}}.jsonl.gz"
        return {
            split: {
                "recordings": RecordingSet.from_file(stem.format("recordings", name)).to_eager(),
                "supervisions": SupervisionSet.from_file(
                    stem.format("supervisions", name)
                ).to_eager(),
            }
            for split, name in NAMES.items()
        }


def _complete(supervision: Any, named: Named) -> None:
    # an empty cell is NaN there
    text, *labels = (
        said.strip() if isinstance(said, str) else None
        for said in (supervision.text, *supervision.custom["frames"])
    )
    supervision.text, supervision.custom = text, dict(zip(SLOTS, labels, strict=True))
    supervision.start, supervision.language, supervision.speaker = 0.0, "en", named.speaker


def _list(config: Config, split: str) -> Path:
    return Path(config.root) / "data" / LISTS[split]


def _named(config: Config, split: str) -> list[Named]:
    file = _list(config, split)
    columns, rows = _rows.read(file)
    for name in COLUMNS:
        if name not in columns:
            raise StudyError(f"{file}: {no_column(name, filter(None, columns), COLUMNS)}")
    named = []
    for row in rows:
        cells = row.cells
        empty = [name for name in ("path", *SLOTS) if not cells[name]]
        if empty:
            raise StudyError(
                f"{file}: row {row.number}: {empty[0]}: expected a value, found an empty cell"
            )
        name = Path(cells["path"]).with_suffix("").as_posix()
        named.append(Named(name, Path(config.root) / cells["path"], cells["speakerId"] or None))
    return named
