"""Steps of every task are timed, and written where the plan of a study reads them."""

import csv
import importlib
import sys

import numpy as np
import pytest

from ssl_bench import registry
from ssl_bench.planning import known, throughput, work
from ssl_bench.study import load

TINY = ["--steps", "2", "--layers", "4", "--dim", "16", "--seconds", "0.5", "0.7"]


@pytest.fixture(scope="module")
def training():
    return importlib.import_module("training")


@pytest.fixture
def call(monkeypatch):
    def run(name, *arguments):
        module = importlib.import_module(name)
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        module.main()

    return run


def rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_columns_are_those_of_the_plan():
    path = known.FOLDER / "throughput.csv"
    header = path.read_text(encoding="utf-8").splitlines()[0]
    assert header == ",".join(importlib.import_module("measured").COLUMNS)


@pytest.mark.parametrize("task", registry.kinds("tasks"))
def test_every_task(call, tmp_path, task):
    out = tmp_path / "steps.csv"
    options = [*TINY, "--runs", 1, "--batch-seconds", 1.4, "--interfaces", "weighted_sum"]
    call("training", "--task", task, *options, "--csv", out)
    found = rows(out)
    assert [(row["task"], row["runs"]) for row in found] == [(task, "1")]
    assert all(float(row["value"]) > 0 for row in found)


def test_several_tasks_and_all_interfaces(call, training, tmp_path):
    out = tmp_path / "steps.csv"
    for _ in range(2):  # a second time the rows are replaced
        call("training", "--task", "er", "ks", *TINY, "--runs", 2, "--csv", out)
    names = {row["interface"] for row in rows(out)}
    assert names == set(training.SSL_Interface.names()) - {"single_layer"}
    assert len(rows(out)) == 2 * 2 * len(names)


@pytest.mark.parametrize(
    ("task", "outputs"),
    [
        ("pr", 71 + 3),
        ("asr", 26 + 2 + 4),
        ("ks", 12),
        ("sid", 1251),
        ("sv", 1211),
        ("er", 4),
        ("ic", 6 + 14 + 4),
        ("sf", 2 * 39 + 28 + 3),
        ("lid", 143),
        ("multi_lid", 143 + 2),
        ("multi_asr", 5000 + 3),
    ],
)
def test_heads_have_the_published_number_of_classes(task, outputs):
    labels = importlib.import_module("labels")
    module = registry.load("tasks", task)
    frame = labels.table(task, np.full(labels.fewest(), 3.0))
    made = module.Task(module.Config(kind=task, corpus="noise"), frame)
    assert any(outputs in parameter.shape for parameter in made.head(16).parameters())


def test_too_few_utterances():
    labels = importlib.import_module("labels")
    with pytest.raises(ValueError, match=r"^found 100 utterances, expected at least 1311"):
        labels.table("pr", np.full(100, 3.0))


def test_another_table_is_not_overwritten(tmp_path):
    measured = importlib.import_module("measured")
    path = tmp_path / "other.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(SystemExit, match=r"found columns \['a', 'b'\], expected stage, hardware"):
        measured.record(path, [measured.line(stage="step")])
    assert path.read_text() == "a,b\n1,2\n"
    with pytest.raises(KeyError, match="wrong"):
        measured.line(wrong=1)


def test_the_plan_counts_what_was_written(call, tmp_path, monkeypatch, repository):
    """Steps and fine-tuned steps of one task, at the size of states of the paper's HuBERT Base."""
    out = tmp_path / "steps.csv"
    small = ["--task", "er", "mono_asr", *TINY, "--runs", 2, "--interfaces", "weighted_sum"]
    call("training", *small, "--batch-seconds", 1.4, "--csv", out)
    tuned = ["--shape", "tiny", "--seconds", 1, "--utterances", 2, "--steps", 1]
    call("fine_tuning", *tuned, "--interfaces", "weighted_sum", "hconv", "--csv", out)
    call("encoding", "--shape", "tiny", "--seconds", 2, "--batches", 1, "--csv", out)
    found = rows(out)
    assert [row["stage"] for row in found] == ["step"] * 4 + ["tune"] * 2 + ["encode"]
    large = tuple({**row, "hardware": "here", "layers": "13", "dim": "768"} for row in found)
    monkeypatch.setattr(throughput, "rows", lambda _: large)
    monkeypatch.chdir(repository)
    plan = work.make(load("config/paper.yaml").model_copy(update={"name": "never-run"}))
    (here,) = throughput.estimates(plan)
    frozen = 2 * (13 + 13 + 5) + 13  # two Base encoders: Mono-1hr, enlarged, ER; Mono-10min of one
    assert here.cells == frozen + 13 * 3
    assert throughput.tuned_and_unmeasured(plan) == 0
