"""Files that are there whole or not at all; folders that one process at a time writes into."""

import errno
import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import typer
from safetensors.torch import save_file

from ssl_bench import __main__ as command
from ssl_bench import alone as locks
from ssl_bench import progress
from ssl_bench.alone import alone, claim, writable
from ssl_bench.errors import StudyError
from ssl_bench.whole import cause, named, refusal, whole, whole_folder

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
HOLDER = """
import sys, time
from pathlib import Path
from ssl_bench.alone import alone
with alone(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


@pytest.fixture
def holder(tmp_path, repository):
    """Return a function that starts a process which holds a folder."""
    started = []

    def hold(folder: Path, seconds: float) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(folder), str(seconds)],
            env={**os.environ, "PYTHONPATH": str(repository / "workflow")},
            stdout=subprocess.PIPE,
        )
        started.append(process)
        assert process.stdout.readline() == b"held\n"
        return process

    yield hold
    for process in started:
        process.kill()
        process.communicate()


# ---- whole or not at all


def test_a_file_takes_its_name_at_the_end(tmp_path) -> None:
    path = tmp_path / "a" / "table.csv"
    for text in ("one", "two"):
        with whole(path) as place:
            place.write_text(text)
            assert not path.exists() or path.read_text() == "one"
        assert path.read_text() == text
    assert [file.name for file in path.parent.iterdir()] == ["table.csv"]


@pytest.mark.parametrize("error", [FULL, KeyboardInterrupt(), ValueError("other")])
def test_an_error_leaves_what_was_there(tmp_path, error) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")
    expected = StudyError if error is FULL else type(error)

    def half() -> None:
        with whole(path) as place:
            place.write_text("half")
            raise error

    with pytest.raises(expected) as caught:
        half()
    if error is FULL:
        assert str(caught.value) == f"{path}: cannot be written: No space left on device"
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_takes_its_place_at_the_end(tmp_path) -> None:
    path = tmp_path / "cell"
    (tmp_path / ".cell.partial").mkdir()  # of a process that was killed
    (tmp_path / ".cell.partial" / "old").touch()
    with whole_folder(path) as place:
        (place / "new").touch()
    with pytest.raises(StudyError, match="cell: cannot be written: No space"), whole_folder(path):
        raise FULL
    assert [file.name for file in path.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [path]


def test_causes_are_the_systems_words(tmp_path) -> None:
    path = tmp_path / "weights"
    path.mkdir()
    with pytest.raises(StudyError, match="weights: cannot be written: Is a dir"), named(path):
        save_file({"a": torch.zeros(2)}, path)
    assert cause(ValueError("first\nsecond")) == "first"
    assert cause(OSError()) == "OSError"


def test_an_error_about_another_file_keeps_its_name(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match="missing"), named(tmp_path / "table.csv"):
        (tmp_path / "missing").read_text()
    denied = PermissionError(errno.EACCES, "Permission denied", "there.wav")
    assert refusal(denied) == "there.wav: Permission denied"
    assert refusal(FileNotFoundError(errno.ENOENT, "No such file")) is None


# ---- what is said


class FullLog:
    """Standard error that goes to a disk with no room."""

    def write(self, text: str) -> int:
        raise FULL

    def flush(self) -> None:
        raise FULL


def test_a_full_disk_under_the_log_ends_no_work(monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "stderr", FullLog())
    progress.say("step 3 of 8")
    progress.tell("error: what went wrong")
    assert capsys.readouterr().out == "error: what went wrong\n"


def test_a_command_that_meets_a_full_disk_says_one_line(monkeypatch, capsys) -> None:
    app = typer.Typer()

    @app.command()
    def stage() -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "work/x")

    monkeypatch.setattr(command, "app", app)
    with pytest.raises(SystemExit) as ended:
        command.main([])
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: work/x: No space left on device\n"


# ---- one at a time


def test_the_second_waits_for_the_first(tmp_path, holder, capsys) -> None:
    folder = tmp_path / "cells"
    first = holder(folder, 1.0)
    began = time.monotonic()
    with alone(folder):
        assert first.wait(5) == 0
    assert time.monotonic() - began < 30
    assert (
        capsys.readouterr().err == f"{folder}: another process writes there; waiting for its end\n"
    )


def test_a_lock_ends_with_its_process_however_it_ends(tmp_path, holder, capsys) -> None:
    folder = tmp_path / "cells"
    first = holder(folder, 60)
    first.kill()
    first.wait()
    with alone(folder):
        pass
    assert capsys.readouterr().err == ""


def test_a_folder_that_was_made_anew_is_locked_anew(tmp_path, monkeypatch) -> None:
    folder = tmp_path / "corpus"
    real, locked = fcntl.flock, []

    def replaced(opened: int, how: int) -> None:
        real(opened, how)
        if not locked:
            folder.rmdir()
            folder.mkdir()
        locked.append(opened)

    monkeypatch.setattr(locks.fcntl, "flock", replaced)
    with alone(folder):
        assert len(locked) == 2
        assert os.path.samestat(os.fstat(locked[1]), folder.stat())


def test_an_error_leaves_no_empty_folder(tmp_path) -> None:
    (tmp_path / "work").mkdir()
    with pytest.raises(KeyError), alone(tmp_path / "work" / "a" / "b"):
        raise KeyError
    assert list((tmp_path / "work").iterdir()) == []
    kept = tmp_path / "work" / "a" / "kept"
    kept.parent.mkdir()
    kept.touch()
    with pytest.raises(KeyError), alone(kept.parent):
        raise KeyError
    assert kept.exists()


def test_a_study_is_for_one_snakemake(tmp_path, holder) -> None:
    first = holder(tmp_path / "small", 60)
    with pytest.raises(StudyError, match="small: another Snakemake is at work on this study"):
        claim(tmp_path / "small")
    first.kill()
    first.wait()
    claim(tmp_path / "small")
    with pytest.raises(StudyError, match="another Snakemake"):
        claim(tmp_path / "small")
    os.close(locks._claimed.pop())


@pytest.mark.parametrize("number", [errno.EBADF, errno.ENOLCK, errno.ENOSYS])
def test_a_file_system_that_locks_no_folders(tmp_path, monkeypatch, number) -> None:
    def none(opened: int, how: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(locks.fcntl, "flock", none)
    with alone(tmp_path / "cells"):
        (tmp_path / "cells" / "one").touch()


def test_a_folder_that_is_none(tmp_path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StudyError, match="results: cannot be written: Not a directory"):
        writable(tmp_path / "file" / "results")
    with (
        pytest.raises(StudyError, match="file: cannot be written: Not a directory"),
        alone(tmp_path / "file"),
    ):
        pass
