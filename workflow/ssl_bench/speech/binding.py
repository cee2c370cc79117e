"""espeak-ng's C functions: from a text to samples and phoneme events, always from one state."""

import ctypes
import os
import struct
from pathlib import Path
from typing import Any, NamedTuple

from ssl_bench.speech.library import Library

# Names and numbers of espeak-ng's speak_lib.h.
SPEED, PITCH, RANGE = 1, 3, 4
_SYNCHRONOUS, _PHONEME_EVENTS_IPA, _DO_NOT_EXIT = 2, 0x0001 | 0x0002, 0x8000
_UTF8, _BY_CHARACTER = 1, 1
_PHONEME, _LAST = 7, 0
_BUFFER = 1000  # ms
_SEED = 1

# espeak_EVENT: type, identifier, text position, length, audio position, sample, user data, string.
_EVENT = struct.Struct("@iIiiiiP8s")
_INTEGERS = _EVENT.size // ctypes.sizeof(ctypes.c_int)

_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(ctypes.c_int)
)
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


class Spoken(NamedTuple):
    """What espeak-ng made of a text."""

    pcm: bytes  # int16 of this machine
    rate: int  # Hz
    events: list[tuple[bytes, int]]  # IPA in UTF-8, sample where it starts


class Binding:
    """A copy of espeak-ng that says a text the same way whatever it said before.

    The library keeps state from one text to the next (the phase of the flutter, filters, random
    numbers) that its API cannot reset. So its variables are put back after each text to how
    they were after ``espeak_Initialize``; where that cannot be done, the library is loaded anew
    for each text, which takes 0.3 ms. What it allocates once is phoneme data, which it only
    reads, buffers, and the Klatt synthesizer, which our voices do not use.

    Args:
        library: the library's file, a copy that nobody else in this process opens.
        data: the folder that has ``espeak-ng-data``.
    """

    def __init__(self, library: Path, data: Path) -> None:
        self._path, self._data = library, data
        self._library: Library | None = None
        self._rate = 0
        self._blocks: list[bytes] = []
        self._events: list[bytes] = []
        blocks, events = self._blocks, self._events

        def receive(wave: int | None, count: int, event: "ctypes._Pointer[ctypes.c_int]") -> int:
            if wave and count > 0:
                blocks.append(ctypes.string_at(wave, 2 * count))
            place = 0
            while event[place] != _LAST:
                place += _INTEGERS
            events.append(ctypes.string_at(event, place * ctypes.sizeof(ctypes.c_int)))
            return 0

        self._callback = _Callback(receive)

    def speak(self, text: str, voice: str, parameters: dict[int, int]) -> Spoken:
        """Say a text with a voice that the data folder has.

        Raises:
            RuntimeError: espeak-ng refuses one of them.
        """
        library = self._library or self._loaded()
        self._blocks.clear()
        self._events.clear()
        try:
            if status := library.espeak_SetVoiceByName(voice.encode()):
                raise RuntimeError(f"espeak_SetVoiceByName({voice!r}): {status}")
            for parameter, value in parameters.items():
                library.espeak_SetParameter(parameter, value, 0)
            data = text.encode()
            size = len(data) + 1
            if status := library.espeak_Synth(data, size, 0, _BY_CHARACTER, 0, _UTF8, None, None):
                raise RuntimeError(f"espeak_Synth({text!r}): {status}")
        finally:
            if library.restorable:
                library.restore(library.espeak_Terminate)
            else:
                library.espeak_Terminate()
                self.close()
        events = [
            (event[-1].partition(b"\0")[0], event[-3])
            for event in _EVENT.iter_unpack(b"".join(self._events))
            if event[0] == _PHONEME
        ]
        return Spoken(b"".join(self._blocks), self._rate, events)

    def close(self) -> None:
        """Unload the library."""
        if self._library is not None:
            self._library.close()
            self._library = None

    def _loaded(self) -> Library:
        library = self._library = Library(self._path, _FUNCTIONS)

        def prepare() -> None:
            options = _PHONEME_EVENTS_IPA | _DO_NOT_EXIT
            folder = os.fsencode(self._data)
            self._rate = library.espeak_Initialize(_SYNCHRONOUS, _BUFFER, folder, options)
            if self._rate <= 0:
                self.close()
                raise RuntimeError(f"espeak_Initialize: {self._rate} with {self._data}")
            library.espeak_SetSynthCallback(self._callback)
            library.espeak_ng_SetRandSeed(_SEED)

        if library.restorable:
            library.keep(prepare, library.espeak_Terminate)
        else:
            prepare()
        return library
