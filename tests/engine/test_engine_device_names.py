"""One device, one lock, whatever a job's CUDA_VISIBLE_DEVICES calls it: with a made-up driver that
numbers devices as CUDA does and names parts of them as NVML does."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch

from ssl_bench import device, lease, mig
from ssl_bench.errors import StudyError
from ssl_bench.pretrain import stages

_REST = "0000-1111-2222-333344445555"
FIRST, SECOND, SPLIT = f"6a6a6a6a-{_REST}", f"6b6b6b6b-{_REST}", f"7c7c7c7c-{_REST}"
PARTS = ("MIG-51e0a8f2-5c1d-5d3b-b1a6-0d1f6d2c7e11", f"MIG-GPU-{SPLIT}/1/0")
"""Two parts of the third board, under names of either style."""
OTHERS = (f"MIG-GPU-{SPLIT}/7/0", "MIG-62f1b9a3-5c1d-5d3b-b1a6-0d1f6d2c7e22")
"""Their names in the other style."""


class WaitedInLine(Exception):
    """All devices that would do were taken."""


class Driver:
    """Three boards, the last of them in two parts.

    Args:
        own: CUDA gives a part's own UUID, as its newer versions do, not the board's.
    """

    def __init__(self, own: bool) -> None:
        self.boards, self.own = [FIRST, SECOND, SPLIT], own

    def listed(self) -> list[str]:
        """Return the UUID of each device that CUDA shows."""
        return [
            (PARTS[0] if name not in (PARTS[1], OTHERS[1]) else OTHERS[1]).removeprefix("MIG-")
            if self.own and board == SPLIT
            else board
            for name, board in self._shown()
        ]

    def _shown(self) -> list[tuple[str, str]]:
        """Return what a job asks for, as its environment says, and the board of each."""
        outer = os.environ.get("CUDA_VISIBLE_DEVICES")
        if outer is None:
            return [(board, board) for board in self.boards]
        found = []
        for name in outer.split(","):
            board = self._board(name.strip())
            if board is None:  # CUDA ends its list at the first name that is none
                break
            found.append((name.strip(), board))
        return found

    def _board(self, name: str) -> str | None:
        boards = self.boards
        if name in (*PARTS, *OTHERS):
            return SPLIT
        if name.isdecimal():
            return boards[int(name)] if int(name) < len(boards) else None
        short = name.removeprefix("GPU-")
        fitting = [board for board in boards if name != short and board.startswith(short)]
        return fitting[0] if len(fitting) == 1 else None


class NVML:
    """The part of the driver that knows names: handles are 1 to 3 for boards, 11 and 12 for parts.

    Of seven places on the third board the second and the fifth are in use.
    """

    names: ClassVar = {
        **{f"GPU-{board}": number for number, board in enumerate((FIRST, SECOND, SPLIT), 1)},
        **{PARTS[0]: 11, OTHERS[0]: 11, PARTS[1]: 12, OTHERS[1]: 12},
    }
    places: ClassVar = {1: 11, 4: 12}

    def nvmlInit_v2(self) -> int:
        return 0

    def nvmlDeviceGetHandleByUUID(self, name, handle) -> int:
        handle._obj.value = self.names.get(name.value.decode())
        return 0 if handle._obj.value else 6

    def nvmlDeviceGetMaxMigDeviceCount(self, handle, count) -> int:
        count._obj.value = 7 if handle.value == 3 else 0
        return 0

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle, index, part) -> int:
        part._obj.value = self.places.get(index.value) if handle.value == 3 else None
        return 0 if part._obj.value else 6

    def nvmlDeviceGetUUID(self, handle, text, size: int) -> int:
        assert size == len(text) == 96
        text.value = {11: PARTS[0], 12: OTHERS[1]}[handle.value].encode()
        return 0


@pytest.fixture(autouse=True, params=["board's", "own"])
def driver(monkeypatch, tmp_path, request) -> Driver:
    made = Driver(own=request.param == "own")
    monkeypatch.setattr(mig, "library", NVML)
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
    return made


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
        (PARTS[0], OTHERS[0]),
        (PARTS[1], OTHERS[1]),
        (PARTS[0], "2"),  # of a board CUDA shows the first part
        (OTHERS[0], f"GPU-{SPLIT}"),
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
        ("2", PARTS[1]),
        (f"GPU-{SPLIT}", OTHERS[1]),
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


@pytest.mark.parametrize("part", [PARTS[0], OTHERS[0]])
def test_a_job_that_says_nothing_holds_the_first_part(driver, job, part) -> None:
    driver.boards = [SPLIT]
    for first, second in ((None, part), (part, None)):
        with job(first):
            with pytest.raises(WaitedInLine), job(second):
                pass
            with job(PARTS[1]) as held:
                assert held == 0


@pytest.mark.parametrize("lacks", ["library", "start", "functions of parts"])
def test_without_nvml_a_part_is_known_by_what_was_asked(monkeypatch, driver, job, lacks) -> None:
    class Less(NVML):
        if lacks == "start":

            def nvmlInit_v2(self) -> int:
                return 9

        else:
            nvmlDeviceGetMaxMigDeviceCount = None  # as getattr answers for a name that is not there

    driver.own = False
    monkeypatch.setattr(mig, "library", (lambda: None) if lacks == "library" else Less)
    with job("2"), job(PARTS[0]), job("0,1"):  # which do not see each other
        for again in ("2", PARTS[0], "0"):
            with pytest.raises(WaitedInLine), job(again):
                pass


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
