"""How fast speech is generated: seconds of audio for each second of one core.

    python benchmarks/speech.py [--seconds 10]

Three rows, measured in turn within one run so that they share whatever else the machine does:
espeak-ng as it is (loaded once, one voice, its own rate: no independence of what was said
before), :meth:`Synthesizer.speak`, and utterances of a corpus with noise on all of them,
reverberation and equalisation on a third. Processor time, one process.
"""

import argparse
import ctypes
import os
import platform
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import espeakng_loader
import numpy as np
from rich.console import Console
from rich.table import Table

from ssl_bench.speech import text
from ssl_bench.speech.espeak import RATE, Voice, synthesizer
from ssl_bench.speech.recipe import Recipe, babble_clips, keep_memory, noises, utterance

_NATIVE = 22_050


def bare() -> Callable[[str], float]:
    """Return a function that speaks a text with a lasting espeak-ng: seconds of audio."""
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    samples = 0

    def receive(wave: int | None, count: int, _: int | None) -> int:
        nonlocal samples
        samples += count if wave else 0
        return 0

    kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
    callback = kind(receive)
    library.espeak_Initialize(2, 1000, os.fsencode(espeakng_loader.get_data_path()), 0x8003)
    library.espeak_SetSynthCallback(callback)
    library.espeak_SetVoiceByName(b"en-us")

    def speak(spoken: str, _: object = callback) -> float:
        before = samples
        data = spoken.encode()
        library.espeak_Synth(data, ctypes.c_size_t(len(data) + 1), 0, 1, 0, 1, None, None)
        return (samples - before) / _NATIVE

    return speak


def processor() -> str:
    """Return the name of the processor and how many there are."""
    info = Path("/proc/cpuinfo")
    names = [
        line.split(":", 1)[1].strip()
        for line in (info.read_text().splitlines() if info.exists() else [])
        if line.startswith("model name")
    ]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} logical cores"


def measure(makers: dict[str, Callable[[int], float]], seconds: float) -> dict[str, list[float]]:
    """Return [audio s, processor s, utterances] of each maker; they take turns."""
    spent = {name: [0.0, 0.0, 0.0] for name in makers}
    index = 0
    for maker in makers.values():
        maker(0)
    while min(times[1] for times in spent.values()) < seconds:
        for name, maker in makers.items():
            start = time.process_time()
            audio = sum(maker(index + step) for step in range(10))
            spent[name][0] += audio
            spent[name][1] += time.process_time() - start
            spent[name][2] += 10
        index += 10
    return spent


def alone(speak: Callable[[str], float], words: tuple[int, int], index: int) -> float:
    """Speak sentence number ``index`` with espeak-ng's own voice."""
    return speak(text.sentence(np.random.default_rng(index), words=words))


def voiced(words: tuple[int, int], index: int) -> float:
    """Speak the same sentence with a voice of its own."""
    rng = np.random.default_rng(index)
    spoken = text.sentence(rng, words=words)
    return len(synthesizer().speak(spoken, Voice.random(rng)).samples) / RATE


def recorded(recipe: Recipe, index: int) -> float:
    """Make utterance number ``index`` of a corpus."""
    return len(utterance(recipe, "train", index).samples) / RATE


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10, help="processor time of each row")
    seconds = parser.parse_args().seconds
    speak = bare()
    keep_memory()
    babble_clips(0)
    noises(0)
    makers: dict[str, Callable[[int], float]] = {}
    for words in ((3, 6), (12, 20)):
        recipe = Recipe(
            recipe="sentences",
            words=list(words),
            snr=[0.0, 15.0],
            reverberation=1 / 3,
            equalisation=1 / 3,
        )
        label = f"{words[0]}-{words[1]} words"
        makers[f"espeak-ng alone, {label}"] = partial(alone, speak, words)
        makers[f"Synthesizer.speak, {label}"] = partial(voiced, words)
        makers[f"corpus with augmentation, {label}"] = partial(recorded, recipe)
    shown = Table(title=f"Generated speech on {processor()}, one process")
    for heading in ("", "mean length (s)", "ms an utterance", "times real time"):
        shown.add_column(heading, justify="right" if heading else "left")
    for name, (audio, spent, count) in measure(makers, seconds).items():
        shown.add_row(
            name, f"{audio / count:.2f}", f"{1000 * spent / count:.2f}", f"{audio / spent:.0f}"
        )
    Console(width=110).print(shown)


if __name__ == "__main__":
    main()
