"""The disk cache: never half a shard, never a wrong one, and no shard computed twice."""

import os
import resource
import shutil
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from ssl_bench import shards, store
from ssl_bench.errors import StudyError
from ssl_bench.shards import raw
from ssl_bench.store import Store, divide

FRAMES = np.array([7, 3, 9, 1, 4, 5, 8, 2])
ROWS = [np.array([2, 6, 0]), np.array([5, 4]), np.array([1, 7, 3])]
"""Shards of 24, 9 and 6 frames."""
STAMP = {"weights": "a", "torch": "1"}
SIZE = (3, 5)


def states(row: int) -> Tensor:
    """Return what an utterance's states are."""
    noise = torch.randn(int(FRAMES[row]), *SIZE, generator=torch.Generator().manual_seed(int(row)))
    return noise.bfloat16()


class Bench:
    """A cache in a folder, and which rows were encoded for it."""

    def __init__(self, folder: Path, **stamp: str) -> None:
        arguments = ({**STAMP, **stamp}, FRAMES, ROWS, SIZE, torch.bfloat16)
        self.store = Store(folder, *arguments)
        self.encoded: list[int] = []

    def encode(self, rows: np.ndarray) -> Tensor:
        self.encoded += rows.tolist()
        return torch.cat([states(row) for row in rows])

    def complete(self) -> "Bench":
        self.store.complete(lambda rows: np.array_split(rows, min(2, len(rows))), self.encode)
        return self

    def assert_whole(self) -> None:
        assert self.store.faults(everything=True) == {}
        opened = self.store.open()
        for row in range(len(FRAMES)):
            out = torch.empty(FRAMES[row], *SIZE, dtype=torch.bfloat16)
            opened.read(row, 0, None, raw(out))
            assert torch.equal(out, states(row))


@pytest.fixture
def bench(tmp_path) -> Bench:
    return Bench(tmp_path / "cache").complete()


def change(path: Path, offset: int) -> None:
    """Flip a bit of a file."""
    with path.open("r+b") as file:
        file.seek(offset, os.SEEK_END if offset < 0 else os.SEEK_SET)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))


def test_what_was_written_is_read_whole_in_parts_and_by_other_tools(bench, tmp_path) -> None:
    assert sorted(bench.encoded) == list(range(8))
    bench.assert_whole()
    opened = bench.store.open()
    part = torch.empty(4, 2, 5, dtype=torch.bfloat16)
    opened.read(2, 3, np.array([0, 2]), raw(part))
    assert torch.equal(part, states(2)[3:7, [0, 2]])
    with safe_open(bench.store.shards[1].path, "pt") as file:
        assert torch.equal(file.get_tensor("states"), torch.cat([states(5), states(4)]))
    assert bench.store.shards[1].begin % 4096 == 0
    names = {path.name for path in (tmp_path / "cache").iterdir()}
    assert names - {".lock"} == {"seen.json", *(f"0000{n}.safetensors" for n in range(3))}


def test_states_are_lifted_end_to_end_whatever_the_chunks(bench, monkeypatch) -> None:
    monkeypatch.setattr(store, "CHUNK", 2 * 15 * 4)  # four frames
    flat = bench.store.lift(torch.device("cpu"))
    assert flat.shape == (FRAMES.sum() + 1, *SIZE)
    assert not flat[-1].any()
    for row, start in enumerate(bench.store.starts):
        assert torch.equal(flat[start : start + FRAMES[row]], states(row))


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def cut_in_the_header(path: Path) -> None:
    os.truncate(path, 100)


def lengthen(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"\0")


def alter(path: Path) -> None:
    change(path, -3)


def alter_without_a_trace(path: Path) -> None:
    """As a copy that keeps times does."""
    before = path.stat()
    change(path, -3)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def another(path: Path) -> None:
    shutil.copy(path.with_name("00000.safetensors"), path)


def rubbish(path: Path) -> None:
    path.write_bytes(b"\xff" * path.stat().st_size)


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (truncate, "truncated: "),
        (cut_in_the_header, "truncated: 100 bytes, expected "),
        (lengthen, "too long: "),
        (alter, "altered: checksum "),
        (alter_without_a_trace, "altered: checksum "),
        (another, "another shard: 0 of 3, expected 1 of 3"),
        (rubbish, "not a shard"),
        (Path.unlink, "not there"),
    ],
)
def test_a_harmed_shard_is_told_and_made_anew_and_no_other(bench, capsys, harm, told) -> None:
    paths = [shard.path for shard in bench.store.shards]
    before = [path.stat().st_mtime_ns for path in paths]
    harm(paths[1])
    found = bench.store.faults()
    assert list(found) == [1]
    assert found[1].startswith(told)
    again = Bench(bench.store.folder).complete()
    assert sorted(again.encoded) == [4, 5]
    lines = capsys.readouterr().err.splitlines()
    assert f"{paths[1]}: {found[1]}; encoded anew" in lines
    again.assert_whole()
    after = [path.stat().st_mtime_ns for path in paths]
    assert (after[0], after[2]) == (before[0], before[2])


def test_a_cache_of_another_checkpoint_or_version_is_told_and_replaced(bench, capsys) -> None:
    other = Bench(bench.store.folder, weights="b", torch="2")
    assert set(other.store.faults().values()) == {"of another torch, weights"}
    other.complete()
    assert sorted(other.encoded) == list(range(8))
    assert "00000.safetensors and 2 more: of another torch, weights; encoded anew" in (
        capsys.readouterr().err
    )
    assert set(bench.store.faults().values()) == {"of another torch, weights"}
    other.assert_whole()


def test_shards_of_another_layout_are_not_taken(tmp_path) -> None:
    bench = Bench(tmp_path)
    rows = [np.concatenate(ROWS[:2]), ROWS[2]]
    before = Store(tmp_path, STAMP, FRAMES, rows, SIZE, torch.bfloat16)
    before.complete(lambda own: [own], bench.encode)
    assert set(bench.store.faults().values()) == {"of another layout", "not there"}
    bench.complete().assert_whole()


def test_a_job_that_is_killed_goes_on_at_the_shard_where_it_was(tmp_path, capfd) -> None:
    child = os.fork()
    if not child:  # killed while it encodes the second half of the second shard
        bench = Bench(tmp_path)
        whole = bench.encode
        bench.encode = lambda rows: (
            os.kill(os.getpid(), signal.SIGKILL) if 4 in rows else whole(rows)
        )
        bench.complete()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert (tmp_path / "00001.partial").exists()
    again = Bench(tmp_path).complete()
    assert sorted(again.encoded) == [1, 3, 4, 5, 7]
    assert "1 of 3 shards are whole and kept" in capfd.readouterr().err
    assert not (tmp_path / "00001.partial").exists()
    again.assert_whole()


def test_a_job_that_fails_leaves_no_half_shard(tmp_path) -> None:
    bench = Bench(tmp_path)
    whole = bench.encode

    def fail(rows: np.ndarray) -> Tensor:
        if 4 in rows:
            raise KeyboardInterrupt
        return whole(rows)

    bench.encode = fail
    with pytest.raises(KeyboardInterrupt):
        bench.complete()
    assert {path.name for path in tmp_path.glob("0*")} == {"00000.safetensors"}


def test_a_disk_without_room_is_told_before_anything_is_encoded(tmp_path, monkeypatch) -> None:
    bench = Bench(tmp_path)
    monkeypatch.setattr(store, "room", lambda folder: bench.store.size - 1)
    with pytest.raises(StudyError, match=r"0\.00 MB of states are to be written.*cache: live"):
        bench.complete()
    assert not bench.encoded


def test_a_disk_that_gets_full_keeps_what_is_whole(tmp_path, monkeypatch) -> None:
    rows = [np.array([3]), np.arange(8)[FRAMES > 1]]
    bench = Bench(tmp_path)
    bench.store = Store(tmp_path, STAMP, FRAMES, rows, (3, 2000), torch.bfloat16)
    bench.encode = lambda own: torch.zeros(FRAMES[own].sum(), 3, 2000, dtype=torch.bfloat16)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))  # the second has 456,000
    try:
        with pytest.raises(StudyError, match=r"File too large.*1 of 2 shards are whole and kept"):
            bench.complete()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert {path.name for path in tmp_path.glob("0*")} == {"00000.safetensors"}
    bench.complete()
    assert bench.store.faults(everything=True) == {}


def test_opening_hashes_nothing_that_is_as_it_was(bench, monkeypatch, tmp_path) -> None:
    hashed = []
    real = shards._checksum
    monkeypatch.setattr(shards, "_checksum", lambda file: hashed.append(file.name) or real(file))
    assert Bench(bench.store.folder).store.faults() == {}
    assert not hashed
    bench.store.faults(everything=True)
    assert len(hashed) == 3
    copied = tmp_path / "elsewhere"
    shutil.copytree(bench.store.folder, copied)
    assert Bench(copied).store.faults() == {}
    assert len(hashed) == 6
    Bench(copied).store.faults()
    assert len(hashed) == 6


def test_two_jobs_do_not_write_one_cache(tmp_path, capfd) -> None:
    first, second = Bench(tmp_path), Bench(tmp_path)
    begun, go = threading.Event(), threading.Event()
    whole = first.encode

    def slow(rows: np.ndarray) -> Tensor:
        begun.set()
        assert go.wait(60)
        return whole(rows)

    first.encode = slow
    jobs = [threading.Thread(target=first.complete), threading.Thread(target=second.complete)]
    jobs[0].start()
    assert begun.wait(60)
    jobs[1].start()
    jobs[1].join(0.3)
    assert jobs[1].is_alive()
    go.set()
    for job in jobs:
        job.join(60)
    assert not second.encoded
    assert "waiting for the job that writes it" in capfd.readouterr().err
    second.assert_whole()


def test_a_shard_that_shrinks_while_it_is_read_is_told(bench) -> None:
    opened = bench.store.open()
    os.truncate(bench.store.shards[0].path, bench.store.shards[0].begin + 10)
    out = torch.empty(FRAMES[2], *SIZE, dtype=torch.bfloat16)
    for layers in (None, np.array([1])):
        with pytest.raises(StudyError, match=r"00000\.safetensors: truncated while it was read"):
            opened.read(2, 0, layers, raw(out if layers is None else out[:, :1].contiguous()))


def test_shards_are_of_whole_groups_and_not_too_many() -> None:
    small = [store.BYTES // 2] * 7
    assert divide(small) == [2, 2, 2, 1]
    assert divide([10]) == [1]
    many = [store.BYTES] * 5000
    assert sum(divide(many)) == 5000
    assert len(divide(many)) <= store.MOST
