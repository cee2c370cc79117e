"""A job leases a GPU: no two jobs hold the same slot, and a killed one gives its slot back."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
import torch

from ssl_bench import device, lease
from ssl_bench.errors import StudyError

HOLDER = """
import sys
import torch
from ssl_bench import device
device.resolve = lambda wanted: "cuda"
device.visible = lambda: sys.argv[1].split(",")
torch.cuda.set_device = lambda index: None
with device.lease("cuda") as held:
    print(held.index, flush=True)
    sys.stdin.read()
"""


class WaitedInLine(Exception):
    """All slots were taken."""


@pytest.fixture
def gpus(monkeypatch, tmp_path) -> Callable[..., None]:
    """Pretend to have GPUs of these names; a lease that would have to wait raises."""
    monkeypatch.setenv("SSL_BENCH_LOCKS", str(tmp_path))
    monkeypatch.delenv("SSL_BENCH_GPU_SLOTS", raising=False)
    monkeypatch.setattr(device, "resolve", lambda wanted: "cuda")
    monkeypatch.setattr(torch.cuda, "set_device", lambda index: None)

    def wait(seconds: float) -> None:
        raise WaitedInLine

    monkeypatch.setattr(lease.time, "sleep", wait)

    def pretend(*names: str) -> None:
        monkeypatch.setattr(device, "visible", lambda: list(names))

    return pretend


@pytest.fixture
def hold(gpus, repository) -> Iterator[Callable[..., tuple[subprocess.Popen, int]]]:
    """Start another process that leases one of the GPUs; return it and its GPU's index."""
    started = []

    def start(*names: str) -> tuple[subprocess.Popen, int]:
        path = os.pathsep.join([str(repository / "workflow"), os.environ.get("PYTHONPATH", "")])
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, ",".join(names)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )
        started.append(process)
        assert process.stdout is not None
        return process, int(process.stdout.readline())

    yield start
    for process in started:
        process.kill()
        process.communicate()


def index() -> int:
    with device.lease("cuda") as held:
        assert held.type == "cuda"
        return held.index


def test_two_processes_never_hold_one_gpu_and_a_killed_one_gives_it_back(gpus, hold) -> None:
    process, first = hold("0", "1")
    assert first == 0
    gpus("0", "1")
    assert index() == 1
    gpus("0")
    with pytest.raises(WaitedInLine):
        index()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert index() == 0


def test_slots_share_a_gpu_and_fill_every_gpu_first(gpus, monkeypatch) -> None:
    gpus("0", "1")
    monkeypatch.setenv("SSL_BENCH_GPU_SLOTS", "2")
    with device.lease("auto") as a, device.lease("auto") as b:
        assert {a.index, b.index} == {0, 1}
        with device.lease("auto") as c, device.lease("auto") as d:
            assert {c.index, d.index} == {0, 1}
            with pytest.raises(WaitedInLine):
                index()


def test_a_lease_ends_with_its_block_however_that_ends(gpus) -> None:
    gpus("0")
    assert index() == 0
    with pytest.raises(ZeroDivisionError), device.lease("cuda"):
        raise ZeroDivisionError
    assert index() == 0


def test_locks_are_by_the_gpus_own_name(gpus) -> None:
    """Jobs that see one GPU each, under different ids, do not wait for each other."""
    gpus("GPU-aaaa")
    with device.lease("cuda"):
        gpus("GPU-bbbb")
        assert index() == 0
        gpus("GPU-bbbb", "GPU-aaaa")
        assert index() == 0
        gpus("GPU-aaaa", "GPU-bbbb")
        assert index() == 1


@pytest.mark.parametrize("slots", ["0", "-1", "two", ""])
def test_a_number_of_slots_that_is_none(gpus, monkeypatch, slots: str) -> None:
    gpus("0")
    monkeypatch.setenv("SSL_BENCH_GPU_SLOTS", slots)
    with pytest.raises(StudyError, match="SSL_BENCH_GPU_SLOTS: expected a number from 1"):
        index()


def test_cpu_takes_no_lock(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("SSL_BENCH_LOCKS", str(tmp_path))
    with device.lease("cpu") as held:
        assert held == torch.device("cpu")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("outer", "names"),
    [
        (None, ["uuid-0", "uuid-1"]),
        ("1,3", ["uuid-0", "uuid-1"]),  # indices, which another job may use for other GPUs
        ("GPU-ab, GPU-cd", ["uuid-0", "uuid-1"]),  # shortened names
        ("MIG-GPU-ab/1/0, MIG-cd", ["MIG-GPU-ab/1/0", "MIG-cd"]),
    ],
)
def test_a_gpu_has_one_name_in_every_process(monkeypatch, outer, names) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda i: SimpleNamespace(uuid=f"uuid-{i}")
    )
    if outer is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", outer)
    assert device.visible() == names


@pytest.mark.parametrize(
    ("wanted", "found", "taken"),
    [("auto", True, "cuda"), ("auto", False, "cpu"), ("cpu", True, "cpu"), ("cuda", True, "cuda")],
)
def test_what_auto_takes(monkeypatch, wanted: str, found: bool, taken: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: found)
    assert device.resolve(wanted) == taken


@pytest.mark.parametrize("given", [None, "", "0", "1"])
@pytest.mark.parametrize("found", [True, False])
@pytest.mark.parametrize("wanted", [None, "auto", "cpu"])
def test_who_may_end_up_on_the_cpu(monkeypatch, wanted, found: bool, given: str | None) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: found)
    if given is None:
        monkeypatch.delenv("SSL_BENCH_GPU", raising=False)
    else:
        monkeypatch.setenv("SSL_BENCH_GPU", given)
    if given == "1" and wanted is None and not found:
        with pytest.raises(StudyError, match=r"given a GPU, found none.* device: auto or cpu"):
            device.resolve(wanted)
    else:
        assert device.resolve(wanted) == ("cuda" if found and wanted != "cpu" else "cpu")


def test_a_gpu_asked_for_where_none_is(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(StudyError) as caught, device.lease("cuda"):
        pass
    assert str(caught.value) == (
        "device: the study asks for cuda, found no GPU; expected auto or cpu"
    )
