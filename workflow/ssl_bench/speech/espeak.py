"""Speech with its phones from espeak-ng, the same samples whatever was spoken before."""

import os
import re
import shutil
import tempfile
from functools import lru_cache
from multiprocessing.util import Finalize
from pathlib import Path
from typing import NamedTuple

import espeakng_loader
import numpy as np
import soxr

from ssl_bench.errors import StudyError, suggest
from ssl_bench.speech.binding import PITCH, RANGE, SPEED, Binding
from ssl_bench.speech.voice import Voice

__all__ = ["RATE", "Speech", "Synthesizer", "Voice", "synthesizer"]

RATE = 16_000  # Hz, of all speech made here

_LONGEST_PATH = 140  # espeak keeps the path of its data in 160 bytes

# Switches of language, stress, tones, syllable marks and the Danish stød.
_DROPPED = re.compile(r"\([^)]*\)|[ˈˌ˥˦˧˨˩0-9'|,_:;^.?\-\s]")


class Speech(NamedTuple):
    """What was spoken."""

    samples: np.ndarray  # float64 (n,), 16 kHz, in [-1, 1]
    phones: tuple[str, ...]  # IPA without stress and tone
    times: tuple[float, ...]  # s, where each phone starts


class Synthesizer:
    """espeak-ng in this process, with a data folder of its own.

    Not for several threads at once. After a fork the child makes a folder of its own.
    """

    def __init__(self) -> None:
        self._owner = -1
        self._open()

    def _open(self) -> None:
        source = Path(espeakng_loader.get_data_path())
        self._folder = Path(tempfile.mkdtemp(prefix="espeak-"))
        self._owner = os.getpid()
        data = self._folder / "espeak-ng-data"
        if len(os.fsencode(self._folder)) > _LONGEST_PATH:
            self._folder.rmdir()
            raise StudyError(
                f"temporary folder {self._folder}: path too long for espeak-ng "
                f"(more than {_LONGEST_PATH} bytes); set TMPDIR to a shorter one"
            )
        (data / "voices" / "!v").mkdir(parents=True)
        for path in source.iterdir():
            if path.name not in ("voices", "lang"):
                (data / path.name).symlink_to(path)
        # A language that lies in `voices` under the name asked for is found without reading every
        # voice file first, which would take 4 ms.
        self.languages = tuple(sorted(_languages(source)))
        for name, path in _languages(source).items():
            (data / "voices" / name).symlink_to(path)
        variant = data / "voices" / "!v" / "own"
        self._variant = os.open(variant, os.O_WRONLY | os.O_CREAT, 0o600)
        self._written = b""
        library = Path(espeakng_loader.get_library_path())
        copied = self._folder / library.name
        shutil.copy(library, copied)
        self._binding = Binding(copied, self._folder)
        # multiprocessing's children leave without atexit, but run these.
        arguments = (self._folder, self._variant, self._owner, self._binding)
        self._close = Finalize(self, _remove, args=arguments, exitpriority=10)

    def close(self) -> None:
        """Remove the data folder; it cannot speak afterwards."""
        self._close()

    def __enter__(self) -> "Synthesizer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def speak(
        self, text: str, voice: Voice, *, rate: int = 175, pitch: int = 50, range: int = 50
    ) -> Speech:
        """Speak a text.

        Args:
            text: what to say, in the language of the voice.
            voice: who says it.
            rate: words per minute, 80 to 450.
            pitch: 0 to 99; 50 is the voice's own.
            range: 0 (monotone) to 99; 50 is the voice's own.

        Raises:
            StudyError: espeak-ng has no such language, or nothing was to be said.
        """
        if os.getpid() != self._owner:
            self._open()
        if voice.language not in self.languages:
            raise StudyError(
                f"espeak-ng: unknown language {voice.language!r}; "
                f"{suggest(voice.language, self.languages)}"
            )
        variant = voice.variant.encode("ascii")
        if variant != self._written.rstrip(b"\n") + b"\n":
            # Empty lines are skipped, and to shorten a file takes longer than to fill it up.
            self._written = variant.ljust(len(self._written), b"\n")
            os.pwrite(self._variant, self._written, 0)
        parameters = {SPEED: rate, PITCH: pitch, RANGE: range}
        spoken = self._binding.speak(text, f"{voice.language}+own", parameters)
        named = [(phone, sample) for name, sample in spoken.events if (phone := _phone(name))]
        if not named:
            raise StudyError(f"espeak-ng said nothing for {text!r} in {voice.language!r}")
        phones, starts = zip(*named, strict=True)
        native = np.frombuffer(spoken.pcm, dtype="<i2").astype(np.float64)
        # VHQ alone computes in double precision, in which processors differ by too little to
        # survive the rounding to 16 bits.
        samples = soxr.resample(native, spoken.rate, RATE, quality="VHQ")
        samples *= 1 / 32768
        samples.clip(-1, 1, out=samples)
        return Speech(samples, phones, tuple(start / spoken.rate for start in starts))


_OWN: dict[int, Synthesizer] = {}


def synthesizer() -> Synthesizer:
    """Return this process's synthesizer, made at the first call."""
    if os.getpid() not in _OWN:
        _OWN.clear()
        _OWN[os.getpid()] = Synthesizer()
    return _OWN[os.getpid()]


def _languages(data: Path) -> dict[str, Path]:
    return {path.name.lower(): path for path in data.glob("lang/**/*") if path.is_file()}


@lru_cache(maxsize=4096)
def _phone(name: bytes) -> str:
    """Return the phone of a transcription for a name of espeak-ng; empty if it has none."""
    return _DROPPED.sub("", name.decode("utf-8", errors="ignore"))


def _remove(folder: Path, variant: int, owner: int, binding: Binding) -> None:
    if os.getpid() == owner:
        os.close(variant)
        binding.close()
        shutil.rmtree(folder, ignore_errors=True)
