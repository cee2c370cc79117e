"""Which device a job runs on.

Snakemake counts GPUs but hands out no ids, so a job leases one: it holds a file lock on a device
until it ends, however it ends. An outer ``CUDA_VISIBLE_DEVICES`` is kept to. With
``SSL_BENCH_GPU_SLOTS=n`` up to n jobs share a device, for studies of small encoders that leave
most of a large GPU idle.
"""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from ssl_bench.errors import StudyError
from ssl_bench.progress import say


def visible() -> list[str]:
    """List the ids of the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    outer = os.environ.get("CUDA_VISIBLE_DEVICES")
    if outer is not None:
        return [name.strip() for name in outer.split(",") if name.strip()]
    return [str(index) for index in range(torch.cuda.device_count())]


def resolve(wanted: str) -> str:
    """Turn a study's ``device`` into ``cpu`` or ``cuda``; refuse a GPU where there is none."""
    found = torch.cuda.is_available()
    if wanted == "cuda" and not found:
        raise StudyError("device: the study asks for cuda, found no GPU; use auto or cpu")
    return "cuda" if found and wanted != "cpu" else "cpu"


def slots() -> int:
    """Return how many jobs may share a device (``SSL_BENCH_GPU_SLOTS``, one by default)."""
    value = os.environ.get("SSL_BENCH_GPU_SLOTS", "1")
    if not value.isdecimal() or int(value) < 1:
        raise StudyError(f"SSL_BENCH_GPU_SLOTS: expected a number from 1, found {value!r}")
    return int(value)


@contextmanager
def lease(wanted: str) -> Iterator[torch.device]:
    """Hold one device until the block ends; wait in line while all are taken."""
    if resolve(wanted) == "cpu":
        yield torch.device("cpu")
        return
    places = slots()
    folder = Path(tempfile.gettempdir()) / f"ssl-bench-gpu-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    waiting = False
    while True:
        for slot in range(places):
            for index, name in enumerate(visible()):
                lock = FileLock(folder / f"{name.replace('/', '_')}.{slot}.lock")
                try:
                    lock.acquire(timeout=0)
                except Timeout:
                    continue
                try:
                    torch.cuda.set_device(index)
                    yield torch.device("cuda", index)
                finally:
                    lock.release()
                return
        if not waiting:
            say(f"waiting for one of {len(visible())} GPUs")
            waiting = True
        time.sleep(0.5)
