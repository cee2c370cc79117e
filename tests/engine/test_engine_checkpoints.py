"""A training that was killed ends as if nothing had happened, to the last bit."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

import SSL_Interface
from ssl_bench import cells, checkpoints, training
from ssl_bench.__main__ import main
from ssl_bench.checkpoints import STOPPED, VARIABLE, Checkpoints
from ssl_bench.errors import StudyError
from ssl_bench.heads.specaugment import SpecAugment, SpecAugmentConfig
from ssl_bench.runs import Joined, Run, Runs
from ssl_bench.selection import Selection
from ssl_bench.steps import make_step
from ssl_bench.training import Trained, train

CPU = torch.device("cpu")
STEPS = 8
UTTERANCES = {"batch_seconds": None, "batch_utterances": 4}
KILLED = (1, 3, 4, 7)
"""Steps after which a training is killed, one after the other: 4 is one where dev is scored."""


class Lost(Exception):
    """The node is gone."""


class Noisy(nn.Module):
    """A head behind a time warp, masks and dropout."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        masks = {"feature_masks": 1, "feature_width": 4, "time_masks": 1, "time_width": 4}
        self.augment = SpecAugment(SpecAugmentConfig(time_warp=5, extent="batch", **masks))
        self.dropout, self.head = nn.Dropout(0.2), head

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return self.head(self.dropout(self.augment(features, lengths)), lengths)


@pytest.fixture(autouse=True)
def always(monkeypatch) -> None:
    """Write a checkpoint after every step."""
    monkeypatch.setenv(VARIABLE, "0")


@pytest.fixture
def lose(monkeypatch):
    """Return a function that lets a process live for so many more steps; None is for ever."""
    left: list[int | None] = [None]

    def step_of(*groups: Runs):
        step = make_step(*groups)
        real = step.forward

        def forward(*arguments):
            if left[0] is not None:
                if left[0] == 0:
                    raise Lost
                left[0] -= 1
            return real(*arguments)

        step.forward = forward
        return step

    monkeypatch.setattr(training, "make_step", step_of)
    return lambda steps: left.__setitem__(0, steps)


class Bench:
    """One training of a tiny study, which can be begun again and again."""

    def __init__(self, study, task: str = "ks", rates: tuple[float, ...] = (1e-2, 1e-2)) -> None:
        self.stream = cells._open(study, task, "mini", CPU)
        self.runs = [Run(seed, rate) for seed, rate in enumerate(rates)]

    def make(self) -> Joined:
        joined = SSL_Interface.create("hconv", num_layers=4, dim=16, normalize=False)
        return Joined(joined, Noisy(self.stream.task.head(joined.output_dim)))

    def kept(self, **stamp) -> Checkpoints:
        steps = self.stream.training.steps
        return Checkpoints(Path("kept"), "bench", CPU, steps, **(stamp or {"cell": "x"}))

    def train(self, kept: Checkpoints | None) -> tuple[Runs, Trained]:
        group = cells._runs(self.stream, self.runs, self.make, self.stream.training)
        own = self.stream
        arguments = ([group], own.task, own.features, own.rows, own.training, "bench")
        if kept is None:
            return group, train(*arguments)[0]
        with kept.keeper(0, self.runs) as keeper:
            return group, train(*arguments, keeper)[0]


@pytest.fixture
def bench(ready, raw):
    def make(task: str = "ks", rates: tuple[float, ...] = (1e-2, 1e-2), **said) -> Bench:
        own = {**raw["training"], "batch_seconds": 2, "steps": STEPS, "evaluations": 4, **said}
        return Bench(ready(training=own, tasks={task: raw["tasks"][task]}), task, rates)

    return make


def assert_same(found: tuple[Runs, Trained], expected: tuple[Runs, Trained]) -> None:
    (runs, trained), (undisturbed, other) = found, expected
    for name, value in undisturbed.snapshot().items():
        assert torch.equal(runs.snapshot()[name], value), name
    assert torch.equal(runs.alive, undisturbed.alive)
    pd.testing.assert_frame_equal(
        pd.DataFrame(trained.history), pd.DataFrame(other.history), check_exact=True
    )
    assert trained.dev.tobytes() == other.dev.tobytes()
    assert trained.best_step.tolist() == other.best_step.tolist()


# ---- the same numbers


@pytest.mark.parametrize(
    ("task", "rates", "said"),
    [
        ("ks", (1e-2, 3e-2), {}),
        ("pr", (1e-2, 1e-2), {"schedule": "linear", "warmup": 0.5, "optimizer": "adamw"}),
        ("ks", (1e-2, 1e-2), {"balance": True, "crop_seconds": 0.31, "select": "last"}),
        ("ks", (1e-2, 1e-2), {"select": "dev_loss", "average": 2}),
        ("pr", (1e-2, 1e-2), {**UTTERANCES, "batches": "sliding", "neighbours": 2}),
        ("pr", (1e-2, 1e-2), {**UTTERANCES, "batches": "sorted", "crop_seconds": 0.31}),
        ("ks", (1e-2, 1e-2), {**UTTERANCES, "batches": "random", "balance": True}),
        ("pr", (1e-2, 1e-2), {"frames": "ceil"}),
        ("ks", (1e-2, 1e-2), {**UTTERANCES, "batches": "random", "last_batch": "smaller"}),
        ("ks", (1e-2, 1e30, 1e-2), {"clip": 5.0}),
        ("ks", (1e-2, 1e30, 1e-2), {"not_finite": "skip"}),
    ],
    ids=[
        *("augmented", "sequence", "balanced", "averaged", "sliding", "sorted", "random"),
        *("longer", "smaller", "diverged", "skipped"),
    ],
)
def test_a_training_that_was_killed_again_and_again_ends_the_same(
    bench, lose, capsys, task, rates, said
) -> None:
    made = bench(task, rates, **said)
    expected = made.train(None)
    skips = said.get("not_finite") == "skip"
    assert expected[0].alive.tolist() == [rate < 1 or skips for rate in rates]
    if skips:
        last = expected[1].history[-len(rates) :]
        assert [row["skipped"] > 0 for row in last] == [rate >= 1 for rate in rates]
        assert "updates skipped: not finite" in capsys.readouterr().err
    done = 0
    for step in KILLED:
        lose(step - done)
        done = step
        with pytest.raises(Lost):
            made.train(made.kept())
        torch.rand(7)  # another process has drawn other numbers
    lose(STEPS - done)  # what is done already is not done again
    assert_same(made.train(made.kept()), expected)
    lose(0)
    assert_same(made.train(made.kept()), expected)  # after the last step as well
    lines = [line for line in capsys.readouterr().err.splitlines() if "goes on" in line]
    assert lines == [f"bench: goes on after step {step} of {STEPS}" for step in (*KILLED, STEPS)]


# ---- cells


def contents(place: Path) -> dict[str, object]:
    """What a cell holds, but for what it has cost."""
    found: dict[str, object] = {
        path.name: path.read_bytes() for path in place.iterdir() if path.suffix != ".json"
    }
    about = json.loads((place / "metrics.json").read_text())
    del about["starts"]
    for row in about["runs"]:
        del row["seconds"], row["peak_memory_mb"]
    return {**found, "metrics": about}


@pytest.mark.parametrize("tuned", [False, True])
def test_a_cell_that_was_interrupted_ends_the_same(ready, raw, lose, tuned) -> None:
    """Fine-tuned seeds are trained one after another; the first is not trained again."""
    if tuned:
        raw["upstreams"]["mini"]["fine_tune"] = {"learning_rate": 1e-3}
    study = ready(interfaces=["weighted_sum"])
    pack = study.pack_dir("ks", "mini", "all")
    place, left = pack / "weighted_sum", study.checkpoints
    cells.sweep(study, "ks", "mini", "all")
    cells.run(study, "ks", "mini", "all")
    swept, expected = (pack / "sweep.csv").read_bytes(), contents(place)
    assert not [path for path in left.rglob("*") if path.is_file()]

    for path in pack.rglob("*"):
        if path.is_file():
            path.unlink()
    steps = 4  # of the fixture
    for stage in (cells.sweep, cells.run):
        for lived in (steps + 1, 2) if tuned else (1, 2):
            lose(lived)
            with pytest.raises(Lost):
                stage(study, "ks", "mini", "all")
        lose(2 * steps - (steps + 3) if tuned else 1)
        stage(study, "ks", "mini", "all")
        assert not [path for path in left.rglob("*") if path.is_file()]
    assert (pack / "sweep.csv").read_bytes() == swept
    assert contents(place) == expected


SLOW = """
import sys, time
from ssl_bench import steps
real = steps.EagerStep.forward
def slow(*arguments):
    time.sleep(0.1)
    return real(*arguments)
steps.EagerStep.forward = slow
from ssl_bench.__main__ import main
main(["train", "--study", "study.json", "--task", "ks", "--upstream", "mini"])
"""


def test_a_process_that_is_killed_or_preempted_goes_on(ready, raw, lose, capfd) -> None:
    """SIGKILL in one process, SIGTERM in the next; the third ends what they began."""
    own = {**raw["training"], "steps": 100, "batch_seconds": 2}
    study = ready(training=own, interfaces=["weighted_sum"], sweep={"steps": 0.02})
    Path("study.json").write_text(study.model_dump_json(exclude_unset=True))
    cells.sweep(study, "ks", "mini", "all")
    cells.run(study, "ks", "mini", "all")
    place = study.pack_dir("ks", "mini", "all") / "weighted_sum"
    expected = contents(place)
    (place / "metrics.json").unlink()
    cell = cells.Cell("ks", "mini", "weighted_sum")
    kept = study.checkpoint_dir("train", cell) / "0.pt"
    status = []
    for sent in (signal.SIGKILL, signal.SIGTERM):
        before = kept.stat().st_mtime_ns if kept.exists() else None
        with subprocess.Popen(
            [sys.executable, "-c", SLOW], stderr=subprocess.PIPE, text=True, env={**os.environ}
        ) as process:
            while not kept.exists() or kept.stat().st_mtime_ns == before:
                assert process.poll() is None, process.communicate()[1]
                time.sleep(0.01)
            process.send_signal(sent)
            lines = process.communicate(timeout=60)[1].splitlines()
            status.append(process.returncode)
    assert status == [-signal.SIGKILL, STOPPED]
    assert any(line.startswith("train ks mini weighted_sum: goes on after step ") for line in lines)
    assert lines[-1].startswith("train ks mini weighted_sum: ended by SIGTERM after step ")
    assert lines[-1].endswith(f"of 100; the next start goes on from {kept}")
    done = int(lines[-1].split("step ")[1].split()[0])
    assert 2 <= done < 100
    lose(100 - done)
    cells.run(study, "ks", "mini", "all")
    assert contents(place) == expected


def test_sigterm_ends_a_training_after_its_step(bench, lose, capsys, monkeypatch) -> None:
    made = bench()
    expected = made.train(None)
    monkeypatch.setenv(VARIABLE, "3600")
    ours = signal.getsignal(signal.SIGTERM)
    real = Runs.update

    def asked(self, *arguments) -> None:
        real(self, *arguments)
        if self.updates.max() == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Runs, "update", asked)
    with pytest.raises(SystemExit) as caught:
        made.train(made.kept())
    assert caught.value.code == STOPPED == 143
    assert "ended by SIGTERM after step 3 of 8; the next start goes on" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) == ours
    lose(STEPS - 3)
    assert_same(made.train(made.kept()), expected)


def test_sigterm_after_the_last_step_is_heard_too(bench, lose, monkeypatch) -> None:
    made = bench(average=2)  # whose mean is scored once more
    expected = made.train(None)
    monkeypatch.setenv(VARIABLE, "3600")
    real = Selection.apply

    def asked(self) -> None:
        real(self)
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Selection, "apply", asked)
        with pytest.raises(SystemExit):
            made.train(made.kept())
    lose(0)
    assert_same(made.train(made.kept()), expected)


# ---- when one is written, and when it is taken


def test_a_short_training_writes_nothing(bench, monkeypatch) -> None:
    monkeypatch.delenv(VARIABLE)
    assert checkpoints.interval() == 60
    made = bench()
    made.train(made.kept())
    assert not Path("kept").exists()


def test_they_are_an_interval_apart_and_writing_is_a_small_share(bench, monkeypatch) -> None:
    monkeypatch.setenv(VARIABLE, "10")
    now, written = [0.0], []
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: now[0])

    def slow(path, content) -> None:
        written.append(content["step"])
        now[0] += 1.0

    monkeypatch.setattr(checkpoints, "write", slow)
    keeper = bench().kept().keeper(0, [])
    for _ in keeper.watch((n, None) for n in range(1, 8)):
        now[0] += 4.0
    assert written == [3]  # at 12 s; the next is due 20 s after it has ended, at 33 s
    keeper = bench(steps=2).kept().keeper(0, [])
    for _ in keeper.watch((n, None) for n in range(1, 3)):
        now[0] += 6.0
    assert written == [3, 2]  # the end of a group, 12 s after the stage began


@pytest.mark.parametrize("value", ["-1", "soon", "nan", ""])
def test_an_interval_that_is_none(monkeypatch, value) -> None:
    monkeypatch.setenv(VARIABLE, value)
    with pytest.raises(StudyError, match=f"{VARIABLE}: expected seconds, from 0, found '{value}'"):
        checkpoints.interval()


def cut(path: Path, share: float) -> None:
    with path.open("r+b") as file:
        file.truncate(int(path.stat().st_size * share))


def turned(path: Path) -> None:
    """Change one byte of the largest tensor."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("harm", "line"),
    [
        (lambda path: cut(path, 0.5), "not a whole checkpoint"),
        (lambda path: cut(path, 0.999), "not a whole checkpoint"),
        (lambda path: cut(path, 0), "not a whole checkpoint"),
        (turned, "not a whole checkpoint"),
        (lambda path: path.write_text("[1, 2]"), "not a whole checkpoint"),
        (lambda path: torch.save([1, 2], path), "not a whole checkpoint"),
    ],
    ids=["half", "almost", "empty", "turned", "text", "list"],
)
def test_one_that_is_not_whole_is_ignored(bench, lose, capsys, harm, line) -> None:
    made = bench()
    expected = made.train(None)
    lose(3)
    with pytest.raises(Lost):
        made.train(made.kept())
    harm(Path("kept/0.pt"))
    capsys.readouterr()
    lose(STEPS)
    assert_same(made.train(made.kept()), expected)
    said = [text for text in capsys.readouterr().err.splitlines() if "kept/0.pt" in text]
    assert len(said) == 1
    assert said[0].startswith(f"kept/0.pt: ignored: {line}")


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda patch: None, "another cell"),
        (lambda patch: patch.setattr(torch, "__version__", "9.9"), "another cell, torch"),
        (lambda patch: patch.setattr(torch.version, "cuda", "9.9"), "another cell, cuda"),
        (lambda patch: patch.setattr(torch.backends.cudnn, "version", lambda: 9), "cell, cudnn"),
        (lambda patch: patch.setattr(np, "__version__", "9.9"), "another cell, numpy"),
        (lambda patch: patch.setattr(checkpoints, "FORMAT", 99), "another cell, format"),
        (lambda patch: patch.setattr(checkpoints.ssl_bench, "__version__", "9"), "ssl_bench"),
    ],
    ids=["cell", "torch", "cuda", "cudnn", "numpy", "format", "version"],
)
def test_one_of_another_stamp_is_ignored(bench, lose, capsys, monkeypatch, change, line) -> None:
    made = bench()
    expected = made.train(None)
    lose(3)
    with pytest.raises(Lost):
        made.train(made.kept())
    change(monkeypatch)
    capsys.readouterr()
    lose(STEPS)
    assert_same(made.train(made.kept(cell="y")), expected)
    said = [text for text in capsys.readouterr().err.splitlines() if "kept/0.pt" in text]
    assert len(said) == 1
    assert said[0].startswith("kept/0.pt: ignored: a checkpoint of another ")
    assert line in said[0]


def test_other_runs_other_steps_and_other_shapes_are_told_apart(bench, lose, capsys) -> None:
    made = bench()
    lose(3)
    with pytest.raises(Lost):
        made.train(made.kept())
    lose(None)
    kept = made.kept()
    assert kept.keeper(0, [Run(0, 1e-2), Run(1, 2e-2)]).resume({}, []) == 0
    assert Checkpoints(Path("kept"), "x", CPU, 9, cell="x").keeper(0, made.runs).resume({}, []) == 0
    assert kept.keeper(0, made.runs).resume({"parameters": torch.zeros(3)}, []) == 0
    lines = capsys.readouterr().err.splitlines()[-3:]
    assert [line.split("ignored: ")[1] for line in lines] == [
        "a checkpoint of another runs",
        "a checkpoint of another steps",
        "a checkpoint of tensors with other names or shapes",
    ]


# ---- when it cannot be written


@pytest.mark.parametrize("failing", ["save", "fsync", "rename"])
def test_a_full_disk_leaves_the_old_one_and_the_training_goes_on(
    bench, lose, capsys, monkeypatch, failing
) -> None:
    made = bench()
    expected = made.train(None)
    lose(3)
    with pytest.raises(Lost):
        made.train(made.kept())
    old = Path("kept/0.pt").read_bytes()

    def full(*_arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    owner, name = {
        "save": (torch, "save"),
        "fsync": (os, "fsync"),
        "rename": (Path, "replace"),
    }[failing]
    monkeypatch.setattr(owner, name, full)
    capsys.readouterr()
    lose(None)
    assert_same(made.train(made.kept()), expected)
    warned = [text for text in capsys.readouterr().err.splitlines() if "warning" in text]
    assert len(warned) == 1
    assert "kept/0.pt: no checkpoint written" in warned[0]
    assert "No space left on device" in warned[0]
    assert Path("kept/0.pt").read_bytes() == old
    assert [path.name for path in Path("kept").iterdir()] == ["0.pt"]


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="no device that is full")
@pytest.mark.parametrize("numbers", [1, 10**6])
def test_a_device_that_is_full(tmp_path, numbers) -> None:
    path, partial = tmp_path / "0.pt", tmp_path / "0.partial"
    checkpoints.write(path, {"a": 1})
    old = path.read_bytes()
    partial.symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device"):
        checkpoints.write(path, {"a": torch.zeros(numbers)})
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == old


# ---- what is left can be freed


def test_the_command_says_what_it_frees(ready, lose, capsys, monkeypatch) -> None:
    study = ready(interfaces=["weighted_sum"])
    Path("study.json").write_text(study.model_dump_json(exclude_unset=True))
    lose(2)
    with pytest.raises(Lost):
        cells.sweep(study, "ks", "mini", "all")
    (kept,) = study.checkpoints.rglob("*.pt")
    size = kept.stat().st_size / 2**20
    capsys.readouterr()
    for expected in ([f"{size:.1f} MiB\t{kept}", f"freed {size:.1f} MiB of 1"], ["freed 0.0 MiB"]):
        with pytest.raises(SystemExit) as caught:
            main(["checkpoints", "--study", "study.json"])
        assert not caught.value.code
        lines = capsys.readouterr().out.splitlines()
        assert [line.startswith(part) for line, part in zip(lines, expected, strict=True)]
        assert not study.checkpoints.exists()
