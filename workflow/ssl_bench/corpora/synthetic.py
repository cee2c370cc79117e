"""Generated speech: any of the study's tasks from word lists and espeak-ng, exact labels.

The same recipe gives the same labels everywhere and, with the pinned versions, the same bytes of
audio; see :func:`content_hash`.
"""

import hashlib
import json
import wave
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ssl_bench.corpora.base import CorpusConfig
from ssl_bench.progress import say, track
from ssl_bench.speech import probe
from ssl_bench.speech.espeak import RATE
from ssl_bench.speech.recipe import SPLITS, Recipe, keep_memory, utterance
from ssl_bench.whole import named

if TYPE_CHECKING:
    from lhotse import CutSet

_CHUNK = 16  # utterances a worker makes at once
_AHEAD = 256  # utterances made at once where their number is not known


class Config(CorpusConfig, Recipe):
    """A generated corpus; the keys are those of :class:`~ssl_bench.speech.recipe.Recipe`."""

    kind: Literal["synthetic"]


class Written(NamedTuple):
    """An utterance on disk."""

    id: str
    path: str
    samples: int
    text: str
    speaker: str
    language: str
    custom: dict[str, str]


def prepare(config: Config, folder: Path, workers: int = 1) -> dict[str, "CutSet"]:
    """Make the corpus: 16-bit WAV at ``folder/audio/<id>.wav``, and one CutSet per split.

    ``workers`` processes share the work; how many has no influence on what is made. Where speech is
    not that of the committed results (:mod:`ssl_bench.speech.probe`), a line says so.
    """
    if unlike := probe.difference():
        say(f"warning: {unlike}")
    audio = Path(folder) / "audio"
    audio.mkdir(parents=True, exist_ok=True)
    recipe = Recipe(**config.model_dump(exclude={"kind"}))
    # The workers get a fresh interpreter: a fork of a process with torch's threads can hang.
    pool = None
    if workers > 1:
        spawn = get_context("spawn")
        pool = ProcessPoolExecutor(workers, mp_context=spawn, initializer=keep_memory)
    else:
        keep_memory()
    try:
        return {split: _split(recipe, split, audio, pool) for split in SPLITS}
    finally:
        if pool is not None:
            pool.shutdown(cancel_futures=True)


def content_hash(cuts: dict[str, "CutSet"], audio: bool = True) -> str:
    """Return the SHA-256 of a corpus: every label, and every byte of its audio files.

    Labels depend on the versions of numpy and espeakng-loader alone, audio on those of scipy and
    soxr too. Processors differ in the last bits of exponentials, transforms and filters; all is
    in double precision, where that does not reach the 16 bits of a sample.

    Args:
        cuts: what :func:`prepare` returned.
        audio: False hashes the labels only.
    """
    digest = hashlib.sha256()
    for split in sorted(cuts):
        for cut in sorted(cuts[split], key=lambda cut: cut.id):
            spoken = cut.supervisions[0]
            labels = [split, cut.id, spoken.text, spoken.speaker, spoken.language]
            digest.update(json.dumps([*labels, spoken.custom], sort_keys=True).encode())
            if audio:
                digest.update(Path(cut.recording.sources[0].source).read_bytes())
    return digest.hexdigest()


def _split(recipe: Recipe, split: str, audio: Path, pool: ProcessPoolExecutor | None) -> "CutSet":
    from lhotse import CutSet

    limit = recipe.train_minutes * 60 * RATE if split == "train" and recipe.train_minutes else None
    number = None if limit else getattr(recipe, split)
    made = _made(partial(_write, recipe, split, audio), number, pool)
    steps: Iterable[int] = count() if number is None else range(number)
    cuts, total = {}, 0
    for _, one in zip(track(steps, f"{split}: utterances"), made, strict=False):
        cuts[one.id] = _cut(one)
        total += one.samples
        if limit and total >= limit:
            break
    for path in audio.glob(f"{split}-*.wav"):
        if path.stem not in cuts:  # made ahead, or left by a run that was stopped
            path.unlink()
    return CutSet.from_cuts(cuts.values())


def _made(
    make: Callable[[int], Written], number: int | None, pool: ProcessPoolExecutor | None
) -> Iterator[Written]:
    """Yield utterances 0, 1, … in order, without end if there is no number."""
    if pool is None:
        yield from map(make, count() if number is None else range(number))
    elif number is not None:
        yield from pool.map(make, range(number), chunksize=_CHUNK)
    else:
        for first in count(0, _AHEAD):
            yield from list(pool.map(make, range(first, first + _AHEAD), chunksize=_CHUNK))


def _write(recipe: Recipe, split: str, audio: Path, index: int) -> Written:
    made = utterance(recipe, split, index)
    path = audio / f"{made.id}.wav"
    with named(path), wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(made.samples.astype("<i2").tobytes())
    return Written(made.id, str(path), len(made.samples), *made[2:])


def _cut(made: Written) -> Any:
    from lhotse import MonoCut, Recording, SupervisionSegment
    from lhotse.audio import AudioSource

    duration = made.samples / RATE
    recording = Recording(
        id=made.id,
        sources=[AudioSource(type="file", channels=[0], source=made.path)],
        sampling_rate=RATE,
        num_samples=made.samples,
        duration=duration,
    )
    supervision = SupervisionSegment(
        id=made.id,
        recording_id=made.id,
        start=0.0,
        duration=duration,
        channel=0,
        text=made.text,
        speaker=made.speaker,
        language=made.language,
        custom=made.custom,
    )
    return MonoCut(
        id=made.id,
        start=0.0,
        duration=duration,
        channel=0,
        recording=recording,
        supervisions=[supervision],
    )
