"""Speech with its phones from espeak-ng, the same samples whatever was spoken before."""

import ctypes
import os
import re
import shutil
import tempfile
from _ctypes import dlclose, dlopen, dlsym
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any, NamedTuple

import espeakng_loader
import numpy as np
import soxr

from ssl_bench.errors import StudyError, suggest
from ssl_bench.speech.voice import Voice

__all__ = ["RATE", "Speech", "Synthesizer", "Voice", "synthesizer"]

RATE = 16_000  # Hz, of all speech made here

# Names and numbers of espeak-ng's speak_lib.h.
_SYNCHRONOUS, _PHONEME_EVENTS_IPA, _DO_NOT_EXIT = 2, 0x0001 | 0x0002, 0x8000
_SPEED, _PITCH, _RANGE = 1, 3, 4
_UTF8, _BY_CHARACTER = 1, 1
_PHONEME, _LAST = 7, 0
_BUFFER = 1000  # ms
_SEED = 1
_LONGEST_PATH = 140  # espeak keeps the path of its data in 160 bytes

# Switches of language, stress, tones, syllable marks and the Danish stød.
_DROPPED = re.compile(r"\([^)]*\)|[ˈˌ˥˦˧˨˩0-9'|,_:;^.?\-\s]")


class Speech(NamedTuple):
    """What was spoken."""

    samples: np.ndarray  # float32 (n,), 16 kHz, in [-1, 1]
    phones: tuple[str, ...]  # IPA without stress and tone
    times: tuple[float, ...]  # s, where each phone starts


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("string", ctypes.c_char * 8),
    ]


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(_Event))
_FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "espeak_Initialize": (ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_int),
    "espeak_SetSynthCallback": (None, _Callback),
    "espeak_ng_SetRandSeed": (ctypes.c_int, ctypes.c_long),
    "espeak_SetVoiceByName": (ctypes.c_int, ctypes.c_char_p),
    "espeak_SetParameter": (ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int),
    "espeak_Synth": (
        *(ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int),
        *(ctypes.c_uint, ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p),
    ),
    "espeak_Terminate": (ctypes.c_int,),
}
_PROTOTYPES = {name: ctypes.CFUNCTYPE(*types) for name, types in _FUNCTIONS.items()}


class _Library:
    """The functions of a freshly loaded library; its state ends with the ``with`` block."""

    def __init__(self, path: Path) -> None:
        self._handle = dlopen(str(path), os.RTLD_LAZY)

    def __enter__(self) -> "_Library":
        return self

    def __exit__(self, *_: object) -> None:
        dlclose(self._handle)

    def __getattr__(self, name: str) -> Any:
        return _PROTOTYPES[name](dlsym(self._handle, name))


class Synthesizer:
    """espeak-ng in this process, with a data folder of its own.

    The library keeps state from one utterance to the next (the phase of the flutter, filters,
    random numbers) that its API cannot reset. So it is loaded anew for every utterance, from a
    copy that nobody else in the process has open, which takes about 1 ms.

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
        # multiprocessing's children leave without atexit, but run these.
        arguments = (self._folder, self._variant, self._owner)
        self._close = Finalize(self, _remove, args=arguments, exitpriority=10)
        library = Path(espeakng_loader.get_library_path())
        self._library = self._folder / library.name
        shutil.copy(library, self._library)

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
        variant = voice.variant().encode("ascii")
        if variant != self._written.rstrip(b"\n") + b"\n":
            # Empty lines are skipped, and to shorten a file takes longer than to fill it up.
            self._written = variant.ljust(len(self._written), b"\n")
            os.pwrite(self._variant, self._written, 0)
        parameters = {_SPEED: rate, _PITCH: pitch, _RANGE: range}
        pcm, native_rate, events = self._synthesise(text, voice.language, parameters)
        named = [(_DROPPED.sub("", name), sample / native_rate) for name, sample in events]
        named = [(name, time) for name, time in named if name]
        if not named:
            raise StudyError(f"espeak-ng said nothing for {text!r} in {voice.language!r}")
        native = np.frombuffer(pcm, dtype="<i2").astype(np.float32) / np.float32(32768)
        samples = np.clip(soxr.resample(native, native_rate, RATE, quality="HQ"), -1, 1)
        return Speech(samples, tuple(name for name, _ in named), tuple(time for _, time in named))

    def _synthesise(
        self, text: str, language: str, parameters: dict[int, int]
    ) -> tuple[bytes, int, list[tuple[str, int]]]:
        blocks: list[bytes] = []
        events: list[tuple[str, int]] = []

        def receive(wave: int | None, count: int, event: "ctypes._Pointer[_Event]") -> int:
            if wave and count > 0:
                blocks.append(ctypes.string_at(wave, 2 * count))
            index = 0
            while event[index].type != _LAST:
                if event[index].type == _PHONEME:
                    name = event[index].string.decode("utf-8", errors="ignore")
                    events.append((name, event[index].sample))
                index += 1
            return 0

        callback = _Callback(receive)
        data = text.encode()
        with _Library(self._library) as library:
            rate = library.espeak_Initialize(
                _SYNCHRONOUS, _BUFFER, os.fsencode(self._folder), _PHONEME_EVENTS_IPA | _DO_NOT_EXIT
            )
            if rate <= 0:
                raise RuntimeError(f"espeak_Initialize: {rate} with {self._folder}")
            library.espeak_SetSynthCallback(callback)
            library.espeak_ng_SetRandSeed(_SEED)
            if status := library.espeak_SetVoiceByName(f"{language}+own".encode()):
                raise RuntimeError(f"espeak_SetVoiceByName({language!r}): {status}")
            for parameter, value in parameters.items():
                library.espeak_SetParameter(parameter, value, 0)
            size = len(data) + 1
            if status := library.espeak_Synth(data, size, 0, _BY_CHARACTER, 0, _UTF8, None, None):
                raise RuntimeError(f"espeak_Synth({text!r}): {status}")
            library.espeak_Terminate()
        return b"".join(blocks), rate, events


_OWN: dict[int, Synthesizer] = {}


def synthesizer() -> Synthesizer:
    """Return this process's synthesizer, made at the first call."""
    if os.getpid() not in _OWN:
        _OWN.clear()
        _OWN[os.getpid()] = Synthesizer()
    return _OWN[os.getpid()]


def _languages(data: Path) -> dict[str, Path]:
    return {path.name.lower(): path for path in data.glob("lang/**/*") if path.is_file()}


def _remove(folder: Path, variant: int, owner: int) -> None:
    if os.getpid() == owner:
        os.close(variant)
        shutil.rmtree(folder, ignore_errors=True)
