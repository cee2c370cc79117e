"""LibriSpeech (OpenSLR 12): text, and phones from lexicons, as SUPERB's PR and ASR read it.

``<root>/<part>/<speaker>/<chapter>/<speaker>-<chapter>-<n>.flac`` beside
``<speaker>-<chapter>.trans.txt``, read by ``lhotse.recipes.librispeech``. It passes over
transcripts without a recording and knows no phones, so the transcripts are gone through before, and
phones are added to its supervisions.
"""

import re
from pathlib import Path
from typing import Any

from ssl_bench.corpora import _lhotse, _recordings
from ssl_bench.corpora._lhotse import Named
from ssl_bench.corpora._recordings import some
from ssl_bench.corpora.base import SPLITS, Archive, CorpusConfig
from ssl_bench.errors import StudyError

UTTERANCES = {
    "train-clean-100": 28_539,
    "train-clean-360": 104_014,
    "train-other-500": 148_688,
    "dev-clean": 2_703,
    "dev-other": 2_864,
    "test-clean": 2_620,
    "test-other": 2_939,
}
_MD5 = {  # https://www.openslr.org/resources/12/md5sum.txt
    "train-clean-100": "2a93770f6d5c6c964bc36631d331a522",
    "train-clean-360": "c0e676e450a7ff2f54aeade5171606fa",
    "train-other-500": "d1a0fd59409feb2c614ce4d30c387708",
    "dev-clean": "42e2234ba48799c1f50f24a7926300a1",
    "dev-other": "c8d0bcc9cca99d4f8b62fcc847357931",
    "test-clean": "32fa31d27d2e1cad72775fee3f4849a9",
    "test-other": "fb5a50374b501bb3bac4815ee91d3135",
}
ARCHIVES = {
    part: Archive(f"https://www.openslr.org/resources/12/{part}.tar.gz", f"md5:{md5}")
    for part, md5 in _MD5.items()
}
DEFAULT_ARCHIVES = ("train-clean-100", "dev-clean", "test-clean")
_CHARACTERS = re.compile(r"[A-Z' ]+")
"""What transcripts are written with: SUPERB ASR's 28 symbols."""


class Config(CorpusConfig):
    """Keys of a ``librispeech`` corpus.

    ``lexicons`` give the label ``phones``: lines ``<WORD> <phone> …``; of several pronunciations
    the first counts, in the order of the files. SUPERB takes ``librispeech-lexicon-200k-g2p.txt``,
    then ``librispeech-lexicon-allothers-g2p.txt``, and puts no silence between words.
    """

    root: str
    train: str = "train-clean-100"
    dev: str = "dev-clean"
    test: str = "test-clean"
    lexicons: list[str] = []


def inputs(config: Config) -> list[str]:
    """List the lexicons."""
    return list(config.lexicons)


def missing(config: Config) -> list[str]:
    """List the lexicons, parts, transcripts and recordings that do not exist."""
    gone = [name for name in config.lexicons if not Path(name).is_file()]
    for split in SPLITS:
        part = Path(config.root) / getattr(config, split)
        if not part.is_dir():
            gone.append(f"{part}/")
            continue
        chapters = [folder for folder in part.glob("*/*") if folder.is_dir()]
        transcripts = [_transcript(chapter) for chapter in sorted(chapters)]
        gone += [str(path) for path in transcripts if not path.is_file()]
        gone += _recordings.absent(named.path for named in _named(part))
    return gone


def published(config: Config) -> dict[str, int]:
    """Return the utterances of each split that is a published part."""
    parts = {split: getattr(config, split) for split in SPLITS}
    return {split: UTTERANCES[part] for split, part in parts.items() if part in UTTERANCES}


def prepare(config: Config, folder: Path, workers: int = 1) -> dict[str, Any]:
    """Return one CutSet per split; nothing is written.

    Raises:
        StudyError: files are missing, a transcript has a character outside A–Z, apostrophe and
            space, a word is in no lexicon, or recordings cannot be used.
    """
    from lhotse.recipes import prepare_librispeech

    where = f"librispeech {config.root}"
    _recordings.demand(where, missing(config))
    parts = {split: getattr(config, split) for split in SPLITS}
    utterances = {split: _named(Path(config.root) / part) for split, part in parts.items()}
    with _lhotse.reading(where, utterances):
        # It looks for alignments in ``folder``, where there are none.
        read = prepare_librispeech(config.root, folder, list(dict.fromkeys(parts.values())))
    manifests = {split: read[part] for split, part in parts.items()}
    every = [supervision for part in manifests.values() for supervision in part["supervisions"]]
    odd = sorted(f"{s.id}: {s.text!r}" for s in every if not _CHARACTERS.fullmatch(s.text))
    if odd:
        raise StudyError(f"{where}: {some('transcripts are not in A-Z, apostrophe, space', odd)}")
    lexicon = _lexicon(config.lexicons)
    if config.lexicons:
        ordered = sorted(every, key=lambda supervision: supervision.id, reverse=True)
        words = {word: s.id for s in ordered for word in s.text.split()}
        unknown = sorted(f"{word} in {name}" for word, name in words.items() if word not in lexicon)
        if unknown:
            files = ", ".join(config.lexicons)
            raise StudyError(f"{where}: {some(f'words are not in {files}', unknown)}")

    def complete(supervision: Any, named: Named) -> None:
        supervision.language, supervision.custom = "en", {}
        if config.lexicons:
            words = supervision.text.split()
            supervision.custom["phones"] = " ".join(lexicon[word] for word in words)

    return _lhotse.cuts(where, utterances, manifests, complete)


def _transcript(chapter: Path) -> Path:
    return chapter / f"{chapter.parent.name}-{chapter.name}.trans.txt"


def _named(part: Path) -> list[Named]:
    """Return the utterances of all transcripts, by id; each where the recipe looks for it."""
    found = []
    for transcript in part.glob("*/*/*.trans.txt"):
        for number, line in enumerate(_recordings.lines(transcript), start=1):
            name, _, text = line.strip().partition(" ")
            if not text:
                raise StudyError(f"{transcript}:{number}: expected '<utterance> <text>': {line!r}")
            found.append(Named(name, part.joinpath(*name.split("-")[:-1], f"{name}.flac")))
    return sorted(found)


def _lexicon(files: list[str]) -> dict[str, str]:
    """Return the phones of every word: its first pronunciation."""
    lexicon: dict[str, str] = {}
    for file in files:
        for number, line in enumerate(_recordings.lines(Path(file)), start=1):
            if not line.strip():
                continue
            word, *phones = line.split()
            if not phones:
                raise StudyError(f"{file}:{number}: expected '<word> <phone> …', found {line!r}")
            lexicon.setdefault(word, " ".join(phones))
    return lexicon
