"""Who holds which device: a lock a slot, and a line before the locks.

A slot of a device is a file, and who holds the lock on it holds the slot. The kernel takes a lock
back when its process ends, however it ends. A job that asks draws a number: a ticket, a file whose
lock says that its owner lives and whose text lists the devices that would do. A job takes a device
that no living job with a lower number would take: first come, first served, and nobody waits for
those who want other devices.
"""

import fcntl
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ssl_bench.errors import StudyError

PLACES = ("/tmp", "/dev/shm")
"""Where the locks may lie: on this machine alone, and the same for all of a user's jobs on it,
which ``TMPDIR`` need not be."""
POLL = 0.3
"""Seconds between two looks at the line."""


@contextmanager
def one_of(names: list[str], slots: int, wait: Callable[[], None]) -> Iterator[int]:
    """Hold a slot of one of some devices until the block ends.

    Args:
        names: the devices; every process must call a device by the same name.
        slots: how many may hold a device at once. Empty devices are taken first.
        wait: called once if none is free now.

    Yields:
        The index in ``names`` of the device that is held.

    Raises:
        StudyError: there is no place for the locks.
    """
    where = folder()
    desk = FileLock(where / "desk.lock", poll_interval=POLL / 10)  # held to draw or to look
    with desk:
        number, ticket = _draw(where, names)
    waiting = False
    try:
        while True:
            with desk:
                free = _take(where, names, slots, number)
            if free is not None:
                break
            if not waiting:
                wait()
                waiting = True
            time.sleep(POLL)
    finally:
        with desk:
            Path(ticket.lock_file).unlink(missing_ok=True)
            ticket.release()
    index, lock = free
    try:
        yield index
    finally:
        lock.release()


def folder() -> Path:
    """Return the user's folder of locks on this machine (``SSL_BENCH_LOCKS``, or one it makes)."""
    chosen = os.environ.get("SSL_BENCH_LOCKS")
    for place in [chosen] if chosen else [*PLACES, tempfile.gettempdir()]:
        path = Path(place) / f"ssl-bench-gpu-{os.getuid()}"
        try:
            path.mkdir(mode=0o700, exist_ok=True)
            if path.lstat().st_uid == os.getuid() and os.access(path, os.W_OK | os.X_OK):
                _try_lock(path)
                return path
        except OSError:
            continue
    raise StudyError(
        "device: no place for the locks on GPUs, found none to write and lock in among "
        f"{chosen or ', '.join([*PLACES, tempfile.gettempdir()])}; "
        "set SSL_BENCH_LOCKS to a folder on this machine"
    )


def _try_lock(path: Path) -> None:
    """Raise OSError if the file system has no locks that end with their process."""
    opened = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
    finally:
        os.close(opened)


def _draw(where: Path, names: list[str]) -> tuple[int, FileLock]:
    """Draw the next number."""
    number = 1 + max((number for number, _ in _tickets(where)), default=0)
    path = where / f"{number}.ticket"
    path.write_text("\n".join(names))
    ticket = FileLock(path)
    ticket.acquire(timeout=0)
    return number, ticket


def _take(where: Path, names: list[str], slots: int, number: int) -> tuple[int, FileLock] | None:
    """Lock a free slot of a device that nobody before ``number`` in the line would take."""
    spoken_for: set[str] = set()
    for other, path in _tickets(where):
        if other < number:
            spoken_for.update(_wishes(path))
    for slot in range(slots):
        for index, name in enumerate(names):
            if name not in spoken_for:
                lock = FileLock(where / f"{re.sub(r'[^A-Za-z0-9.-]', '_', name)}.{slot}.lock")
                if _locked(lock):
                    Path(lock.lock_file).touch()  # for what clears old files away
                    return index, lock
    return None


def _wishes(path: Path) -> list[str]:
    """List the devices of a ticket; remove the ticket of a job that has ended."""
    lock = FileLock(path)
    if not _locked(lock):
        return path.read_text().split("\n")
    path.unlink()
    lock.release()
    return []


def _tickets(where: Path) -> list[tuple[int, Path]]:
    return [(int(path.stem), path) for path in where.glob("*.ticket")]


def _locked(lock: FileLock) -> bool:
    """Lock now or not at all."""
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    return True
