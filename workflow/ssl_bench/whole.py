"""Files that are there whole or not at all, and one line where they cannot be written."""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from ssl_bench.errors import StudyError

_REFUSED = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
    *(errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO),
)
"""What a disk says that is full, read-only, someone else's or broken."""


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yield a place beside a file, to write it at; what is there takes the file's name at the end.

    A process that is killed leaves the file as it was, or not there; so does an error.

    Raises:
        StudyError: it cannot be written: which file, and why.
    """
    partial = path.with_name(f".partial-{path.name}")
    try:
        with named(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield partial
            flush(partial)
            partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder beside another, to fill; it takes the other's place at the end.

    Raises:
        StudyError: it cannot be written: which folder, and why.
    """
    partial = path.with_name(f".{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with named(path):
            partial.mkdir(parents=True)
            yield partial
            for file in sorted(partial.iterdir()):
                flush(file)
            shutil.rmtree(path, ignore_errors=True)
            partial.rename(path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Name the file that a block writes where writing fails: few errors do.

    Raises:
        StudyError: it cannot be written: which file, and why.
        OSError: another file, which the error names, cannot be read.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        told = getattr(error, "filename", None)
        if told is not None and path.name not in str(told):
            raise
        raise StudyError(f"{path}: cannot be written: {cause(error)}") from error


def cause(error: BaseException) -> str:
    """Return why something could not be written, in the words of the system where it gave any."""
    number = error.errno if isinstance(error, OSError) else None
    if number is None and (found := re.search(r"os error (\d+)", str(error))):
        number = int(found[1])
    if number is not None:
        return os.strerror(number)
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def refusal(error: OSError) -> str | None:
    """Return file and cause in one line where a disk is full, read-only or the like, else None."""
    if error.errno not in _REFUSED:
        return None
    return f"{error.filename or 'a file'}: {cause(error)}"


def flush(path: Path) -> None:
    """Have a file written to the disk, so that a name never outlives what it stands for."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
