"""All steps of pre-training, each in its own process, sizes in parallel over the GPUs.

A run that was stopped, however, goes on where it was: steps that are done are passed over, and a
training takes up its last checkpoint. With a time limit there is neither, for what is left of the
schedule depends on the clock.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import ssl_bench
from ssl_bench.checkpoints import discard
from ssl_bench.errors import StudyError
from ssl_bench.pretrain import speech
from ssl_bench.pretrain.done import Marks
from ssl_bench.pretrain.settings import Settings, read

PR_SET_PDEATHSIG = 1
OVERHEAD = 0.8
"""Minutes of a step beside its training: imports, clips to the GPU, clusters, saving."""


def run(
    config: Path,
    work: Path,
    out: Path,
    *,
    devices: list[str] | None = None,
    minutes: float | None = None,
    compiled: bool = True,
    workers: int | None = None,
    log: Callable[[str], None] = print,
) -> None:
    """Make speech, run the first iteration, then the second of every size.

    Args:
        config: the settings' file.
        work: folder for clips and targets.
        out: where the models' folders go.
        devices: names; sizes are dealt to them in turn; ``cuda`` is whichever GPU is free.
            None: every GPU, else the CPU.
        minutes: time limit for everything.
        compiled: whether to train with ``torch.compile``.
        workers: processes that make speech.
        log: takes a line.

    Raises:
        StudyError: a device is not there, a step failed, or the time limit leaves nothing for
            training.
    """
    begin = time.perf_counter()
    settings = read(config)
    devices = _devices(devices)
    marks = Marks(
        work / "kept" if minutes is None else None,
        settings=settings.as_dict(),
        compiled=compiled,
        versions=[ssl_bench.__version__, *(version(name) for name in ("torch", "numpy"))],
    )
    spoken = [work / name for name in ("clips.npy", "speech.json")]
    if not marks.has("speech", spoken):
        speech.make(settings, work, workers, log)
        marks.set("speech", spoken)
    limits: dict[str, float | None] = dict.fromkeys(["first", *settings.sizes])
    if minutes is not None:
        left = minutes - (time.perf_counter() - begin) / 60
        limits = dict(plan(settings, left, len(devices)))
        log("minutes: " + ", ".join(f"{name} {limit:.1f}" for name, limit in limits.items()))
    common = ["--config", str(config), "--work", str(work)]
    common += [] if compiled else ["--eager"]
    start = time.perf_counter()
    clustered = [work / f"{name}.npy" for name in ("mfcc", "pitch", "hidden")]
    clustered += [work / "first", work / "first.json", work / "speech.json"]
    if not marks.has("first", clustered):
        _wait({"first": _start(["first", *common, "--device", devices[0]], limits["first"])})
        marks.set("first", clustered)
    if minutes is not None and limits["first"] is not None:
        # What the first iteration left unused goes to the second.
        spare = limits["first"] - (time.perf_counter() - start) / 60
        rounds = -(-len(settings.sizes) // len(devices))
        for name in settings.sizes:
            limits[name] = (limits[name] or 0) + spare / rounds
    files = {name: [*clustered, out / f"hubert-mini-{name}"] for name in settings.sizes}
    names = sorted(settings.sizes, key=lambda name: -settings.sizes[name].layers)
    names = [name for name in names if not marks.has(f"second-{name}", files[name])]
    while names:
        together, names = names[: len(devices)], names[len(devices) :]
        steps = {}
        for name, where in zip(together, devices, strict=False):
            arguments = ["second", *common, "--size", name, "--out", str(out), "--device", where]
            steps[f"second --size {name}"] = _start(arguments, limits[name])
        try:
            _wait(steps)
        finally:
            for name, step in zip(together, steps.values(), strict=False):
                if step.returncode == 0:
                    marks.set(f"second-{name}", files[name])
    discard(work / "kept")
    log(f"pretrain: done in {(time.perf_counter() - begin) / 60:.1f} minutes")


def plan(settings: Settings, minutes: float, devices: int) -> dict[str, float]:
    """Share out the minutes left: training time by steps × layers, and each step's overhead.

    Returns:
        limits of ``first`` and of every size, in minutes; sizes that run side by side share theirs.
    """
    layers = {name: size.layers for name, size in settings.sizes.items()}
    names = sorted(layers, key=lambda name: -layers[name])
    rounds = [names[i : i + devices] for i in range(0, len(names), devices)]
    cost = [settings.first.steps * layers[settings.first_size]]
    cost += [settings.second.steps * layers[group[0]] for group in rounds]
    training = minutes - OVERHEAD * len(cost)
    if training <= 0:
        raise StudyError(
            f"pretrain: {minutes:.1f} minutes are left after the speech, "
            f"expected more than {OVERHEAD * len(cost):.1f}"
        )
    shares = [OVERHEAD + training * c / sum(cost) for c in cost]
    limits = {"first": shares[0]}
    for group, share in zip(rounds, shares[1:], strict=True):
        limits |= dict.fromkeys(group, share)
    return limits


def _devices(named: list[str] | None) -> list[str]:
    """Return what to train on; one that is not there is refused before any speech is made."""
    import torch

    from ssl_bench.pretrain import stages

    for name in named or ():
        if name != "auto":
            stages.known(name)
    return named or [f"cuda:{i}" for i in range(torch.cuda.device_count())] or ["cpu"]


def _start(arguments: list[str], minutes: float | None) -> subprocess.Popen[bytes]:
    if minutes is not None:
        arguments = [*arguments, "--minutes", f"{minutes:.3f}"]
    command = [sys.executable, "-m", "ssl_bench.pretrain", *arguments]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(command, env=environment, preexec_fn=_end_with_parent)


def _end_with_parent() -> None:
    """Have the kernel end this process when the one that started it has gone, however it went."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _wait(steps: dict[str, subprocess.Popen[bytes]]) -> None:
    """Wait for processes; when one fails, stop the others."""
    try:
        while any(step.poll() is None for step in steps.values()):
            if any(step.poll() for step in steps.values()):
                break
            time.sleep(0.2)
    finally:
        running = [step for step in steps.values() if step.poll() is None]
        for step in running:
            step.terminate()
            step.wait()
    failed = [name for name, step in steps.items() if step.returncode and step not in running]
    if failed:
        raise StudyError(f"pretrain: step {failed[0]!r} failed; its own message is above")
