"""Make the clips: every clip another voice, a few sentences of one language, from a seed.

Nothing here imports torch, so that worker processes start fast.
"""

import hashlib
import json
import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ssl_bench.pretrain.settings import SAMPLE_RATE, Settings, Speech

BLOCK = 8
LEVEL = 0.07
"""RMS of every clip; full scale is 1."""


def make_clip(seed: int, index: int, speech: Speech) -> tuple[np.ndarray, str]:
    """Return one clip, int16 (samples,), and its language; the same for the same arguments."""
    from ssl_bench.speech import prosody, text
    from ssl_bench.speech.espeak import Voice, synthesizer

    rng = np.random.default_rng([seed, index])
    names = sorted(speech.languages)
    shares = np.array([speech.languages[name] for name in names])
    language = names[rng.choice(len(names), p=shares / shares.sum())]
    style = tuple(prosody.STYLES)[rng.integers(len(prosody.STYLES))]
    voice, manner = prosody.expressive(rng, Voice.random(rng, language), style)
    # The head is cut somewhere in the first second, so that clips do not all begin with an onset.
    skip = int(rng.integers(0, SAMPLE_RATE))
    parts: list[np.ndarray] = []
    while sum(map(len, parts)) < skip + speech.samples:
        spoken = synthesizer().speak(
            text.sentence(rng, language, (2, 12)),
            voice,
            rate=_vary(rng, manner.rate, 15, 80, 400),
            pitch=_vary(rng, manner.pitch, 8, 0, 99),
            range=_vary(rng, manner.range, 10, 0, 99),
        )
        parts.append(spoken.samples * rng.uniform(0.5, 1.0))
    samples = np.concatenate(parts)[skip : skip + speech.samples]
    samples = samples * (LEVEL / max(float(np.sqrt(np.mean(samples**2))), 1e-4))
    return np.round(np.clip(samples, -1, 1) * 32767).astype(np.int16), language


def _vary(rng: np.random.Generator, value: int, spread: float, low: int, high: int) -> int:
    return int(np.clip(rng.normal(value, spread), low, high))


def _block(start: int, *, path: str, seed: int, speech: Speech) -> tuple[bytes, list[str]]:
    clips = np.load(path, mmap_mode="r+")
    languages = []
    digest = hashlib.sha256()
    for index in range(start, min(start + BLOCK, len(clips))):
        clips[index], language = make_clip(seed, index, speech)
        digest.update(clips[index].tobytes())
        languages.append(language)
    return digest.digest(), languages


def make(
    settings: Settings, work: Path, workers: int | None = None, log: Callable[[str], None] = print
) -> dict[str, object]:
    """Write ``clips.npy`` (clips, samples) int16 and ``speech.json`` below ``work``.

    Args:
        settings: all settings; ``seed`` and ``speech`` matter.
        work: folder for what is not shipped.
        workers: processes; None: one for each usable core.

    Returns:
        what ``speech.json`` holds.
    """
    speech = settings.speech
    work.mkdir(parents=True, exist_ok=True)
    unfinished = work / "clips.partial.npy"
    shape = (speech.clips, speech.samples)
    np.lib.format.open_memmap(unfinished, "w+", np.int16, shape).flush()
    workers = workers or len(os.sched_getaffinity(0))
    task = partial(_block, path=str(unfinished), seed=settings.seed, speech=speech)
    starts = range(0, speech.clips, BLOCK)
    begin = time.perf_counter()
    digest, languages = hashlib.sha256(), Counter[str]()
    if workers == 1:
        results = map(task, starts)
        _collect(results, digest, languages)
    else:
        with multiprocessing.get_context("spawn").Pool(min(workers, len(starts))) as pool:
            _collect(pool.imap(task, starts), digest, languages)
            # Workers remove their espeak folders as they leave; terminate() would not let them.
            pool.close()
            pool.join()
    seconds = time.perf_counter() - begin
    unfinished.rename(work / "clips.npy")
    record: dict[str, object] = {
        "clips": speech.clips,
        "hours": speech.clips * speech.samples / SAMPLE_RATE / 3600,
        "seconds_to_make": seconds,
        "workers": workers,
        "sha256": digest.hexdigest(),
        "languages": dict(sorted(languages.items())),
    }
    (work / "speech.json").write_text(json.dumps(record, indent=2) + "\n")
    log(f"speech: {record['hours']:.2f} h in {seconds:.1f} s on {workers} processes")
    return record


def _collect(
    results: Iterable[tuple[bytes, list[str]]], digest: Any, languages: Counter[str]
) -> None:
    """Take the blocks in order: the digest of the whole is that of the blocks' digests."""
    for block, names in results:
        digest.update(block)
        languages.update(names)
