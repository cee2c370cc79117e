"""Progress that suits its reader: a bar on a terminal, plain lines in a log."""

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import suppress
from typing import TypeVar

from rich.progress import track as bar

T = TypeVar("T")


def track(
    items: Iterable[T], label: str, every: float = 15.0, total: int | None = None
) -> Iterator[T]:
    """Yield items; show how many are done and, where the total is known, the time left."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    if sys.stderr.isatty():
        yield from bar(items, description=label, total=total)
        return
    began = said = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - said >= every:
            said = now
            left = f", {(now - began) / done * (total - done):.0f} s left" if total else ""
            say(f"{label}: {done}{f' of {total}' if total else ''}{left}")


def amount(size: float) -> str:
    """Return a number of bytes as people read it."""
    return f"{size / 1e9:,.2f} GB" if size >= 1e8 else f"{size / 1e6:,.2f} MB"


def say(line: str) -> None:
    """Print one line to the log at once; where the disk of the log is full, the work goes on."""
    with suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def tell(line: str) -> None:
    """Print one line to the log, or where that cannot be written to standard output."""
    try:
        print(line, file=sys.stderr, flush=True)
    except OSError:
        print(line, flush=True)
