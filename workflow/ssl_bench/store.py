"""The disk cache: one upstream's states of one corpus in shards, in a folder of their own.

The folder's name says which encoder, recordings and precision are asked for, so studies that ask
for the same share it; the stamp in every shard says in full what made it. What is not there, not
whole or of another stamp is told and made anew, shard by shard, so a job that was killed goes on at
the shard where it was.

A shard is hashed when it is written, and again whenever its file is not the one that was hashed
last (size, times or place on the disk differ), as git knows files; so opening costs milliseconds.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import Tensor

from ssl_bench.errors import StudyError
from ssl_bench.progress import amount, say, track
from ssl_bench.reading import Stored
from ssl_bench.shards import FORMAT, Reader, Shard, Writer, fault, raw

BYTES, MOST = 1 << 28, 256
"""A shard has 256 MiB, or more where there would be more than 256 shards; then it ends with the
group of utterances that is encoded at once."""
CHUNK = 1 << 26
"""Bytes that are lifted at once."""
SEEN, ABOUT = "seen.json", "about.json"
"""In a store's folder: which files were hashed; whose it is and its stamp, for a reader."""


def divide(sizes: list[int]) -> list[int]:
    """Return how many groups each shard gets, given the groups' sizes in bytes."""
    least = max(BYTES, sum(sizes) // MOST)
    counts, held = [0], 0
    for size in sizes:
        if held >= least:
            counts.append(0)
            held = 0
        counts[-1] += 1
        held += size
    return counts


class Store:
    """The shards of one upstream on one corpus.

    Args:
        folder: where they lie, which is nobody else's.
        stamp: all that determines states, beside how they are laid out.
        frames: (N,) of every utterance.
        rows: for each shard its utterances, in order; each utterance is in one of them.
        shape: (L, D).
        dtype: of the states.
    """

    def __init__(
        self,
        folder: Path,
        stamp: Mapping[str, Any],
        frames: np.ndarray,
        rows: list[np.ndarray],
        shape: tuple[int, int],
        dtype: torch.dtype,
    ) -> None:
        self.folder, self.frames, self.rows, self.dtype = folder, frames, rows, dtype
        layout = hashlib.sha256(json.dumps([r.tolist() for r in (*rows, frames)]).encode())
        stamp = {"format": FORMAT, **stamp, "layout": layout.hexdigest()[:16]}
        self.shards = [
            Shard(
                folder / f"{number:05}.safetensors",
                number,
                len(rows),
                (int(frames[own].sum()), *shape),
                dtype,
                stamp,
            )
            for number, own in enumerate(rows)
        ]

    @property
    def size(self) -> int:
        """Bytes of all states."""
        return sum(shard.size for shard in self.shards)

    @property
    def starts(self) -> np.ndarray:
        """(N,) where each utterance begins if the shards are laid end to end."""
        order = np.concatenate(self.rows)
        starts = np.empty(len(order), dtype=np.int64)
        starts[order] = np.cumsum([0, *self.frames[order][:-1]])
        return starts

    def faults(self, everything: bool = False) -> dict[int, str]:
        """Say of every shard that is not what it has to be, why.

        ``everything``: hash every shard, not those alone whose file is not as it was.
        """
        seen, now, found = self._seen(), {}, {}
        for shard in self.shards:
            name, signature = shard.path.name, _signature(shard.path)
            known = seen.get(name) == signature
            problem = fault(shard, hashed=everything or not known)
            if problem:
                found[shard.number] = problem
            else:
                now[name] = signature
        if now != seen and self.folder.is_dir():
            self._remember(now)
        return found

    def complete(
        self,
        split: Callable[[np.ndarray], list[np.ndarray]],
        encode: Callable[[np.ndarray], Tensor],
    ) -> None:
        """Write every shard that is not there as it has to be; say what was wrong with it.

        Args:
            split: cuts a shard's rows into groups that are encoded at once, keeping their order.
            encode: a group's rows → its states (frames, L, D), on any device.

        Raises:
            StudyError: the disk is full, or cannot be written; whole shards are kept.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._lock():
                bad = self.faults()
                self._tell(bad)
                for stray in (
                    *self.folder.glob("*.partial"),
                    *(self.shards[number].path for number in bad),
                    *(p for p in self.folder.glob("*.safetensors") if p not in self._paths()),
                ):
                    stray.unlink(missing_ok=True)
                need, free = sum(self.shards[n].size for n in bad), room(self.folder)
                if need > free:
                    raise StudyError(
                        f"{self.folder}: {amount(need)} of states are to be written, "
                        f"{amount(free)} are free; {REMEDY}"
                    )
                self._write(bad, split, encode)
        except OSError as error:
            whole = len(self.shards) - len(self.faults())
            raise StudyError(
                f"{error.filename or self.folder}: states cannot be written ({error.strerror}); "
                f"{whole} of {len(self.shards)} shards are whole and kept; {REMEDY}"
            ) from None

    def _paths(self) -> set[Path]:
        return {shard.path for shard in self.shards}

    def _tell(self, bad: dict[int, str]) -> None:
        """Say what is wrong, once for shards of one problem; a fresh store is not worth a line."""
        for problem in dict.fromkeys(bad.values()):
            numbers = [number for number in bad if bad[number] == problem]
            first = self.shards[numbers[0]].path
            more = f" and {len(numbers) - 1} more" if len(numbers) > 1 else ""
            if len(bad) < len(self.shards) or problem != "not there":
                say(f"{first}{more}: {problem}; encoded anew")
        if 0 < len(bad) < len(self.shards):
            kept = len(self.shards) - len(bad)
            say(f"{self.folder}: {kept} of {len(self.shards)} shards are whole and kept")

    def _write(
        self,
        bad: dict[int, str],
        split: Callable[[np.ndarray], list[np.ndarray]],
        encode: Callable[[np.ndarray], Tensor],
    ) -> None:
        """Encode in this thread while another one hashes and writes what came before."""
        work = [(number, group) for number in bad for group in split(self.rows[number])]
        writer: Writer | None = None
        with ThreadPoolExecutor(1) as pool:
            last: Future[None] = pool.submit(lambda: None)
            try:
                for place, (number, group) in enumerate(track(work, "encoding")):
                    states = raw(encode(group).cpu())
                    last.result()
                    if writer is None:
                        writer = Writer(self.shards[number])
                    last = pool.submit(writer.add, states)
                    if place + 1 == len(work) or work[place + 1][0] != number:
                        last.result()
                        last = pool.submit(self._finish, writer)
                        writer = None
                last.result()
            except BaseException:
                last.exception()  # what is being written is
                if writer is not None:
                    writer.abort()
                raise

    def _finish(self, writer: Writer) -> None:
        writer.finish()
        path = writer.shard.path
        self._remember({**self._seen(), path.name: _signature(path)})

    def open(self) -> Stored:
        """Open all shards; they must be whole."""
        shard, start = np.empty(len(self.frames), int), np.empty(len(self.frames), int)
        for number, rows in enumerate(self.rows):
            shard[rows] = number
            start[rows] = np.cumsum([0, *self.frames[rows][:-1]])
        return Stored([Reader(one) for one in self.shards], shard, start)

    def lift(self, device: torch.device) -> Tensor:
        """Return all states laid end to end on a device, and a row of zeros: (frames + 1, L, D).

        A chunk is read into pinned memory while the one before it is copied to the device.
        """
        gpu = device.type == "cuda"
        shape = self.shards[0].shape[1:]
        flat = torch.empty(int(self.frames.sum()) + 1, *shape, dtype=self.dtype, device=device)
        flat[-1] = 0
        step = max(1, CHUNK // (self.dtype.itemsize * int(np.prod(shape))))
        buffers = [torch.empty(step, *shape, dtype=self.dtype, pin_memory=gpu) for _ in range(2)]
        events = [torch.cuda.Event() if gpu else None for _ in buffers]
        at = turn = 0
        for shard in self.shards:
            reader = Reader(shard)
            for first in range(0, shard.shape[0], step):
                count = min(step, shard.shape[0] - first)
                buffer, event = buffers[turn % 2][:count], events[turn % 2]
                if event is not None and turn > 1:
                    event.synchronize()
                reader.read(first, None, raw(buffer))
                flat[at : at + count].copy_(buffer, non_blocking=True)
                if event is not None:
                    event.record()
                at, turn = at + count, turn + 1
        if gpu:
            torch.cuda.synchronize(device)
        return flat

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Be the only one that writes; the kernel takes the lock back however a job ends."""
        lock = FileLock(self.folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            say(f"{self.folder}: waiting for the job that writes it")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def _seen(self) -> dict[str, list[int]]:
        try:
            seen: dict[str, list[int]] = json.loads((self.folder / SEEN).read_text())
        except (OSError, ValueError):
            return {}
        return seen

    def _remember(self, seen: dict[str, Any]) -> None:
        """Note which files were hashed; where that cannot be written they are hashed again."""
        partial = self.folder / f".{SEEN}.{os.getpid()}"
        with suppress(OSError):
            partial.write_text(json.dumps(seen))
            partial.replace(self.folder / SEEN)


REMEDY = (
    "free some (make clean-states), allow less (cache_gb) or encode every batch (cache: live), "
    "and start again"
)


def room(folder: Path) -> int:
    """Return the bytes that are free where a folder is or would be."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _signature(path: Path) -> list[int] | None:
    """Return what tells a file from one that was changed or put in its place."""
    try:
        found = path.stat()
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]
