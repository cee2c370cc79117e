"""A shared library of this process whose variables can be put back to how they were."""

import ctypes
import os
from _ctypes import dlclose, dlopen, dlsym
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

# Names and numbers of elf.h.
_LOADED, _THREAD_LOCAL, _READ_ONLY_LATER = 1, 7, 0x6474E552
_WRITABLE = 2
_WORD = 8  # bytes


class _Header(ctypes.Structure):  # Elf64_Phdr
    _fields_ = [
        ("type", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("offset", ctypes.c_uint64),
        ("address", ctypes.c_uint64),
        ("physical_address", ctypes.c_uint64),
        ("size_in_file", ctypes.c_uint64),
        ("size", ctypes.c_uint64),
        ("align", ctypes.c_uint64),
    ]


class _Object(ctypes.Structure):  # dl_phdr_info
    _fields_ = [
        ("base", ctypes.c_uint64),
        ("name", ctypes.c_char_p),
        ("headers", ctypes.POINTER(_Header)),
        ("count", ctypes.c_uint16),
    ]


_Visit = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(_Object), ctypes.c_size_t, ctypes.c_void_p)


class Library:
    """A library file that nobody else in this process has open; its functions are attributes.

    Its variables are the words of its writable segment. What they point to on the heap stays as
    it is, so this is for libraries whose lasting allocations do not carry over what was done.

    Args:
        path: the file, absolute.
        functions: C types of each function: the result's, then the arguments'.

    Raises:
        OSError: there is no such library, or it lacks a function.
    """

    def __init__(self, path: Path, functions: Mapping[str, tuple[Any, ...]]) -> None:
        # Now, not when first called: the addresses of functions lie among the variables.
        self._handle: int | None = dlopen(str(path), os.RTLD_NOW)
        self._functions = {
            name: ctypes.CFUNCTYPE(*types)(dlsym(self._handle, name))
            for name, types in functions.items()
        }
        self._variables = _variables(path)
        self._loaded = self._variables.copy()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self._functions[name]

    @property
    def restorable(self) -> bool:
        """Whether the variables were found: on Linux, if none belong to a thread."""
        return len(self._variables) > 0

    def keep(self, prepare: Callable[[], None], clean: Callable[[], Any]) -> None:
        """Call ``prepare`` and remember the variables as it leaves them.

        Args:
            prepare: calls functions of the library, which allocate what all later calls share.
            clean: frees that, and whatever else the library has allocated.
        """
        prepare()
        prepared = self._variables.copy()
        clean()
        # What `prepare` sets and `clean` resets points to what both allocate and free.
        self._owners = np.flatnonzero(
            (prepared != self._loaded) & (self._variables == self._loaded)
        )
        self._variables[:] = self._loaded
        prepare()
        self._kept = self._variables.copy()

    def restore(self, clean: Callable[[], Any]) -> None:
        """Put the variables back, and let ``clean`` free all that has been allocated since."""
        shared = self._variables[self._owners]
        self._variables[self._owners] = self._loaded[self._owners]
        clean()
        self._variables[:] = self._kept
        self._variables[self._owners] = shared

    def close(self) -> None:
        """Unload it; further calls raise a KeyError."""
        if self._handle is not None:
            self._functions.clear()
            self._variables = np.empty(0, np.uint64)
            dlclose(self._handle)
            self._handle = None


def _variables(path: Path) -> np.ndarray:
    """Return the words of the writable segment of an open library, a view; empty if unknown."""
    process = ctypes.CDLL(None)
    if not hasattr(process, "dl_iterate_phdr") or ctypes.sizeof(ctypes.c_void_p) != _WORD:
        return np.empty(0, np.uint64)
    found: list[tuple[int, int]] = []
    threads: list[int] = []

    def visit(entry: "ctypes._Pointer[_Object]", size: int, data: int | None) -> int:
        shown = entry.contents
        if shown.name != os.fsencode(path):
            return 0
        headers = shown.headers[: shown.count]
        for header in headers:
            start, end = header.address, header.address + header.size
            if header.type == _THREAD_LOCAL:
                threads.append(start)
            if header.type == _LOADED and header.flags & _WRITABLE:
                for other in headers:
                    if other.type == _READ_ONLY_LATER and start <= other.address < end:
                        start = other.address + other.size
                found.append((shown.base + start, shown.base + end))
        return 1

    process.dl_iterate_phdr(_Visit(visit), None)
    if len(found) != 1 or threads:
        return np.empty(0, np.uint64)
    first, last = found[0][0] // _WORD, -(-found[0][1] // _WORD)
    words = (ctypes.c_uint64 * (last - first)).from_address(first * _WORD)
    return np.ctypeslib.as_array(words)
