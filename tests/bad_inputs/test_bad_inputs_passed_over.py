"""What a training left that is not whole, or not its own: passed over, and the numbers stay."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from bad_inputs.computed import CELL, Bomb
from bad_inputs.conftest import call
from bad_inputs.house import SWEEP, TRAIN, cut, text

from ssl_bench import cells
from ssl_bench.checkpoints import VARIABLE

CHECKPOINTS = Path("work/tiny/checkpoints/sweep/ks/mini/mean")
KEPT = str(CHECKPOINTS / "0.pt")


def _other(**changed: object) -> Callable[[], None]:
    def spoil() -> None:
        content = torch.load(KEPT, weights_only=True)
        torch.save(content | {"stamp": content["stamp"] | changed}, KEPT)

    return spoil


def _malice() -> None:
    torch.save({"stamp": Bomb()}, KEPT)


TABLE = {
    "cut off": (cut(KEPT), "not a whole checkpoint"),
    "empty": (text(KEPT, b""), "not a whole checkpoint"),
    "text": (text(KEPT, "no tensor"), "not a whole checkpoint"),
    "a pickle that would run code": (_malice, "not a whole checkpoint (not in torch's format)"),
    "changed without its checksum": (_other(steps=7), "its checksum does not fit"),
}


@pytest.fixture
def kept(at, monkeypatch) -> Path:
    """The study before its sweep, but with a checkpoint that a sweep has left."""
    place = at(SWEEP)
    monkeypatch.setenv(VARIABLE, "0")
    with monkeypatch.context() as patch:
        patch.setattr(cells, "discard", lambda folder: None)
        assert call(SWEEP) == 0
    assert Path(KEPT).is_file()
    shutil.rmtree("results/tiny/cells")
    return place


def swept() -> bytes:
    return Path(f"{CELL}/sweep.csv").read_bytes()


@pytest.mark.parametrize(("spoil", "part"), TABLE.values(), ids=TABLE)
def test_a_bad_checkpoint_is_passed_over(kept, finished, capfd, spoil, part) -> None:
    spoil()
    capfd.readouterr()
    assert call(SWEEP) == 0
    said = capfd.readouterr().err.splitlines()
    (line,) = [line for line in said if "ignored" in line]
    assert line.startswith(f"{KEPT}: ignored: ")
    assert part in line
    assert swept() == (finished / CELL / "sweep.csv").read_bytes()
    assert not CHECKPOINTS.exists()
    assert not Path("ran").exists()


def test_a_checkpoint_of_another_study_is_passed_over(kept, capfd) -> None:
    study = Path("study.yaml")
    study.write_text(study.read_text().replace("steps: 2", "steps: 4"))
    capfd.readouterr()
    assert call(SWEEP) == 0
    (line,) = [line for line in capfd.readouterr().err.splitlines() if "ignored" in line]
    assert line == f"{KEPT}: ignored: a checkpoint of another cell, steps"


def test_a_whole_checkpoint_is_taken(kept, finished, capfd) -> None:
    capfd.readouterr()
    assert call(SWEEP) == 0
    assert "goes on after step" in capfd.readouterr().err
    assert swept() == (finished / CELL / "sweep.csv").read_bytes()


@pytest.mark.parametrize("spoil", [cut, lambda path: text(path, b"")], ids=["cut off", "empty"])
@pytest.mark.parametrize(
    ("command", "path", "part"),
    [
        (TRAIN, f"{CELL}/mean/metrics.json", "not JSON: "),
        (SWEEP, f"{CELL}/.sweeps/mean.csv", "swept anew"),
    ],
    ids=["a cell", "a sweep"],
)
def test_what_a_job_finds_half_written_is_made_anew(
    at, finished, capfd, spoil, command, path, part
) -> None:
    at("nothing")
    spoil(path)()
    capfd.readouterr()
    assert call(command) == 0
    said = capfd.readouterr().err.splitlines()
    told = [line for line in said if line.startswith(f"{path}: ") and part in line]
    assert len(told) == (0 if command == SWEEP and spoil is cut else 1)  # a row without its stamp
    assert swept() == (finished / CELL / "sweep.csv").read_bytes()
    scores = "mean/scores.parquet"
    assert Path(CELL, scores).read_bytes() == (finished / CELL / scores).read_bytes()
