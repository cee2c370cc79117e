"""ML-SUPERB 1.0: 143 languages, ten minutes or one hour of each to train on.

``<root>/<dataset>/<iso>/wav/<utterance>.wav``, ``transcript_{10min,1h}_train.txt``,
``transcript_10min_{dev,test}.txt``, lines ``<utterance> <field> <text>``. lhotse has no recipe for
it; what is done here is what ESPnet's does (``egs2/ml_superb/asr1``: ``local/data_prep.py``,
``local/single_lang_data_prep.py``, ``local/data.sh``, stage 4 of ``asr.sh``).
"""

import re
import string
from pathlib import Path
from typing import Any, Literal

from pydantic import field_validator

from ssl_bench.corpora import _recordings
from ssl_bench.corpora._phonetic import PACKAGES, phonetic
from ssl_bench.corpora._recordings import Utterance
from ssl_bench.corpora.base import SPLITS, CorpusConfig
from ssl_bench.errors import StudyError, suggest
from ssl_bench.progress import say

DATASETS = (
    "ALFFA",
    "LAD",
    "M-AILABS",
    "NST",
    "commonvoice",
    "fleurs",
    "googlei18n_asr",
    "googlei18n_tts",
    "mls",
    "nchlt",
    "swc",
    "voxforge",
    "mexico-el",
    "voxpopuli",
)
MONOLINGUAL = {
    "eng1": "mls",
    "eng2": "nchlt",
    "eng3": "voxpopuli",
    "fra1": "voxforge",
    "fra2": "voxpopuli",
    "deu1": "swc",
    "deu2": "voxpopuli",
    "rus": "M-AILABS",
    "swa": "ALFFA",
    "swe": "NST",
    "jpn": "commonvoice",
    "cmn": "fleurs",
    "xty": "mexico-el",
}
"""A monolingual set → the dataset that it trains on; its first three letters are the language."""
MULTILINGUAL = "multilingual"
SHORTEST, LONGEST = 0.1, 20.0
"""Seconds of what is used of train and dev."""
FEW_SHOT = Path(__file__).with_name("ml_superb_few_shot.txt")
"""The 20 reserved languages, and the five utterances of each that are trained on."""
EMPTY = ("swc/eng", "swc/nld")
"""Datasets' languages with recordings that hold nothing, listed in ESPnet's recipe."""
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_BRACKETED = re.compile(r"\[[^()]*\]")
_EMPTY = 44
"""Bytes of a WAV file with no samples."""


class Config(CorpusConfig):
    """Keys of an ``ml_superb`` corpus.

    ``track`` is one of the 13 monolingual sets, ``eng1`` … ``xty``, or ``multilingual`` (ASR and
    LID). A monolingual set trains and selects on one dataset and is tested on every dataset of its
    language. ``reserved``: of the 20 reserved languages ``few_shot`` trains on the five published
    utterances, ``zero_shot`` on none; ``none`` leaves them out of dev and test, too.
    """

    root: str
    track: str
    train: Literal["10min", "1h"]
    reserved: Literal["few_shot", "zero_shot", "none"] = "few_shot"
    phones: bool = True
    """Give the label ``phones`` to the tracks that are scored by them, ``cmn`` and ``jpn``."""

    @field_validator("track")
    @classmethod
    def _known(cls, track: str) -> str:
        if track not in (*MONOLINGUAL, MULTILINGUAL):
            known = suggest(track, [*MONOLINGUAL, MULTILINGUAL])
            raise StudyError(f"ml_superb: track: unknown {track!r}; {known}")
        return track


def missing(config: Config) -> list[str]:
    """List the datasets, lists and recordings that do not exist.

    All 14 datasets are needed, for the test set of a language pools them; which languages a dataset
    has is what its folders say (but see :func:`lacking`).
    """
    root = Path(config.root)
    gone = [f"{root / dataset}/" for dataset in DATASETS if not (root / dataset).is_dir()]
    if config.track != MULTILINGUAL and not gone:
        folder = root / MONOLINGUAL[config.track] / config.track[:3]
        gone = [] if folder.is_dir() else [f"{folder}/"]
    if gone:
        return gone
    lists = [file for split in SPLITS for file in _lists(config, split)]
    gone = [str(file) for file in lists if not file.is_file()]
    for split in SPLITS:
        for file in _lists(config, split):
            if file.is_file():
                gone += _recordings.absent(u.path for u in _listed(config, split, file))
    return gone


def lacking(config: Config) -> list[str]:
    """List the languages' folders that do not exist although published lists name them.

    These lists are of the 13 sets, of the reserved languages' utterances and of empty recordings:
    all that we found of which dataset has which language, and far from all. A dataset that is not
    there is told by :func:`missing`.
    """
    named = {f"{dataset}/{track[:3]}" for track, dataset in MONOLINGUAL.items()} | {*EMPTY}
    if config.track != MULTILINGUAL:
        named = {folder for folder in named if folder.endswith(f"/{config.track[:3]}")}
    elif config.reserved != "none":
        named |= {
            f"{_dataset(name.split(f'_{language}_')[0])}/{language}"
            for language, names in _few_shot().items()
            for name in names
        }
    folders = [Path(config.root) / folder for folder in sorted(named)]
    return [f"{f}/" for f in folders if f.parent.is_dir() and not f.is_dir()]


def prepare(config: Config, folder: Path, workers: int = 1) -> dict[str, Any]:
    """Return one CutSet per split; nothing is written.

    Labels: ``dataset``, ``reserved`` (``yes`` or ``no``) and, for cmn and jpn, ``phones``. Text is
    upper case and has no ASCII punctuation; the multilingual track loses what is in brackets, too.

    Raises:
        StudyError: files are missing, a list is not in order, or recordings cannot be used.
    """
    where = f"ml_superb {config.track} {config.root}"
    _recordings.demand(where, missing(config))
    splits = {split: _utterances(config, split) for split in SPLITS}
    for split, listed in splits.items():
        splits[split] = [u for u in listed if u.text and not _is_empty(u)]
        if len(splits[split]) < len(listed):
            left = len(listed) - len(splits[split])
            say(f"{where}: {split}: {left} of {len(listed)} utterances have no text or no sound")
    if config.phones and config.track in PACKAGES:
        convert = phonetic(config.track)
        splits = {split: [_spoken(u, convert) for u in listed] for split, listed in splits.items()}
    return _recordings.cuts(
        where,
        splits,
        lambda split, seconds: split == "test" or SHORTEST <= seconds <= LONGEST,
    )


def normalised(text: str, multilingual: bool) -> str:
    """Return a transcript as it is trained on and scored."""
    if multilingual:
        text = _BRACKETED.sub("", text)
    return " ".join(text.translate(_PUNCTUATION).upper().split())


def _lists(config: Config, split: str) -> list[Path]:
    """Return the transcripts of a split, dataset by dataset."""
    root = Path(config.root)
    name = f"transcript_{config.train if split == 'train' else '10min'}_{split}.txt"
    if config.track == MULTILINGUAL:
        folders = [
            folder
            for dataset in DATASETS
            for folder in sorted((root / dataset).iterdir())
            if folder.is_dir()
        ]
    else:
        language = config.track[:3]
        trained = [MONOLINGUAL[config.track]]
        folders = [root / d / language for d in (DATASETS if split == "test" else trained)]
        folders = [folder for folder in folders if folder.is_dir()]
    return [folder / name for folder in folders]


def _utterances(config: Config, split: str) -> list[Utterance]:
    return [u for file in _lists(config, split) for u in _listed(config, split, file)]


def _listed(config: Config, split: str, file: Path) -> list[Utterance]:
    """Return the utterances of one list that the track uses."""
    dataset, language = file.parts[-3:-1]
    multilingual = config.track == MULTILINGUAL
    few = _few_shot()
    reserved = multilingual and language in few
    if reserved and config.reserved == "none":
        return []
    trained = few.get(language, set()) if config.reserved == "few_shot" else set()
    found = []
    for number, line in enumerate(_recordings.lines(file), start=1):
        fields = line.split(maxsplit=2)
        if not fields:
            continue
        if len(fields) != 3:
            raise StudyError(f"{file}:{number}: expected '<utterance> <field> <text>': {line!r}")
        name, _, text = fields
        if reserved and split == "train" and name not in trained:
            continue
        found.append(
            Utterance(
                name,
                file.parent / "wav" / f"{name}.wav",
                normalised(text, multilingual),
                None,
                language,
                {"dataset": dataset, "reserved": "yes" if language in few else "no"},
            )
        )
    return found


def _few_shot() -> dict[str, set[str]]:
    rows = [line.split() for line in _recordings.lines(FEW_SHOT)]
    return {language: set(names) for language, *names in rows}


def _dataset(prefix: str) -> str:
    """Return the dataset whose utterances' names begin so."""
    return {"cv": "commonvoice", **{name.replace("_", "-"): name for name in DATASETS}}[prefix]


def _is_empty(utterance: Utterance) -> bool:
    listed = f"{utterance.labels['dataset']}/{utterance.language}" in EMPTY
    return listed and utterance.path.stat().st_size <= _EMPTY


def _spoken(utterance: Utterance, convert: Any) -> Utterance:
    phones = " ".join(convert(utterance.text or ""))
    return utterance._replace(labels={**utterance.labels, "phones": phones})
