"""Speech Commands v0.01: twelve classes, as SUPERB's KS reads them.

``<root>/<word>/<speaker>_nohash_<n>.wav`` with ``<root>/_background_noise_/*.wav``, and the
official test set apart, ``<test_root>/<class>/*.wav``. ``lhotse.recipes.speechcommands`` looks for
both below one folder, splits by ``validation_list.txt``, where s3prl hashes names, and takes each
file of noise whole as one utterance, so the folders are read here.
"""

import hashlib
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ssl_bench import audio
from ssl_bench.corpora import _recordings
from ssl_bench.corpora._recordings import Utterance
from ssl_bench.corpora.base import Archive, CorpusConfig

WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
UNKNOWN, SILENCE, NOISE = "_unknown_", "_silence_", "_background_noise_"
ARCHIVES = {
    # The test set has no published checksum, so it is not downloaded.
    "speech_commands_v0.01": Archive(
        "http://download.tensorflow.org/data/speech_commands_v0.01.tar.gz",
        "sha256:743935421bb51cccdb6bdd152e04c5c70274e935c82119ad7faeec31780d811d",
        "speech_commands_v0.01",
    )
}
DEFAULT_ARCHIVES = tuple(ARCHIVES)
_MOST = 2**27 - 1
_DEV_SECOND = 5
"""Of the noise's seconds each fifth is for dev."""


class Config(CorpusConfig):
    """Keys of a ``speech_commands`` corpus.

    Silence is the seconds of the background noise, in turn four for train and one for dev; s3prl
    draws a random second of the same files for both. With ``silence: files`` train has each file
    whole, of which training on waveform crops of one second draws as s3prl does. ``gain`` changes
    the level, in dB.
    """

    root: str
    test_root: str
    silence: Literal["seconds", "files"] = "seconds"
    gain: float = -3.0


def missing(config: Config) -> list[str]:
    """List the folders of words and of classes that do not exist."""
    folders = [Path(config.root) / name for name in (*WORDS, NOISE)]
    folders += [Path(config.test_root) / name for name in (*WORDS, UNKNOWN, SILENCE)]
    return [f"{folder}/" for folder in folders if not any(folder.glob("*.wav"))]


def prepare(config: Config, folder: Path, workers: int = 1) -> dict[str, Any]:
    """Return one CutSet per split, label ``keyword``; nothing is written.

    Raises:
        StudyError: folders are missing or empty, or recordings cannot be used.
    """
    where = f"speech_commands {config.root}"
    _recordings.demand(where, missing(config))
    splits: dict[str, list[Utterance]] = {"train": [], "dev": [], "test": []}
    for path in sorted(Path(config.root).glob("*/*.wav")):
        if path.parent.name != NOISE and (split := split_of(path.name)) is not None:
            splits[split].append(_utterance(path, path.parent.name))
    for path in sorted((Path(config.root) / NOISE).glob("*.wav")):
        if config.silence == "files":
            whole = Utterance(f"{SILENCE}/{path.stem}", path, labels={"keyword": SILENCE})
            splits["train"].append(whole)
        for second in range(_seconds(path)):
            split = "dev" if second % _DEV_SECOND == _DEV_SECOND - 1 else "train"
            if split == "train" and config.silence == "files":
                continue
            name = f"{SILENCE}/{path.stem}-{second:03}"
            part = (float(second), 1.0)
            splits[split].append(Utterance(name, path, labels={"keyword": SILENCE}, part=part))
    for path in sorted(Path(config.test_root).glob("*/*.wav")):
        splits["test"].append(_utterance(path, path.parent.name, "test/"))
    return _recordings.cuts(where, splits)


def process(config: Config, split: str, samples: np.ndarray) -> np.ndarray:
    """Lower the level of a recording, as s3prl does."""
    return samples * np.float32(10 ** (config.gain / 20))


def split_of(name: str) -> str | None:
    """Return the split of a recording by the hash of its speaker; None: the old test set's."""
    speaker = name.partition("_nohash_")[0].encode()
    percent = int(hashlib.sha1(speaker).hexdigest(), 16) % (_MOST + 1) * (100.0 / _MOST)
    if percent < 10:
        return "dev"
    return "train" if percent >= 20 else None


def _utterance(path: Path, word: str, prefix: str = "") -> Utterance:
    known = (*WORDS, UNKNOWN, SILENCE)
    return Utterance(
        f"{prefix}{word}/{path.stem}",
        path,
        speaker=path.stem.partition("_nohash_")[0],
        labels={"keyword": word if word in known else UNKNOWN},
    )


def _seconds(path: Path) -> int:
    head = audio.header(path)
    return head.frames // head.rate
