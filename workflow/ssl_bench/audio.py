"""Read a recording, whatever its rate and channels, as mono 16 kHz samples."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
import soxr

from ssl_bench.errors import StudyError

SAMPLE_RATE = 16_000
"""Hertz, of everything once it is read."""

SHORTEST = 400
"""Samples at 16 kHz: one frame of the 25 ms that the encoders' first frame sees."""


LONGEST = 600
"""Seconds. Attention over one utterance takes memory that grows with the square of its length."""

UNSAID = 0x7FFF0000
"""Bytes. A WAV that was written to a pipe says at least so many, since its length was not known."""

SLACK = 1024
"""Bytes that a WAV may lack: some writers count their header twice."""


class Header(NamedTuple):
    """What a file says of itself, before it is decoded."""

    rate: int
    channels: int
    frames: int


def header(path: str | Path, demand_length: bool = True) -> Header:
    """Read a file's header.

    Args:
        path: the file.
        demand_length: refuse what is empty, shorter than 25 ms or longer than :data:`LONGEST`.

    Raises:
        StudyError: no such file, no audio that libsndfile reads, truncated as far as its header
            shows it, too short or too long.
    """
    path = Path(path)
    if not path.is_file():
        raise StudyError(f"{path}: no such recording")
    try:
        info = soundfile.info(path)
    except soundfile.LibsndfileError as error:
        raise _unreadable(path, error) from None
    _demand_whole(path, info.format)
    if demand_length:
        _demand_length(path, info.frames, info.samplerate)
    return Header(info.samplerate, info.channels, info.frames)


def load(item: str | Path | Any) -> np.ndarray:
    """Load a file or a lhotse cut as mono 16 kHz samples.

    Channels are averaged (of a cut: the channels that it selects), other rates are resampled with
    soxr's HQ recipe. A cut's offset and duration are kept to.

    Args:
        item: a path, or a lhotse cut.

    Returns:
        (samples,) float32.

    Raises:
        StudyError: unreadable, truncated, empty, shorter than 400 samples at 16 kHz, longer than
            :data:`LONGEST`, or a sample that is not a number.
    """
    if isinstance(item, str | Path):
        name: str = str(item)
        samples, rate = _read(Path(item))
    else:
        name = f"cut {item.id}"
        samples, rate = _read_cut(item)
    _demand_length(name, len(samples), rate)
    if not np.isfinite(samples).all():
        raise StudyError(f"{name}: expected finite samples, found NaN or infinity")
    mono = samples.mean(axis=1, dtype=np.float32)
    if rate != SAMPLE_RATE:
        mono = soxr.resample(mono, rate, SAMPLE_RATE, quality="HQ")
    return np.ascontiguousarray(mono, dtype=np.float32)


def check(items: Iterable[str | Path | Any], shown: int = 3) -> None:
    """Load every recording; tell of all that cannot be used in one line.

    Raises:
        StudyError: how many of how many cannot be used, and why the first few cannot.
    """
    total, bad = 0, []
    for item in items:
        total += 1
        try:
            load(item)
        except StudyError as error:
            bad.append(str(error))
    if bad:
        more = "; …" if len(bad) > shown else ""
        first = "; ".join(bad[:shown])
        raise StudyError(f"{len(bad)} of {total} recordings cannot be used: {first}{more}")


def _read(path: Path, start: int = 0, frames: int = -1) -> tuple[np.ndarray, int]:
    """Return samples (frames, channels) of a part of a file, and its rate."""
    if not path.is_file():
        raise StudyError(f"{path}: no such recording")
    try:
        with soundfile.SoundFile(path) as file:
            _demand_whole(path, file.format)
            wanted = file.frames - start if frames < 0 else frames
            if start > file.frames:
                begin, length = start / file.samplerate, file.frames / file.samplerate
                raise StudyError(
                    f"{path}: found a cut from {begin:g} s, expected one within {length:g} s"
                )
            file.seek(start)
            samples = file.read(wanted, dtype="float32", always_2d=True)
            # Half a frame of the encoders: what rounding of offsets in seconds may cost.
            if wanted - len(samples) > 0.01 * file.samplerate:
                raise StudyError(
                    f"{path}: truncated: {wanted} samples expected, {len(samples)} found"
                )
            return samples, file.samplerate
    except soundfile.LibsndfileError as error:
        raise _unreadable(path, error) from None


def _read_cut(cut: Any) -> tuple[np.ndarray, int]:
    """Return samples (frames, channels) of a lhotse cut, and their rate."""
    from lhotse.cut import MonoCut, MultiCut

    recording = cut.recording if isinstance(cut, MonoCut | MultiCut) else None
    if (
        recording is None
        or len(recording.sources) != 1
        or recording.sources[0].type != "file"
        or recording.transforms
    ):
        return _read_through_lhotse(cut)
    source = recording.sources[0]
    rate = recording.sampling_rate
    # A cut of a whole recording reads to its end, whatever its duration was rounded to.
    whole = cut.start == 0 and abs(cut.duration - recording.duration) < 0.5 / rate
    samples, found = _read(
        Path(source.source),
        0 if whole else round(cut.start * rate),
        -1 if whole else round(cut.duration * rate),
    )
    if found != rate:
        raise StudyError(
            f"{source.source}: found {found} Hz, expected {rate} Hz as cut {cut.id} says"
        )
    chosen = cut.channel if isinstance(cut.channel, list) else [cut.channel]
    columns = [source.channels.index(channel) for channel in chosen if channel in source.channels]
    if len(columns) < len(chosen) or max(columns) >= samples.shape[1]:
        raise StudyError(
            f"{source.source}: cut {cut.id} wants channels {chosen}, found {samples.shape[1]}"
        )
    return samples[:, columns], rate


def _read_through_lhotse(cut: Any) -> tuple[np.ndarray, int]:
    """Read what is more than a part of one file: several files, a mixture, a transformed cut."""
    from lhotse.audio.utils import AudioLoadingError, DurationMismatchError

    try:
        samples = cut.load_audio()
    except (OSError, ValueError, AudioLoadingError, DurationMismatchError) as error:
        raise _unreadable(f"cut {cut.id}", error) from None
    if samples is None:
        raise StudyError(f"cut {cut.id}: found no recording, expected one")
    return np.atleast_2d(samples).T, cut.sampling_rate


def _demand_whole(path: Path, form: str) -> None:
    """Hold a WAV to its header: libsndfile reads what is left as if it were all."""
    if form not in ("WAV", "WAVEX"):
        return
    with path.open("rb") as file:
        said = int.from_bytes(file.read(8)[4:], "little") + 8
    found = path.stat().st_size
    if found + SLACK < said < UNSAID:
        raise StudyError(f"{path}: truncated: {said:,} bytes expected, {found:,} found")


def _demand_length(name: str | Path, frames: int, rate: int) -> None:
    least = (
        f"expected at least {1000 * SHORTEST / SAMPLE_RATE:.0f} ms ({SHORTEST} samples at 16 kHz)"
    )
    if frames == 0:
        raise StudyError(f"{name}: empty recording (0 samples), {least}")
    if frames * SAMPLE_RATE < SHORTEST * rate:
        raise StudyError(f"{name}: {1000 * frames / rate:.1f} ms is too short, {least}")
    if frames > LONGEST * rate:
        raise StudyError(
            f"{name}: {frames / rate:.0f} s is too long, expected at most {LONGEST} s: list it as "
            "several utterances (lhotse CutSets)"
        )


def _unreadable(name: str | Path, error: Exception) -> StudyError:
    reason = " ".join(str(getattr(error, "error_string", error)).split()).rstrip(".")
    return StudyError(
        f"{name}: not readable as audio: expected what libsndfile reads (WAV, FLAC, …), "
        f"found {reason!r}"
    )
