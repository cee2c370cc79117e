"""Pre-training that is killed ends in the weights of one that was not, to the last bit."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from ssl_bench.checkpoints import VARIABLE, Checkpoints
from ssl_bench.pretrain import speech, stages
from ssl_bench.pretrain.data import Clips
from ssl_bench.pretrain.done import Marks
from ssl_bench.pretrain.model import PretrainingModel
from ssl_bench.pretrain.settings import Settings, read
from ssl_bench.pretrain.training import Report, Trainer

CPU = torch.device("cpu")
STEPS = 20


class Lost(Exception):
    """What ends a training in these tests."""


def quiet(_: str) -> None:
    pass


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> Settings:
    raw = yaml.safe_load((Path(__file__).parent / "smoke.yaml").read_text())
    path = tmp_path_factory.mktemp("settings") / "pretrain.yaml"
    long = {"steps": 60, "batch": 8, "learning_rate": 3e-3}
    path.write_text(yaml.safe_dump({**raw, "first": long, "second": long}))
    return read(path)


@pytest.fixture(scope="module")
def spoken(settings, tmp_path_factory) -> Path:
    """A work folder with the clips alone."""
    work = tmp_path_factory.mktemp("work")
    speech.make(settings, work, workers=1, log=quiet)
    return work


# ---- one training


@pytest.fixture
def trained(settings, spoken, tmp_path, monkeypatch):
    """Return a function that trains, with checkpoints or without, and may be lost in a step."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(VARIABLE, "0")
    clips = Clips(spoken / "clips.npy", CPU)
    frames = torch.arange(74).expand(2, clips.count, 74)
    real = Trainer._loss

    def train(
        keep: bool = True, lost_in: int | None = None, **stamp: object
    ) -> tuple[PretrainingModel, Report]:
        torch.manual_seed(0)
        model = PretrainingModel(settings.sizes["3"], settings.loss, [12, 9])
        targets = torch.stack([frames[0] % 12, frames[1] % 9]).short()
        own = dataclasses.replace(settings.first, steps=STEPS)
        kept = Checkpoints(Path("kept"), "tiny", CPU, STEPS, **stamp) if keep else None
        trainer = Trainer(settings, own, model, clips, targets, compiled=False, kept=kept)
        calls = [0]

        def loss(self, indices, rng):
            calls[0] += 1
            if calls[0] == lost_in:
                raise Lost
            return real(self, indices, rng)

        with monkeypatch.context() as patch:
            patch.setattr(Trainer, "_loss", loss)
            return model, trainer.train(quiet)

    return train


def assert_same(one: tuple[PretrainingModel, Report], other: tuple[PretrainingModel, Report]):
    (model, report), (expected, undisturbed) = one, other
    for (name, value), (_, right) in zip(
        model.state_dict().items(), expected.state_dict().items(), strict=True
    ):
        assert torch.equal(value, right), name
    assert [{**row, "seconds": 0} for row in report.curve] == [
        {**row, "seconds": 0} for row in undisturbed.curve
    ]
    assert report.held_out == undisturbed.held_out
    assert report.steps == undisturbed.steps == STEPS


@pytest.fixture
def undisturbed(trained, results={}) -> tuple[PretrainingModel, Report]:  # noqa: B006 - made once
    """What a training that nobody ends and that keeps no checkpoint comes to."""
    if not results:
        results["once"] = trained(keep=False)
    return results["once"]


def test_checkpoints_change_nothing(trained, undisturbed) -> None:
    assert_same(trained(), undisturbed)


@pytest.mark.parametrize("lost_in", [2, 3, 8, STEPS, STEPS + 1])
def test_a_training_that_is_lost_goes_on(trained, undisturbed, lost_in, capsys) -> None:
    """Between two looks at the losses, at one, in the last step, after it."""
    with pytest.raises(Lost):
        trained(lost_in=lost_in)
    capsys.readouterr()
    found = trained()
    assert f"tiny: goes on after step {lost_in - 1} of {STEPS}" in capsys.readouterr().err
    assert_same(found, undisturbed)


def test_lost_twice(trained, undisturbed) -> None:
    for lost_in in (6, 7):
        with pytest.raises(Lost):
            trained(lost_in=lost_in)
    assert_same(trained(), undisturbed)


def test_a_checkpoint_of_other_settings_is_passed_over(trained, undisturbed, capsys) -> None:
    with pytest.raises(Lost):
        trained(lost_in=9, settings={"seed": 1})
    found = trained(settings={"seed": 2})
    assert "kept/0.pt: ignored: a checkpoint of another settings" in capsys.readouterr().err
    assert_same(found, undisturbed)


# ---- all steps


def test_a_mark_is_of_its_files_and_its_stamp(tmp_path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / name).write_text(name)
    listed = tmp_path / "listed.npy"
    listed.write_text("x")
    files = [folder, listed]
    marks = Marks(tmp_path / "kept", seeds=(1, 2))
    assert not marks.has("first", files)
    marks.set("first", files)
    assert marks.has("first", files)
    assert Marks(tmp_path / "kept", seeds=(1, 2)).has("first", files)
    assert not marks.has("second", files)
    assert not Marks(tmp_path / "kept", seeds=(1, 3)).has("first", files)
    for spoil in (
        lambda: (folder / "a").write_text("A"),
        lambda: (folder / "b").unlink(),
        lambda: listed.unlink(),
    ):
        spoil()
        assert not marks.has("first", files)
        marks.set("first", files)
        assert marks.has("first", files)
    nobody = Marks(None)
    nobody.set("first", files)
    assert not nobody.has("first", files)


def weights(work: Path, out: Path) -> dict[str, bytes]:
    """Return what an undisturbed run and another must share: targets and weights."""
    files = [*work.glob("*.npy"), *(work / "first").glob("*.safetensors")]
    found = {str(file.relative_to(work)): file.read_bytes() for file in files}
    return found | {str(f.relative_to(out)): f.read_bytes() for f in out.rglob("*.safetensors")}


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False


def test_a_run_that_is_killed_goes_on(settings, spoken, tmp_path, monkeypatch, capfd) -> None:
    """All of its processes in the first training; then the one that starts the others alone."""
    monkeypatch.setenv(VARIABLE, "0.2")
    monkeypatch.chdir(tmp_path)
    expected = tmp_path / "expected"
    expected.mkdir()
    for name in ("clips.npy", "speech.json"):
        (expected / name).write_bytes((spoken / name).read_bytes())
    stages.first(settings, expected, CPU, compiled=False, log=quiet)
    for size in settings.sizes:
        stages.second(settings, expected, expected / "models", size, CPU, compiled=False, log=quiet)
    assert not (expected / "kept" / "first").exists()

    config = tmp_path / "pretrain.yaml"
    config.write_text(yaml.safe_dump(_plain(settings)))
    assert read(config) == settings
    run = [sys.executable, "-m", "ssl_bench.pretrain", "run", "--config", str(config)]
    run += ["--work", "work", "--out", "models", "--eager", "--workers", "1", "--devices", "cpu"]
    for step, together in (("first", True), ("second-5", False)):
        process = subprocess.Popen(run, start_new_session=True)
        kept = Path("work/kept") / step / "0.pt"
        while not kept.exists():
            assert process.poll() is None
            time.sleep(0.01)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        assert children
        (os.killpg if together else os.kill)(process.pid, signal.SIGKILL)
        process.wait()
        patience = time.monotonic() + 60
        while any(alive(int(child)) for child in children):  # it ends at SIGTERM, after its step
            assert time.monotonic() < patience
            time.sleep(0.05)
    clips = Path("work/clips.npy").stat().st_mtime_ns
    capfd.readouterr()
    subprocess.run(run, check=True)
    said = capfd.readouterr().err.splitlines()
    (line,) = [line for line in said if "goes on after step" in line]
    assert line.startswith("pretrain second-5: goes on after step ")
    assert line.endswith("of 60")
    assert 0 < int(line.split("step ")[1].split()[0]) < 60
    assert Path("work/clips.npy").stat().st_mtime_ns == clips
    assert not Path("work/kept").exists()
    found = weights(Path("work"), Path("models"))
    undisturbed = weights(expected, expected / "models")
    assert len(found) == 4 + 1 + 2
    assert found.keys() == undisturbed.keys()
    assert [name for name in found if found[name] != undisturbed[name]] == []


def test_a_time_limit_leaves_and_takes_nothing(settings, spoken, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv(VARIABLE, "0")
    work = tmp_path / "work"
    work.mkdir()
    for name in ("clips.npy", "speech.json"):
        (work / name).write_bytes((spoken / name).read_bytes())
    real = np.save

    def looked(path, values) -> None:
        assert not (work / "kept").exists()
        real(path, values)

    monkeypatch.setattr(np, "save", looked)
    stages.first(settings, work, CPU, minutes=0.42, compiled=False, log=quiet)


def _plain(settings: Settings) -> dict:
    """Return settings as their file has them."""
    return json.loads(json.dumps(settings.as_dict()))  # lists for tuples
