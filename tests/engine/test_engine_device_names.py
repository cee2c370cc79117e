"""One device, one lock, whatever a job's CUDA_VISIBLE_DEVICES calls it: with a made-up driver that
numbers devices as CUDA does."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

from ssl_bench import device, lease
from ssl_bench.errors import StudyError
from ssl_bench.pretrain import stages

_REST = "0000-1111-2222-333344445555"
FIRST, SECOND, SPLIT = f"6a6a6a6a-{_REST}", f"6b6b6b6b-{_REST}", f"7c7c7c7c-{_REST}"
PARTS = ("MIG-51e0a8f2-5c1d-5d3b-b1a6-0d1f6d2c7e11", f"MIG-GPU-{SPLIT}/1/0")
"""Two parts of the third board, under names of either style."""


class WaitedInLine(Exception):
    """All devices that would do were taken."""


class Driver:
    """Three boards, the last of them in two parts; ``outer`` is what the job's environment says."""

    def listed(self) -> list[str]:
        """Return the UUID of each device that CUDA shows: of a part it is the board's."""
        outer = os.environ.get("CUDA_VISIBLE_DEVICES")
        if outer is None:
            return [FIRST, SECOND, SPLIT]
        found = []
        for name in outer.split(","):
            board = self._board(name.strip())
            if board is None:  # CUDA ends its list at the first name that is none
                break
            found.append(board)
        return found

    def _board(self, name: str) -> str | None:
        boards = [FIRST, SECOND, SPLIT]
        if name in PARTS:
            return SPLIT
        if name.isdecimal():
            return boards[int(name)] if int(name) < len(boards) else None
        short = name.removeprefix("GPU-")
        fitting = [board for board in boards if name != short and board.startswith(short)]
        return fitting[0] if len(fitting) == 1 else None


@pytest.fixture(autouse=True)
def driver(monkeypatch, tmp_path) -> None:
    made = Driver()
    monkeypatch.setenv("SSL_BENCH_LOCKS", str(tmp_path))
    monkeypatch.delenv("SSL_BENCH_GPU_SLOTS", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(made.listed()))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(made.listed()))
    monkeypatch.setattr(torch.cuda, "set_device", lambda index: None)
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda i: SimpleNamespace(uuid=made.listed()[i])
    )

    def wait(seconds: float) -> None:
        raise WaitedInLine

    monkeypatch.setattr(lease.time, "sleep", wait)


@pytest.fixture
def job(monkeypatch):
    """Return a context in which a job holds a device under a CUDA_VISIBLE_DEVICES of its own."""

    @contextmanager
    def start(outer: str | None, wanted: str = "cuda") -> Iterator[int | None]:
        with monkeypatch.context() as patch:
            if outer is None:
                patch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
            else:
                patch.setenv("CUDA_VISIBLE_DEVICES", outer)
            with device.lease(wanted) as held:
                yield held.index

    return start


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("0", "0"),
        ("1", f"GPU-{SECOND}"),
        ("1", "GPU-6b"),
        (f"GPU-{FIRST}", "GPU-6a6a"),
        (PARTS[0], PARTS[0]),
        (PARTS[1], f"{PARTS[1]},7"),
    ],
)
def test_the_same_device_by_two_names_is_held_once(job, one, other) -> None:
    for first, second in ((one, other), (other, one)):
        with job(first) as held:
            assert held == 0
            with pytest.raises(WaitedInLine), job(second):
                pass
        with job(second) as held:
            assert held == 0


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("0", "1"),  # index 0 in both processes, as a cluster shows them
        (f"GPU-{FIRST}", "1"),
        ("GPU-6a", "GPU-6b"),
        PARTS,  # of one board, whose UUID CUDA gives for both
        (PARTS[0], "0"),
    ],
)
def test_different_devices_are_held_side_by_side(job, one, other) -> None:
    with job(one) as first, job(other) as second:
        assert first == second == 0


@pytest.mark.parametrize(
    ("taken", "outer", "index"),
    [
        ("0", None, 1),
        ("0", "0,1", 1),
        ("0", "1,0", 0),
        (f"GPU-{SECOND}", "1,0", 1),
        ("GPU-6a", f"GPU-{FIRST},GPU-{SECOND}", 1),
        (PARTS[0], ",".join(PARTS), 1),
    ],
)
def test_the_index_is_that_among_the_devices_of_the_job(job, taken, outer, index) -> None:
    with job(taken), job(outer) as held:
        assert held == index


@pytest.mark.parametrize("outer", ["", "7", "GPU-ff", "GPU-6"])
def test_no_device_is_shown(job, outer) -> None:
    with pytest.raises(StudyError, match="the study asks for cuda, found no GPU"), job(outer):
        pass
    with job(outer, "auto") as held:
        assert held is None  # the CPU


def test_a_device_that_is_chosen_already_is_held_as_well(job, monkeypatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,0")
    with stages.leased("cuda:1") as held:
        assert held == torch.device("cuda", 1)
        with pytest.raises(WaitedInLine), job(f"GPU-{FIRST}"):
            pass
        with stages.leased("auto") as other, pytest.raises(WaitedInLine), stages.leased("cuda:0"):
            assert other == torch.device("cuda", 0)
    with stages.leased("cuda:1"), stages.leased("cuda") as held:
        assert held == torch.device("cuda", 0)
        with pytest.raises(WaitedInLine), stages.leased("cuda"):
            pass
    with job("0"), stages.leased("cpu") as held:
        assert held.type == "cpu"


def test_names_after_one_that_is_none_are_not_devices(job) -> None:
    with job("1,GPU-ff,0"), pytest.raises(WaitedInLine), job("1,GPU-ff,0"):
        pass
