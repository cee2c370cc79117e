"""Checkpoints: a training that was killed goes on at the step that it last wrote down.

A checkpoint holds all that the rest of a training depends on: parameters, the optimizer's moments
and count, buffers, which runs are alive, the weights that are kept so far with their merit, the sum
of losses, the history, and the states of torch's random generators, the CPU's and the GPU's. No
training uses a number from those of Python or numpy; the sampler's follow from its seeds and the
step. The training then ends in the same numbers, bit for bit, as one that was not disturbed,
wherever two undisturbed ones do. What it has spent so far (``spending.py``) is kept beside them.

Recorded steps (``steps.py``) need nothing more. A replay reads seed and offset of the GPU's
generator when it starts and moves the offset on by what its graph draws; recording sets the
generator back to where it was. So it does not matter which shapes were recorded before a
checkpoint and are recorded anew after it, if the generator is set before the next step. The graphs
read and write the tensors of :meth:`Runs.state`, which is why these are filled in place.

A checkpoint is stamped with all that determines its training, versions and device included. One
with another stamp, or one that is not whole, is passed over with a line that says why.
"""

import math
import os
import pickle
import shutil
import signal
import threading
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, BinaryIO, TypeVar

import numpy as np
import torch
from torch import Tensor

import ssl_bench
from ssl_bench.errors import StudyError
from ssl_bench.progress import say
from ssl_bench.runs import Run
from ssl_bench.spending import Spending

T = TypeVar("T")

VARIABLE = "SSL_BENCH_CHECKPOINT_SECONDS"
FORMAT = 3
"""Is raised with every change of what a checkpoint holds or of what it means."""
STOPPED = 128 + signal.SIGTERM
"""Exit status of a training that was asked to end."""
_SHARE = 20
"""Training takes at least so many times as long as writing, however slow the disk is."""
_OVERWRITTEN = ("parameters", "first", "second")
"""What nothing depends on after the last step: the selection gives all parameters their values."""
_UNREADABLE = (
    *(OSError, EOFError, RuntimeError, pickle.UnpicklingError),
    *(KeyError, TypeError, ValueError, AttributeError),
)


def interval() -> float:
    """Return the seconds between checkpoints (``SSL_BENCH_CHECKPOINT_SECONDS``, 60 by default).

    Raises:
        StudyError: it is no number from 0.
    """
    value = os.environ.get(VARIABLE, "60")
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not seconds >= 0:
        raise StudyError(f"{VARIABLE}: expected seconds, from 0, found {value!r}")
    return seconds


class Checkpoints:
    """The checkpoints of one stage of a cell, a file for each group of runs trained together.

    Args:
        folder: where they lie, which is nobody else's.
        label: names the training in lines to the log.
        device: the device of the training.
        steps: how many steps it takes.
        spending: counts what the stage spends; None: nobody does.
        stamp: all that determines the runs, beside their number of steps, versions and device.
    """

    def __init__(
        self,
        folder: Path,
        label: str,
        device: torch.device,
        steps: int,
        spending: Spending | None = None,
        **stamp: Any,
    ) -> None:
        self.folder, self.label, self.device, self.steps = folder, label, device, steps
        self.every, self.began, self.spending = interval(), time.monotonic(), spending
        self.stamp = {
            "format": FORMAT,
            **stamp,
            "steps": steps,
            "torch": str(torch.__version__),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "numpy": np.__version__,
            "ssl_bench": ssl_bench.__version__,
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        }

    def keeper(self, number: int, runs: list[Run]) -> "Keeper":
        """Return what keeps the state of one group of runs."""
        return Keeper(self, number, runs)


class Keeper:
    """Writes the state of a training down now and then, and gives it back.

    Use as a context manager around the training: meanwhile SIGTERM does not end the process at
    once. The step is finished and written down, then the process ends with status ``STOPPED``.
    """

    def __init__(self, home: Checkpoints, number: int, runs: list[Run]) -> None:
        self.home, self.path = home, home.folder / f"{number}.pt"
        self.stamp = {
            **home.stamp,
            "runs": [[run.seed, run.learning_rate, run.layer] for run in runs],
        }
        self.saved = time.monotonic()
        self._wait, self._step = home.every, 0
        self._tensors: dict[str, Tensor] = {}
        self._history: list[dict] = []
        self._asked = self._warned = self._written = False
        self._before: Any = None

    def __enter__(self) -> "Keeper":
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._ask)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)
        if self._asked and kind is None:  # after the last step, while it was scored
            self.save()
            self._stop()

    def resume(self, tensors: dict[str, Tensor], history: list[dict]) -> int:
        """Set a training back to where its checkpoint was, if there is one.

        Args:
            tensors: all tensors that training changes, as they are: filled in place here, and
                written down by :meth:`watch`.
            history: rows of what was measured; the same holds for it.

        Returns:
            how many steps are done: 0 without a checkpoint.
        """
        self._tensors, self._history = tensors, history
        found = self._read()
        if found is None:
            return 0
        for name, value in found["tensors"].items():
            tensors[name].detach().copy_(value)
        history[:] = found["history"]
        torch.set_rng_state(found["cpu"])
        if self.home.device.type == "cuda":
            torch.cuda.set_rng_state(found["cuda"], self.home.device)
        self._step, self._written = found["step"], True
        if self.home.spending is not None:
            self.home.spending.resume(found["spent"])
        say(f"{self.home.label}: goes on after step {self._step} of {self.home.steps}")
        return self._step

    def watch(self, steps: Iterable[tuple[int, T]]) -> Iterator[tuple[int, T]]:
        """Yield numbered steps; after each, write the state down if it is time to.

        Raises:
            SystemExit: SIGTERM has come; the state is written down.
        """
        for number, item in steps:
            yield number, item
            self._step = number
            if self._asked or self._due():
                self.save()
            if self._asked:
                self._stop()

    def _due(self) -> bool:
        """Say whether it is time; what ends a group of runs is kept if the stage is a long one."""
        now = time.monotonic()
        last = self._step == self.home.steps
        return now - (self.home.began if last else self.saved) >= self._wait

    def save(self) -> None:
        """Write the state down, whole or not at all.

        Where it cannot be written, the checkpoint of before remains and the training goes on.
        """
        began = time.monotonic()
        last = self._step == self.home.steps
        content = {
            "stamp": self.stamp,
            "step": self._step,
            "spent": self.home.spending and self.home.spending.now()._asdict(),
            "history": self._history,
            "tensors": {
                name: value.detach().cpu()
                for name, value in self._tensors.items()
                if not (last and _overwritten(name))
            },
            "cpu": torch.get_rng_state(),
        }
        if self.home.device.type == "cuda":
            content["cuda"] = torch.cuda.get_rng_state(self.home.device)
        try:
            write(self.path, content)
        except OSError as error:
            if not self._warned:
                say(f"warning: {self.path}: no checkpoint written ({_line(error)}); training on")
            self._warned = True
        else:
            self._written = True
        self.saved = time.monotonic()
        if self.home.every:
            self._wait = max(self.home.every, _SHARE * (self.saved - began))

    def _read(self) -> dict[str, Any] | None:
        """Return the checkpoint, if it is whole and of this training."""
        if not self.path.exists():
            return None
        try:
            found = _load(self.path)
            stamp = found["stamp"]
            names = sorted({*stamp, *self.stamp})
            other = [name for name in names if stamp.get(name) != self.stamp.get(name)]
            fits = not other and _layout(found["tensors"]) == _layout(
                {
                    name: value
                    for name, value in self._tensors.items()
                    if not (found["step"] == self.home.steps and _overwritten(name))
                }
            )
        except _UNREADABLE as error:
            say(f"{self.path}: ignored: not a whole checkpoint ({_line(error)})")
            return None
        if other:
            say(f"{self.path}: ignored: a checkpoint of another {', '.join(other)}")
        elif not fits:
            say(f"{self.path}: ignored: a checkpoint of tensors with other names or shapes")
        return found if fits else None

    def _ask(self, _signal: int, _frame: FrameType | None) -> None:
        self._asked = True

    def _stop(self) -> None:
        what = f"{self.home.label}: ended by SIGTERM after step {self._step} of {self.home.steps}"
        say(f"{what}; the next start goes on from {self.path}" if self._written else what)
        raise SystemExit(STOPPED)


def write(path: Path, content: dict[str, Any]) -> None:
    """Write a file so that its name has the old content or all of the new one, whatever happens.

    Raises:
        OSError: it cannot be written; nothing half-written is left.
    """
    partial = path.with_suffix(".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            _save(content, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _save(content: dict[str, Any], file: BinaryIO) -> None:
    try:
        torch.save({**content, "checksum": _checksum(content)}, file)
    except RuntimeError as error:  # torch's writer fails once more when it is closed
        raise error.__context__ if isinstance(error.__context__, OSError) else error from None


def _load(path: Path) -> dict[str, Any]:
    """Read a checkpoint and compare it with its checksum: torch looks at none of its own."""
    found: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    if found.pop("checksum") != _checksum(found):
        raise ValueError("its checksum does not fit")
    return found


def _checksum(value: Any, start: int = 0) -> int:
    if isinstance(value, dict):
        for name, part in value.items():
            start = _checksum(part, zlib.crc32(name.encode(), start))
        return start
    if isinstance(value, Tensor):
        return zlib.crc32(value.reshape(-1).view(torch.uint8).numpy().data, start)
    return zlib.crc32(repr(value).encode(), start)


def discard(folder: Path) -> None:
    """Remove the checkpoints of a stage that is done."""
    shutil.rmtree(folder, ignore_errors=True)


def free(folder: Path) -> None:
    """Remove all checkpoints below a folder; print what each frees."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    total = 0
    for path in files:
        with suppress(FileNotFoundError):  # a training that runs has replaced it
            size = path.stat().st_size
            path.unlink()
            total += size
            print(f"{size / 2**20:.1f} MiB\t{path}")
    discard(folder)
    print(f"freed {total / 2**20:.1f} MiB of {len(files)} checkpoints in {folder}")


def _overwritten(name: str) -> bool:
    """Whether a tensor, of whichever group of runs, is not looked at after the last step."""
    return name.partition("@")[0] in _OVERWRITTEN


def _layout(tensors: dict[str, Tensor]) -> dict[str, tuple[torch.Size, torch.dtype]]:
    return {name: (value.shape, value.dtype) for name, value in tensors.items()}


def _line(error: BaseException) -> str:
    """Return the first line of what an error says; torch's on unpickling is bad advice."""
    if isinstance(error, pickle.UnpicklingError):
        return "not in torch's format"
    return (str(error).strip() or type(error).__name__).splitlines()[0]
