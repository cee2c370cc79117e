"""One process at a time writes into a folder.

A job whose Snakemake was killed works on. When the study is started again, the same job starts
beside it, and both would write the same files. Each stage therefore locks the folder that it writes
into; the one that comes second waits for the first to end, and then finds what that has left.

The lock (``flock``) is on the folder itself, so it leaves no file behind; the kernel takes it back
when its process ends, however it ends. Where folders cannot be locked (on NFS) there is none.
"""

import errno
import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ssl_bench.errors import StudyError
from ssl_bench.progress import say
from ssl_bench.whole import cause, named

_NO_LOCKS = (errno.ENOSYS, errno.EBADF, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL)
"""What file systems say that lock no folders."""


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Make a folder, see that it can be written, and be the only one who writes there.

    Waits while another process does, with a line that says so. After an error a folder that was
    made and holds nothing is removed.

    Raises:
        StudyError: the folder cannot be written, and why.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        opened = _lock_now_or_later(folder)
        try:
            yield
        finally:
            os.close(opened)
    except BaseException:
        with suppress(OSError):  # not empty, or removed
            for path in made:
                path.rmdir()
        raise


def _lock_now_or_later(folder: Path) -> int:
    while True:
        opened = _open(folder)
        if not _lock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB):
            say(f"{folder}: another process writes there; waiting for its end")
            _lock(opened, fcntl.LOCK_EX)
        if folder.is_dir() and os.path.samestat(os.fstat(opened), folder.stat()):
            return opened
        os.close(opened)  # whoever was before has removed it


def claim(folder: Path) -> None:
    """Keep a folder for this process until it ends.

    Raises:
        StudyError: another process has it, or it cannot be written.
    """
    opened = _open(folder)
    if not _lock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB):
        os.close(opened)
        raise StudyError(
            f"{folder}: another Snakemake is at work on this study in this folder; "
            "wait until it has ended, or end it"
        )
    _claimed.append(opened)


_claimed: list[int] = []
"""Folders that are kept open, and so locked, to the end of this process."""


def writable(folder: Path) -> None:
    """Write a byte where a folder is, or will be made.

    Raises:
        StudyError: it cannot be written, and why.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"1")
    except OSError as error:
        raise StudyError(f"{folder}: cannot be written: {cause(error)}") from error


def _open(folder: Path) -> int:
    writable(folder)
    with named(folder):
        folder.mkdir(parents=True, exist_ok=True)
        return os.open(folder, os.O_RDONLY | os.O_DIRECTORY)


def _lock(opened: int, how: int) -> bool:
    """Lock an open folder; False: another process has it."""
    try:
        fcntl.flock(opened, how)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    return True
