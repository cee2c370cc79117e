"""From recordings and labels to lhotse CutSets, and one line for all that cannot be used."""

import os
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from ssl_bench import audio
from ssl_bench.audio import SAMPLE_RATE
from ssl_bench.corpora.base import SPLITS
from ssl_bench.documents import not_utf8
from ssl_bench.errors import StudyError
from ssl_bench.progress import say, track

SHOWN = 3
"""Offending files or utterances that an error line names."""


class Utterance(NamedTuple):
    """A recording, or a part of one, and its labels."""

    id: str
    path: Path
    text: str | None = None
    speaker: str | None = None
    language: str | None = None
    labels: Mapping[str, str | None] = {}
    part: tuple[float, float] | None = None
    """Start and duration in seconds; None: the whole recording."""


EXPECTED = "expected every file that the labels name"


def some(what: str, lines: list[str]) -> str:
    """Say how many, and the first few of them: the tail of an error line."""
    more = "; …" if len(lines) > SHOWN else ""
    return f"{len(lines)} {what}: {'; '.join(lines[:SHOWN])}{more}"


def absent(paths: Iterable[Path]) -> list[str]:
    """List the files that do not exist, each folder read once: no file is asked for by itself."""
    folders: dict[str, set[str]] = {}
    gone = []
    for path in map(str, paths):
        folder, name = os.path.split(path)
        if folder not in folders:
            try:
                folders[folder] = {entry.name for entry in os.scandir(folder)}
            except (FileNotFoundError, NotADirectoryError):
                folders[folder] = set()
        if name not in folders[folder]:
            gone.append(path)
    return gone


def demand(where: str, missing: list[str]) -> None:
    """Raise StudyError if files are missing: how many, and the first few."""
    if missing:
        raise StudyError(f"{where}: {some('files are missing', missing)}; {EXPECTED}")


def lines(path: Path) -> list[str]:
    """Return the lines of a label file.

    Raises:
        StudyError: no such file, or not UTF-8.
    """
    if not path.is_file():
        raise StudyError(f"{path}: no such file; expected one of the corpus's lists")
    try:
        # A transcript may hold what splitlines takes for the end of a line, such as U+2028.
        return path.read_text(encoding="utf-8-sig").removesuffix("\n").split("\n")
    except UnicodeDecodeError:
        raise not_utf8(path) from None


def cuts(
    where: str,
    utterances: Mapping[str, Iterable[Utterance]],
    keep: Callable[[str, float], bool] | None = None,
) -> dict[str, Any]:
    """Read every recording's header and return one CutSet per split.

    Args:
        where: the corpus, for errors.
        utterances: those of each split, in the order that they will have.
        keep: of a split and a duration in seconds, whether the published recipe uses it.

    Raises:
        StudyError: recordings that cannot be read, or that are too short: how many, and why the
            first few cannot.
    """
    made: dict[str, list[Any]] = {split: [] for split in SPLITS}
    bad = []
    for split, listed in utterances.items():
        listed = list(listed)
        for utterance in track(listed, f"{where}: reading headers of {split}"):
            try:
                cut = _cut_if(utterance, keep and partial(keep, split))
            except StudyError as error:
                bad.append(str(error))
                continue
            if cut is not None:
                made[split].append(cut)
        dropped = len(listed) - len(made[split])
        if dropped and not bad:
            say(f"{where}: {split}: {dropped} of {len(listed)} utterances dropped by length")
    refuse(where, bad)
    tell_other_forms(where, made)
    return {split: cut_set(subset) for split, subset in made.items() if subset}


def refuse(where: str, bad: list[str]) -> None:
    """Raise StudyError if recordings cannot be used: how many, and why the first few cannot."""
    if bad:
        raise StudyError(f"{where}: {some('recordings cannot be used', bad)}")


def tell_other_forms(where: str, made: Mapping[str, Iterable[Any]]) -> None:
    """Say how many files of cuts are not mono at 16 kHz, and what the first few are."""
    forms = (form for listed in made.values() for form in map(_other_form, listed) if form)
    other = list(dict.fromkeys(forms))
    if other:
        say(f"{where}: {some('recordings will be made mono and 16 kHz', other)}")


def cut_set(cuts: Iterable[Any]) -> Any:
    """Return a lhotse CutSet."""
    from lhotse import CutSet

    return CutSet.from_cuts(cuts)


def _other_form(cut: Any) -> str | None:
    """Return the file of a cut that is not mono at 16 kHz, and what it is."""
    recording = cut.recording
    if (recording.sampling_rate, recording.num_channels) == (SAMPLE_RATE, 1):
        return None
    form = f"{recording.sampling_rate} Hz, {recording.num_channels} channels"
    return f"{recording.sources[0].source}: {form}"


def _cut_if(utterance: Utterance, keep: Callable[[float], bool] | None) -> Any | None:
    if keep is not None:
        head = audio.header(utterance.path, demand_length=False)
        if not keep(head.frames / head.rate):
            return None
    return cut(utterance)


def cut(utterance: Utterance) -> Any:
    """Make the cut of one utterance: all channels, one supervision.

    Raises:
        StudyError: the recording cannot be read, or is too short.
    """
    from lhotse import AudioSource, Recording, SupervisionSegment

    name, path = utterance.id, utterance.path
    head = audio.header(path, demand_length=utterance.part is None)
    channels = list(range(head.channels))
    recording = Recording(
        id=name,
        sources=[AudioSource(type="file", channels=channels, source=str(path))],
        sampling_rate=head.rate,
        num_samples=head.frames,
        duration=head.frames / head.rate,
        channel_ids=channels,
    )
    made = recording.to_cut()
    if utterance.part is not None:
        start, duration = utterance.part
        made = made.truncate(offset=start, duration=duration)
    made.id = name
    made.supervisions = [
        SupervisionSegment(
            id=name,
            recording_id=name,
            start=0.0,
            duration=made.duration,
            channel=made.channel,
            text=utterance.text,
            speaker=utterance.speaker,
            language=utterance.language,
            custom=dict(utterance.labels),
        )
    ]
    return made
