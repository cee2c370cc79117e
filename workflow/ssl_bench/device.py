"""Which device a job runs on.

Snakemake counts GPUs but hands out no ids, so a job leases one: it holds a file lock on a device
until it ends, however it ends (``lease.py``). An outer ``CUDA_VISIBLE_DEVICES`` is kept to. With
``SSL_BENCH_GPU_SLOTS=n`` up to n jobs share a device, for studies of small encoders that leave
most of a large GPU idle.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from ssl_bench.errors import StudyError
from ssl_bench.lease import one_of
from ssl_bench.mig import Parts
from ssl_bench.progress import say

GIVEN = "SSL_BENCH_GPU"
"""Tells a job whether Snakemake gave it a GPU: 1, or 0."""


def visible() -> list[str]:
    """Name the GPUs that this process may use, in torch's order.

    A GPU has the same name in every process, whatever its index there: a cluster that shows each
    job one GPU calls all of them 0. A part of a GPU (MIG) is known by its own name (``mig.py``).
    """
    outer = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    parts = Parts()
    names = []
    for index in range(torch.cuda.device_count()):
        asked = outer[index].strip() if index < len(outer) else ""
        names.append(parts.name(str(torch.cuda.get_device_properties(index).uuid), asked))
    return names


def resolve(wanted: str | None) -> str:
    """Turn a study's ``device`` into ``cpu`` or ``cuda``.

    A study that names none takes a GPU if there is one. So does ``auto``, but then also a job that
    Snakemake gave a GPU (``SSL_BENCH_GPU``) may end up on the CPU.

    Raises:
        StudyError: a GPU is needed where there is none.
    """
    found = torch.cuda.is_available()
    if wanted == "cuda" and not found:
        raise StudyError("device: the study asks for cuda, found no GPU; expected auto or cpu")
    if wanted is None and not found and os.environ.get(GIVEN, "0") not in ("", "0"):
        raise StudyError(
            "device: the job was given a GPU, found none, and the study names no device; "
            "expected device: auto or cpu to train on the CPU"
        )
    return "cuda" if found and wanted != "cpu" else "cpu"


def slots() -> int:
    """Return how many jobs may share a device (``SSL_BENCH_GPU_SLOTS``, one by default)."""
    value = os.environ.get("SSL_BENCH_GPU_SLOTS", "1")
    if not value.isdecimal() or int(value) < 1:
        raise StudyError(f"SSL_BENCH_GPU_SLOTS: expected a number from 1, found {value!r}")
    return int(value)


def demand_bf16(device: torch.device, key: str, instead: str) -> None:
    """Refuse what asks for bf16 on a GPU that only emulates it.

    Args:
        device: where it would run.
        key: the key and value of the study that ask for it.
        instead: the value that does not.

    Raises:
        StudyError: the device is a GPU older than compute capability 8.0.
    """
    if device.type != "cuda":
        return
    major, minor = torch.cuda.get_device_capability(device)
    if major < 8:
        raise StudyError(
            f"{key}: {torch.cuda.get_device_name(device)} (compute capability {major}.{minor}) has "
            f"no bf16, expected 8.0 or newer; use {instead}, another GPU or device: cpu"
        )


@contextmanager
def lease(wanted: str | None) -> Iterator[torch.device]:
    """Hold one device until the block ends; wait in line while all are taken.

    Raises:
        StudyError: a GPU is needed where there is none, or there is no place for the locks.
    """
    if resolve(wanted) == "cpu":
        yield torch.device("cpu")
        return
    names = visible()
    with one_of(names, slots(), lambda: say(f"waiting for one of {len(names)} GPUs")) as index:
        torch.cuda.set_device(index)
        yield torch.device("cuda", index)


@contextmanager
def hold(device: torch.device) -> Iterator[torch.device]:
    """Hold a device that is chosen already until the block ends; wait in line while it is taken.

    Raises:
        StudyError: there is no place for the locks.
    """
    if device.type == "cpu":
        yield device
        return
    with one_of([visible()[device.index or 0]], slots(), lambda: say(f"waiting for {device}")):
        yield device


def upload(values: Tensor, device: torch.device) -> Tensor:
    """Copy from the host without waiting for what the GPU still has to do."""
    if device.type != "cuda" or values.is_cuda:
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)
