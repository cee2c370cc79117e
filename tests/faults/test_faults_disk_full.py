"""A disk that is full, at every stage: one line names the file and the cause, nothing half-written
stays, and with space again the study goes on to the same tables.

A small tmpfs where this user may mount one; and everywhere a limit on the size of a file, which a
disk with a quota or an old file system has too.
"""

import os
import random
import re
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import psutil
import pytest
from fault_site import LATER, STAGES, TINY, Site, stages

pytestmark = pytest.mark.smoke

PAGE = 4096
FULL = re.compile(
    r"^error: (.+?)(?:: cannot be written)?: (No space left on device|File too large)"
    r"|^error: (.+?): states cannot be written \((No space left on device|File too large)\)"
    r"|^error: (.+?): \S+ \S+ of states are to be written, \S+ \S+ are free"
)


NO_ROOM = re.compile(r"No space left on device|of states are to be written")


class Disk:
    """A small disk of its own below a folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.mount("size=64m")

    def mount(self, options: str) -> None:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.folder)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"mounts no tmpfs: {done.stderr.strip()}")

    @contextmanager
    def room(self, pages: int) -> Iterator[None]:
        """Leave so many pages free, for a while."""
        filler = self.folder / "filler"
        left = os.statvfs(self.folder).f_bavail - pages
        assert left > 0
        filler.write_bytes(bytes(left * PAGE))
        yield
        filler.unlink()

    def resize(self, size: int) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", str(self.folder)], check=True)

    def used(self) -> int:
        found = os.statvfs(self.folder)
        return (found.f_blocks - found.f_bavail) * PAGE

    def unmount(self) -> None:
        subprocess.run(["umount", "-l", str(self.folder)], check=True)


@pytest.fixture
def disk(tmp_path) -> Iterator[Disk]:
    made = Disk(tmp_path / "disk")
    yield made
    made.unmount()


def files(site: Site) -> dict[str, bytes]:
    """Read all that the stages have written."""
    return {
        str(path.relative_to(site.root)): path.read_bytes()
        for part in ("work", "results")
        for path in sorted((site.root / part).rglob("*"))
        if path.is_file()
    }


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """See that a stage has ended with one line; return the file that it names."""
    lines = done.stdout.splitlines()
    assert done.returncode == 2, done.stdout
    assert "Traceback" not in done.stdout, done.stdout
    assert [line for line in lines if line.startswith("error")] == lines[-1:], done.stdout
    said = FULL.match(lines[-1])
    assert said, done.stdout
    return said[1] or said[3] or said[5]


def through(site: Site, stages: list[tuple[str, ...]], narrow: Callable, grow: Callable) -> None:
    """Run stages, each again and again with more room, until it has enough.

    ``narrow(room)`` is a context in which there is so much room, ``grow`` returns the next.
    """
    told = []
    for stage in stages:
        before, seen = set(files(site)), {}
        room: int | None = -1
        while True:
            room = None if room is None else grow(room)
            with nullcontext() if room is None else narrow(room):
                done = site.stage(*stage)
            left = files(site)
            assert not [name for name in left if "partial" in name], (stage, done.stdout)
            if done.returncode == 0:
                break
            told.append((stage[0], refused(done)))
            assert told[-1][1] not in left, "the file that could not be written is there"
            seen |= {name: content for name, content in left.items() if name not in before}
        for name, content in seen.items():  # what a stage left that had no room for the rest
            if name in left:
                assert left[name] == content, f"{stage}: {name} was there in a part"
            else:
                assert name.startswith("work/small/checkpoints/"), name
    print(f"\n{len(told)} refusals: {' '.join(sorted({name for _, name in told}))}")
    assert {stage for stage, _ in told} == {stage[0] for stage in stages}


@contextmanager
def limit(listener: psutil.Process, size: int) -> Iterator[None]:
    """Let no file that a stage writes become larger than so many bytes."""
    most = resource.RLIM_INFINITY
    everyone = (listener.pid, os.getpid())  # forks of the one, and what this process starts
    try:
        for pid in everyone:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, most))
        yield
    finally:
        for pid in everyone:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (most, most))


def test_a_limit_on_the_size_of_files(site, listening, tiny) -> None:
    made, dice = site(TINY), random.Random(0)

    def grow(size: int) -> int | None:
        return dice.randrange(50, 200) if size < 0 else None

    through(made, stages(TINY), lambda size: limit(listening, size), grow)
    assert made.tables() == tiny


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_limits_that_grow(everything, site, listening, by_hand, seed) -> None:
    made, dice = site(), random.Random(seed)
    grow = lambda size: int((size + 20) * dice.uniform(1.5, 4))  # noqa: E731
    through(made, [*STAGES, *LATER], lambda size: limit(listening, size), grow)
    assert made.tables() == by_hand


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(2))
def test_a_disk_with_room_for_a_part(everything, site, disk, by_hand, seed) -> None:
    made, dice = site(root=disk.folder / "site"), random.Random(seed)
    grow = lambda pages: int((pages + 1) * dice.uniform(1.5, 3))  # noqa: E731
    through(made, [*STAGES, *LATER], disk.room, grow)
    assert made.tables() == by_hand


@pytest.mark.slow
def test_states_on_a_disk_with_room_for_a_part(everything, site, disk) -> None:
    made = site(root=disk.folder / "site")
    assert made.stage(*STAGES[0]).returncode == made.stage(*STAGES[1]).returncode == 0
    through(made, [STAGES[2]], disk.room, lambda pages: 2 * pages + 2)


@pytest.mark.slow
def test_a_notebook_on_a_disk_with_room_for_a_part(everything, site, disk) -> None:
    """The kernel's own files lie elsewhere; the page follows the notebook."""
    made = site(TINY, root=disk.folder / "site")
    for stage in [*stages(TINY), LATER[0]]:
        assert made.stage(*stage).returncode == 0
    out, page = (f"results/small/notebooks/results.{ending}" for ending in ("ipynb", "html"))
    stage = ("notebook", "--source", "notebooks/results.ipynb")
    stage += ("--tables", "results/small/tables", "--out", out)
    before = files(made)
    with disk.room(1):
        done = made.stage(*stage, "--page", page)
    assert refused(done) == out
    assert files(made) == before
    assert made.stage(*stage, "--page", page).returncode == 0
    size = (made.root / out).stat().st_size // PAGE
    assert size + 8 < (made.root / page).stat().st_size // PAGE
    for name in (out, page):
        (made.root / name).unlink()
    with disk.room(size + 8):
        done = made.stage(*stage, "--page", page)
    assert refused(done) == page
    assert set(files(made)) == {*before, out}
    assert made.stage(*stage, "--page", page).returncode == 0


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_disk_that_fills_up_under_snakemake(everything, site, smoke, disk, capsys) -> None:
    """Its own files, logs, too, lie on the disk: enlarged each time, until the study has room."""
    expected = site(smoke)
    expected.end()
    made = site(smoke, root=disk.folder / "site")
    size, lines = disk.used() + 100 * 1024, []
    disk.resize(size)
    while made.run() != 0:
        said = made.said()
        made.log.write_text("")
        full = [line for line in said.splitlines() if NO_ROOM.search(line)]
        assert full, said
        lines.append(full[0])
        size = int(size * 1.3)
        disk.resize(size)
        if list((made.root / ".snakemake" / "locks").glob("*.lock")):
            made.run("--unlock")
    with capsys.disabled():
        print("", *lines, sep="\n")
    assert len(lines) >= 3
    assert made.tables() == expected.tables()
    assert made.leftovers() == []
