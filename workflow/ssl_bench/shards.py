"""A shard: some utterances' states in one file, whole under its name or not there.

It is a safetensors file with one tensor, ``states`` (frames, L, D): other tools read it, too. Its
header is padded to whole pages, so that states can be mapped or read directly, and says in its
metadata what determines them (the stamp), which shard of how many it is, and the CRC-32 of the
states: the fastest checksum of Python's own (3.8 GB/s on a core; SHA-256 1.6, BLAKE2b 0.7), meant
for what disks and copies do, not for a forger.
"""

import json
import os
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssl_bench.errors import StudyError

FORMAT = 1
"""Is raised with every change of what a shard holds or of what it means."""
PAGE = 4096
CHUNK = LONGEST = 1 << 20
"""Bytes that are hashed at once, in memory that stays near; and that a header may have."""
NAMES = {torch.bfloat16: "BF16", torch.float16: "F16", torch.float32: "F32"}
"""safetensors' names of dtypes."""
SEEN_AS = {2: np.uint16, 4: np.uint32}
"""As what numpy, which has no bfloat16, copies numbers of so many bytes."""


def raw(states: Tensor) -> np.ndarray:
    """Return the same memory as numpy copies it: unsigned integers of as many bytes."""
    same = {2: torch.uint16, 4: torch.uint32}[states.dtype.itemsize]
    return states.view(same).numpy()


@dataclass(frozen=True)
class Shard:
    """What a shard has to be."""

    path: Path
    number: int
    of: int
    shape: tuple[int, int, int]
    """Frames, L, D."""
    dtype: torch.dtype
    stamp: Mapping[str, Any]
    """All that determines its states."""

    @property
    def size(self) -> int:
        """Bytes of its states."""
        return int(np.prod(self.shape)) * self.dtype.itemsize

    @property
    def begin(self) -> int:
        """Byte at which its states begin."""
        return len(self.header(0))

    def header(self, checksum: int) -> bytes:
        """Return its first bytes; how many they are does not depend on the checksum."""
        about = {
            "__metadata__": {
                "stamp": json.dumps(dict(self.stamp), sort_keys=True),
                "shard": f"{self.number} of {self.of}",
                "crc32": f"{checksum:08x}",
            },
            "states": {
                "dtype": NAMES[self.dtype],
                "shape": list(self.shape),
                "data_offsets": [0, self.size],
            },
        }
        text = json.dumps(about).encode()
        padded = text.ljust(-(-(8 + len(text)) // PAGE) * PAGE - 8)
        return len(padded).to_bytes(8, "little") + padded


class Writer:
    """Writes a shard beside its place and gives it its name when it is whole.

    What was written is flushed to the disk by a thread while more comes.

    Raises:
        OSError: from every method; nothing half-written is left.
    """

    def __init__(self, shard: Shard) -> None:
        self.shard, self._checksum, self._written = shard, 0, 0
        self._partial = shard.path.with_suffix(".partial")
        self._file = self._partial.open("wb")
        self._pool = ThreadPoolExecutor(1)
        self._flushed = self._pool.submit(os.fdatasync, self._file.fileno())
        self._guarded(self._file.write, shard.header(0))

    def add(self, states: np.ndarray) -> None:
        """Write the next frames, (n, L, D), as :func:`raw` shows them."""
        new = memoryview(np.ascontiguousarray(states)).cast("B")  # type: ignore[arg-type]
        self._checksum = zlib.crc32(new, self._checksum)
        self._written += len(new)
        self._guarded(self._add, new)

    def _add(self, new: memoryview) -> None:
        self._file.write(new)
        if self._flushed.done():
            self._flushed.result()  # an error is told once, to who flushes
            self._file.flush()
            self._flushed = self._pool.submit(os.fdatasync, self._file.fileno())

    def finish(self) -> None:
        """Flush to the disk and give the file its name."""
        if self._written != self.shard.size:
            self.abort()
            raise ValueError(f"{self.shard.path}: {self._written} of {self.shard.size} bytes")
        self._guarded(self._finish)

    def _finish(self) -> None:
        self._flushed.result()
        self._pool.shutdown()
        self._file.seek(0)
        self._file.write(self.shard.header(self._checksum))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._partial.replace(self.shard.path)
        folder = os.open(self.shard.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def abort(self) -> None:
        """Leave nothing."""
        self._pool.shutdown()
        with suppress(OSError):  # what is still in its buffer does not fit on the disk, either
            self._file.close()
        self._partial.unlink(missing_ok=True)

    def _guarded(self, do: Any, *arguments: Any) -> None:
        try:
            do(*arguments)
        except BaseException:
            self.abort()
            raise


def fault(shard: Shard, hashed: bool) -> str | None:
    """Say in a few words why a file is not the shard that it has to be; None: it is.

    Args:
        shard: what it has to be.
        hashed: whether its states are compared with its checksum, at the speed of reading.
    """
    try:
        with shard.path.open("rb") as file:
            found, expected = os.fstat(file.fileno()).st_size, shard.begin + shard.size
            start = file.read(8)
            start += file.read(min(int.from_bytes(start, "little"), LONGEST))
            short = f"truncated: {found:,} bytes, expected {expected:,}"
            try:
                stamp, place, checksum = _read(start)
            except (ValueError, KeyError, TypeError, AttributeError):
                return short if found < expected else "not a shard: its header cannot be read"
            names = sorted({*stamp, *shard.stamp})
            if other := [name for name in names if stamp.get(name) != shard.stamp.get(name)]:
                return f"of another {', '.join(other)}"
            if start != shard.header(checksum):
                return f"another shard: {place}, expected {shard.number} of {shard.of}"
            if found != expected:
                return short if found < expected else short.replace("truncated", "too long")
            if hashed and (seen := _checksum(file)) != checksum:
                return f"altered: checksum {seen:08x}, expected {checksum:08x}"
    except FileNotFoundError:
        return "not there"
    except OSError as error:
        return f"not readable ({error.strerror})"
    return None


def _read(header: bytes) -> tuple[dict[str, Any], str, int]:
    """Return the stamp, place and checksum that a header gives."""
    metadata = json.loads(header[8:])["__metadata__"]
    return json.loads(metadata["stamp"]), metadata["shard"], int(metadata["crc32"], 16)


def _checksum(file: BufferedReader) -> int:
    seen, chunk = 0, memoryview(bytearray(CHUNK))
    while count := file.readinto(chunk):
        seen = zlib.crc32(chunk[:count], seen)
    return seen


class Reader:
    """A whole shard, opened: frames are read from the file, single layers from its map."""

    def __init__(self, shard: Shard) -> None:
        self.shard, self._frame = shard, shard.size // shard.shape[0]
        self._file = shard.path.open("rb", buffering=0)
        self._states = np.memmap(
            self._file,
            dtype=SEEN_AS[shard.dtype.itemsize],
            mode="r",
            offset=shard.begin,
            shape=shard.shape,
        )

    def read(self, first: int, layers: np.ndarray | None, out: np.ndarray) -> None:
        """Read frames from ``first`` on.

        Args:
            first: of this shard.
            layers: (k,) which layers; None: all.
            out: (n, k, D) or (n, L, D), as :func:`raw` shows them, contiguous: is filled.

        Raises:
            StudyError: the file has become shorter, or cannot be read.
        """
        if layers is not None:
            self._demand((first + len(out)) * self._frame)  # else the map would end the process
            for place, layer in enumerate(layers):
                out[:, place] = self._states[first : first + len(out), layer]
            return
        left = memoryview(out).cast("B")  # type: ignore[arg-type]
        offset = self.shard.begin + first * self._frame
        while left:
            try:
                count = os.preadv(self._file.fileno(), [left], offset)
            except OSError as error:
                raise StudyError(f"{self.shard.path}: cannot be read ({error.strerror})") from None
            if not count:
                self._demand(self.shard.size)
            left, offset = left[count:], offset + count

    def _demand(self, end: int) -> None:
        found = os.fstat(self._file.fileno()).st_size
        if found < self.shard.begin + end:
            raise StudyError(
                f"{self.shard.path}: truncated while it was read: {found:,} bytes, expected "
                f"{self.shard.begin + self.shard.size:,}; start the job again"
            )
