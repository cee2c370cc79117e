"""Audio SNIPS: requests to an assistant in synthetic voices, with slots, as SUPERB's SF reads them.

``<root>/{train,valid,test}/<Speaker>-snips-<split>-<n>.wav`` and ``<root>/all.iob.snips.txt``,
lines ``<utterance> BOS <word> … EOS<tab>O <slot> … <intent>``, as s3prl's
``snips_prepare_data.sh`` makes them. lhotse has no recipe for it.
"""

from pathlib import Path
from typing import Any

from ssl_bench.corpora import _recordings
from ssl_bench.corpora._recordings import Utterance
from ssl_bench.corpora.base import CorpusConfig
from ssl_bench.errors import StudyError

FOLDERS = {"train": "train", "dev": "valid", "test": "test"}
SPEAKERS = {
    "train": ("Ivy", "Joanna", "Joey", "Justin", "Kendra", "Kimberly", "Matthew", "Salli"),
    "dev": ("Aditi", "Amy", "Geraint", "Nicole"),
    "test": ("Brian", "Emma", "Raveena", "Russell"),
}
"""SUPERB's speakers of each split; those of the others are left out."""
UTTERANCES = {"train": 104_672, "dev": 2_800, "test": 2_800}
TRANSCRIPTS = "all.iob.snips.txt"
_PUNCTUATION = "?!.,;-"


class Config(CorpusConfig):
    """Keys of a ``snips`` corpus: ``root`` has the three folders and the transcripts."""

    root: str


def inputs(config: Config) -> list[str]:
    """List the transcripts."""
    return [str(Path(config.root) / TRANSCRIPTS)]


def missing(config: Config) -> list[str]:
    """List the transcripts, or the recordings that they name, that do not exist."""
    transcripts = Path(config.root) / TRANSCRIPTS
    if not transcripts.is_file():
        return [str(transcripts)]
    return _recordings.absent(u.path for listed in _utterances(config).values() for u in listed)


def published(config: Config) -> dict[str, int]:
    """Return the utterances of each split."""
    return UTTERANCES


def prepare(config: Config, folder: Path, workers: int = 1) -> dict[str, Any]:
    """Return one CutSet per split; nothing is written.

    Labels: ``slots``, one for each word of ``text`` (``O``: none), and ``intent``. As in s3prl,
    words of punctuation are dropped and ``&`` is ``AND``.

    Raises:
        StudyError: files are missing, a line is not in order, or recordings cannot be used.
    """
    where = f"snips {config.root}"
    _recordings.demand(where, missing(config))
    return _recordings.cuts(where, _utterances(config))


def _utterances(config: Config) -> dict[str, list[Utterance]]:
    file = Path(config.root) / TRANSCRIPTS
    found: dict[str, list[Utterance]] = {split: [] for split in FOLDERS}
    for number, line in enumerate(_recordings.lines(file), start=1):
        if not line.strip():
            continue
        spoken, _, labels = line.strip().partition("\t")
        name, *words = spoken.split()
        slots = labels.split()
        if len(words) != len(slots) or len(words) < 3 or name.count("-") != 3:
            raise StudyError(
                f"{file}:{number}: expected '<speaker>-snips-<split>-<n> BOS <word> … EOS<tab>"
                f"O <slot> … <intent>', found {line!r}"
            )
        speaker, _, part, _ = name.split("-")
        for split, folder in FOLDERS.items():
            if part == folder and speaker in SPEAKERS[split]:
                path = Path(config.root) / folder / f"{name}.wav"
                found[split].append(_utterance(name, path, speaker, words, slots))
    return {split: sorted(listed, key=lambda u: u.id) for split, listed in found.items()}


def _utterance(
    name: str, path: Path, speaker: str, words: list[str], slots: list[str]
) -> Utterance:
    pairs = [
        ("AND" if word == "&" else word, slot)
        for word, slot in zip(words[1:-1], slots[1:-1], strict=True)
        if word not in _PUNCTUATION
    ]
    labels = {"slots": " ".join(slot for _, slot in pairs), "intent": slots[-1]}
    return Utterance(name, path, " ".join(word for word, _ in pairs), speaker, "en", labels)
