"""VoxCeleb1: who speaks (SUPERB's SID), or whether two recordings are of one speaker (its ASV).

``<root>/{dev,test}/wav/<speaker>/<video>/<n>.wav``. ``lhotse.recipes.voxceleb`` knows neither the
splits of ``veri_test_class.txt`` nor, without a download, the trials, passes over trials whose
recordings are not there, and looks for one tree ``wav`` beside ``vox1_meta.csv``, so the trees are
read here.

An utterance's id is its path below ``wav``, as in the published lists, so that
``voxceleb1_test_v2.txt`` is a ``trials_file`` of ``sv`` as it stands.
"""

import hashlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator

from ssl_bench.corpora import _recordings
from ssl_bench.corpora._recordings import Utterance
from ssl_bench.corpora._silence import trimmed
from ssl_bench.corpora.base import CorpusConfig
from ssl_bench.errors import StudyError

CLASSES = {"1": "train", "2": "dev", "3": "test"}
UTTERANCES = {
    "identification": {"train": 138_361, "dev": 6_904, "test": 8_251},
    "verification": {"test": 4_715},
}
"""Of verification: the recordings that the trials name; how many of train's 148,642 are long enough
without their silence is not published."""
TRIALS = "trials.txt"


class Config(CorpusConfig):
    """Keys of a ``voxceleb1`` corpus.

    ``identification``: the splits of ``classes`` (``<1|2|3> <recording>``: train, dev, test), the
    same speakers in all.

    ``verification``: test are the recordings of ``trials`` (``<1|0> <recording> <recording>``),
    below ``test/wav``; train are all speakers below ``dev/wav``. Silence is cut out
    (``trim_silence``), the level is changed by ``gain`` dB, and train has no utterance of at most
    ``min_samples`` samples then. Dev is one of three:

    * by default, test once more, its ids beginning with ``dev/``: s3prl holds nobody out and
      reports the best test EER of its checkpoints;
    * the speakers of ``dev_trials``, a list like ``trials`` of recordings below ``dev/wav``;
    * ``dev_speakers`` speakers, chosen by the hash of their names.

    Speakers of dev are not in train. ``trials.txt`` in the corpus's folder has the trials of test
    and those of dev, where dev has a list.
    """

    root: str
    protocol: Literal["identification", "verification"]
    classes: str | None = None
    """By default ``veri_test_class.txt`` in ``root``."""
    trials: str | None = None
    """By default ``voxceleb1_test_v2.txt`` in ``root``."""
    dev_trials: str | None = None
    dev_speakers: int = Field(0, ge=0)
    min_samples: int = Field(32_000, ge=0)
    trim_silence: bool = True
    gain: float = -3.0

    @model_validator(mode="after")
    def _one_dev(self) -> "Config":
        if self.dev_trials is not None and self.dev_speakers:
            raise StudyError("voxceleb1: give dev_trials or dev_speakers, found both")
        foreign = {"classes"} if self.protocol == "verification" else set(_VERIFICATION)
        for key in sorted(foreign & self.model_fields_set):
            raise StudyError(f"voxceleb1: {key} is no key of protocol {self.protocol!r}")
        return self


_VERIFICATION = ("trials", "dev_trials", "dev_speakers", "min_samples", "trim_silence", "gain")


def inputs(config: Config) -> list[str]:
    """List the files that say which recordings are used."""
    return [str(path) for path in _lists(config)]


def missing(config: Config) -> list[str]:
    """List the lists and trees, and the recordings that the lists name, that do not exist."""
    gone = [str(path) for path in _lists(config) if not path.is_file()]
    trees = [_tree(config, name) for name in ("dev", "test")]
    gone += [f"{tree}/" for tree in trees if not tree.is_dir()]
    if gone:
        return gone
    named = [*_named(config).values()]
    if config.protocol == "verification" and _classes(config).is_file():
        named += _by_class(config).values()  # the one published list that has all of dev
    return _recordings.absent(dict.fromkeys(u.path for listed in named for u in listed))


def published(config: Config) -> dict[str, int]:
    """Return the utterances of each split whose number is published."""
    return UTTERANCES[config.protocol]


def prepare(config: Config, folder: Path, workers: int = 1) -> dict[str, Any]:
    """Return one CutSet per split; verification writes ``folder/trials.txt``.

    Raises:
        StudyError: files are missing, a list is not in order, or recordings cannot be used.
    """
    where = f"voxceleb1 {config.root}"
    _recordings.demand(where, missing(config))
    if config.protocol == "identification":
        return _recordings.cuts(where, _named(config))
    (Path(folder) / TRIALS).write_text("".join(f"{line}\n" for line in _all_trials(config)))
    return _recordings.cuts(where, _verification(config))


def process(config: Config, split: str, samples: np.ndarray) -> np.ndarray | None:
    """Prepare a recording of verification as s3prl does; None: too short to train on."""
    if config.protocol == "identification":
        return samples
    samples = samples * np.float32(10 ** (config.gain / 20))
    if config.trim_silence:
        samples = trimmed(samples)
    return None if split == "train" and len(samples) <= config.min_samples else samples


def _tree(config: Config, name: str) -> Path:
    return Path(config.root) / name / "wav"


def _classes(config: Config) -> Path:
    return Path(config.classes or Path(config.root) / "veri_test_class.txt")


def _trials(config: Config) -> Path:
    return Path(config.trials or Path(config.root) / "voxceleb1_test_v2.txt")


def _lists(config: Config) -> list[Path]:
    if config.protocol == "identification":
        return [_classes(config)]
    return [_trials(config), *([Path(config.dev_trials)] if config.dev_trials else [])]


def _utterance(tree: Path, name: str, prefix: str = "") -> Utterance:
    return Utterance(prefix + name, tree / name, speaker=name.partition("/")[0])


def _named(config: Config) -> dict[str, list[Utterance]]:
    """Return the utterances that the protocol's lists name, by split."""
    if config.protocol == "identification":
        return _by_class(config)
    named = {"test": _of_trials(_trials(config), _tree(config, "test"))}
    if config.dev_trials:
        named["dev"] = _of_trials(Path(config.dev_trials), _tree(config, "dev"))
    return named


def _by_class(config: Config) -> dict[str, list[Utterance]]:
    in_test = {path.name for path in _tree(config, "test").iterdir()}
    named: dict[str, list[Utterance]] = {split: [] for split in CLASSES.values()}
    file = _classes(config)
    for number, line in enumerate(_recordings.lines(file), start=1):
        fields = line.split()
        if not fields:
            continue
        if len(fields) != 2 or fields[0] not in CLASSES or fields[1].count("/") != 2:
            raise StudyError(f"{file}:{number}: expected '<1|2|3> <speaker/video/n.wav>': {line!r}")
        speaker = fields[1].partition("/")[0]
        tree = _tree(config, "test" if speaker in in_test else "dev")
        named[CLASSES[fields[0]]].append(_utterance(tree, fields[1]))
    return named


def _read_trials(file: Path) -> list[tuple[str, str, str]]:
    read = []
    for number, line in enumerate(_recordings.lines(file), start=1):
        fields = line.split()
        if not fields:
            continue
        if len(fields) != 3 or fields[0] not in ("0", "1"):
            raise StudyError(f"{file}:{number}: expected '<1|0> <recording> <recording>': {line!r}")
        read.append((fields[0], fields[1], fields[2]))
    return read


def _of_trials(file: Path, tree: Path, prefix: str = "") -> list[Utterance]:
    names = {name for _, a, b in _read_trials(file) for name in (a, b)}
    return [_utterance(tree, name, prefix) for name in sorted(names)]


def _verification(config: Config) -> dict[str, list[Utterance]]:
    tree = _tree(config, "dev")
    paths = sorted(tree.glob("*/*/*.wav"))
    every = [_utterance(tree, path.relative_to(tree).as_posix()) for path in paths]
    splits = _named(config)
    if config.dev_speakers:
        speakers = {str(utterance.speaker) for utterance in every}
        if config.dev_speakers >= len(speakers):
            raise StudyError(
                f"voxceleb1: dev_speakers is {config.dev_speakers}, but {tree} has only "
                f"{len(speakers)} speakers"
            )
        ranked = sorted(speakers, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
        held = set(ranked[: config.dev_speakers])
        splits["dev"] = [utterance for utterance in every if utterance.speaker in held]
    elif not config.dev_trials:
        splits["dev"] = _of_trials(_trials(config), _tree(config, "test"), "dev/")
    held_out = {utterance.speaker for utterance in splits["dev"]}
    splits["train"] = [utterance for utterance in every if utterance.speaker not in held_out]
    return splits


def _all_trials(config: Config) -> list[str]:
    test = _read_trials(_trials(config))
    if config.dev_trials:
        dev = _read_trials(Path(config.dev_trials))
    elif config.dev_speakers:
        dev = []
    else:
        dev = [(label, f"dev/{a}", f"dev/{b}") for label, a, b in test]
    return [" ".join(trial) for trial in (*test, *dev)]
