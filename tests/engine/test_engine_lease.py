"""The line for GPUs, with real processes: one holder a slot, first come first served, no death
that leaves a lock behind."""

import errno
import os
import random
import signal
import subprocess
import sys
import time
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest

from ssl_bench import lease
from ssl_bench.errors import StudyError

RACERS, DEVICES, HOLDS, KILLS = 8, ["0", "GPU-1", "MIG-GPU-2/1/0"], 1000, 20
RACER = """
import os, random, sys, time
from ssl_bench import lease
assert "torch" not in sys.modules
lease.POLL = 0.004
log = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)
names = sys.argv[2].split(",")
def note(what):
    os.write(log, f"{time.monotonic_ns()} {os.getpid()} {what}\\n".encode())
draw, take = lease._draw, lease._take
def noted_draw(*given):  # one at a time, as in lease.py: what is noted is in order
    drawn = draw(*given)
    note("draw")
    return drawn
def noted_take(*given):
    taken = take(*given)
    if taken:
        note(f"take {names[taken[0]]}")
    return taken
lease._draw, lease._take = noted_draw, noted_take
while True:
    with lease.one_of(names, 1, lambda: None) as index:
        time.sleep(random.expovariate(100))
        note(f"give {names[index]}")
    time.sleep(random.expovariate(500))
"""


class Note(NamedTuple):
    """What a racer wrote down: its place in the line, and the device that it held."""

    time: int
    pid: int
    what: str
    device: str = ""


def read(log: Path) -> list[Note]:
    lines = (line.split() for line in log.read_text().splitlines())
    return sorted(Note(int(when), int(pid), *rest) for when, pid, *rest in lines)


def shared(notes: list[Note], killed: dict[int, int]) -> list[tuple[Note, Note]]:
    """List the pairs of holds of one device that overlap; ``killed`` says when a racer died."""
    holds: dict[str, list[tuple[Note, float]]] = defaultdict(list)
    taken: dict[int, Note] = {}
    for note in notes:
        if note.what == "take":
            taken[note.pid] = note
        elif note.what == "give":
            holds[note.device].append((taken.pop(note.pid), note.time))
    for pid, note in taken.items():
        holds[note.device].append((note, killed.get(pid, float("inf"))))
    found = []
    for of_device in holds.values():
        of_device.sort()
        for (one, until), (other, _) in pairwise(of_device):
            if other.time < until:
                found.append((one, other))
    return found


def overtaken(notes: list[Note], killed: dict[int, int]) -> list[tuple[int, Note]]:
    """List who took a device before one who had drawn a number earlier and was alive."""
    line: list[int] = []
    found = []
    for note in notes:
        if note.what == "draw":
            line.append(note.pid)
        elif note.what == "take":
            ahead = line[: line.index(note.pid)]
            found += [(p, note) for p in ahead if note.time < killed.get(p, float("inf"))]
            line.remove(note.pid)
    return found


class Race:
    """Some racers for the same devices, who write into one log."""

    def __init__(self, folder: Path, repository: Path) -> None:
        self.log = folder / "log"
        self.log.touch()
        path = os.pathsep.join([str(repository / "workflow"), os.environ.get("PYTHONPATH", "")])
        self.environment = {**os.environ, "PYTHONPATH": path, "SSL_BENCH_LOCKS": str(folder)}
        self.running: list[subprocess.Popen] = []
        self.killed: dict[int, int] = {}

    def start(self) -> None:
        command = [sys.executable, "-c", RACER, str(self.log), ",".join(DEVICES)]
        self.running.append(subprocess.Popen(command, env=self.environment))

    def kill(self, process: subprocess.Popen) -> None:
        self.killed[process.pid] = time.monotonic_ns()
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.running.remove(process)

    def holding(self) -> list[subprocess.Popen]:
        """List those who hold a device now, most likely."""
        while True:
            last = {note.pid: note for note in read(self.log)}
            found = [p for p in self.running if p.pid in last and last[p.pid].what == "take"]
            if found:
                return found

    def holds(self) -> int:
        return self.log.read_bytes().count(b"take")


@pytest.fixture
def race(tmp_path, repository):
    made = Race(tmp_path, repository)
    yield made
    for process in list(made.running):
        made.kill(process)


def test_racers_some_of_them_killed(race, monkeypatch) -> None:
    dice = random.Random(0)
    for _ in range(RACERS):
        race.start()
    for done in range(KILLS):
        while race.holds() < (done + 1) * HOLDS / (KILLS + 1):
            assert all(process.poll() is None for process in race.running)
            time.sleep(0.01)
        race.kill(dice.choice(race.holding() if done % 2 else race.running))
        race.start()
    while race.holds() < HOLDS:
        time.sleep(0.01)
    for process in list(race.running):
        race.kill(process)

    notes = read(race.log)
    assert not shared(notes, race.killed)
    assert {note.device for note in notes if note.what == "take"} == set(DEVICES)
    assert not overtaken(notes, race.killed)
    last = {note.pid: note.what for note in notes}
    assert {"take", "draw"} <= {last.get(pid) for pid in race.killed}  # some died with a device
    monkeypatch.setenv("SSL_BENCH_LOCKS", str(race.log.parent))
    for device in DEVICES:
        with lease.one_of([device], 1, pytest.fail) as index:
            assert index == 0
    assert not list(lease.folder().glob("*.ticket"))


def test_what_the_race_would_find() -> None:
    first, second = Note(1, 10, "take", "0"), Note(5, 11, "take", "0")
    given = Note(6, 10, "give", "0")
    assert shared([first, second, given], {}) == [(first, second)]
    assert shared([first, second], {10: 4}) == []
    assert shared([first, second], {10: 6}) == [(first, second)]
    early, late = Note(2, 12, "draw"), Note(3, 13, "draw")
    taken = Note(7, 13, "take", "0")
    assert overtaken([early, late, taken], {}) == [(12, taken)]
    assert overtaken([early, late, taken], {12: 6}) == []
    assert overtaken([late, early, taken], {}) == []


def test_those_who_want_other_devices_are_not_held_up(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("SSL_BENCH_LOCKS", str(tmp_path))
    where = lease.folder()
    with lease.one_of(["0"], 1, pytest.fail):
        number, ticket = lease._draw(where, ["0", "1"])  # waits for 0 or 1
        with lease.one_of(["2", "1"], 1, pytest.fail) as index:
            assert index == 0
        assert lease._take(where, ["1"], 1, number + 1) is None  # 1 is for the one before
        ticket.release()
        found = lease._take(where, ["1"], 1, number + 1)
        assert found is not None
        found[1].release()


def test_the_locks_lie_in_the_first_place_that_can_be_written(monkeypatch, tmp_path) -> None:
    monkeypatch.delenv("SSL_BENCH_LOCKS", raising=False)
    file = tmp_path / "file"
    file.touch()
    foreign = tmp_path / "foreign"  # someone else's link in a folder for all
    foreign.mkdir()
    (foreign / f"ssl-bench-gpu-{os.getuid()}").symlink_to(tmp_path / "nowhere")
    good = tmp_path / "good"
    good.mkdir()
    monkeypatch.setattr(lease, "PLACES", (str(file), str(foreign), str(good)))
    made = lease.folder()
    assert made.parent == good
    assert made.stat().st_mode & 0o777 == 0o700
    assert lease.folder() == made


def test_a_file_system_without_locks_is_passed_over(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("SSL_BENCH_LOCKS", str(tmp_path))
    assert lease.folder().parent == tmp_path

    def none(file: int, operation: int) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(lease.fcntl, "flock", none)
    with pytest.raises(StudyError, match=r"no place for the locks"):
        lease.folder()


def test_no_place_for_the_locks(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("SSL_BENCH_LOCKS", str(tmp_path / "none"))
    with (
        pytest.raises(StudyError, match=r"no place for the locks .* set SSL_BENCH_LOCKS"),
        lease.one_of(["0"], 1, pytest.fail),
    ):
        pass
