"""Several interfaces over one reading of the stream, and all seeds on the same batches."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from ssl_bench import cells, training, turns
from ssl_bench.errors import StudyError
from ssl_bench.features import Features
from ssl_bench.runs import Run
from ssl_bench.sampling import training_batches
from ssl_bench.steps import EagerStep
from ssl_bench.study import Cell, Study

MEASURED = ["seconds", "peak_memory_mb", "fingerprint", "study"]
PROBED = {"weighted_sum": {}, "hconv": {}, "single_layer": {"layer": "each"}}


def both(study: Study, task: str = "ks") -> pd.DataFrame:
    cells.sweep(study, task, "mini", "all")
    cells.run(study, task, "mini", "all")
    return pd.read_csv(study.pack_dir(task, "mini", "all") / "train.csv").drop(columns=MEASURED)


@pytest.fixture
def encoded(monkeypatch) -> list[int]:
    """How many utterances each encoding of a batch was asked for."""
    counts: list[int] = []
    real = Features._encode

    def counted(self, rows):
        counts.append(len(np.unique(rows)))
        return real(self, rows)

    monkeypatch.setattr(Features, "_encode", counted)
    return counts


@pytest.mark.parametrize("task", ["ks", "pr"])
def test_live_interfaces_learn_together_what_they_learn_alone(ready, task) -> None:
    """Sweeps, seeds and single layers; the states are the same bfloat16 numbers in both."""
    alone = both(ready(name="alone", cache="disk", interfaces=PROBED), task)
    together = both(ready(name="together", cache="live", interfaces=PROBED), task)
    pd.testing.assert_frame_equal(alone, together)
    for name in ("history.csv", "layer_profile.csv", "scores.parquet"):
        one, other = (
            Path(f"results/{study}/cells/{task}/mini/all/hconv/{name}")
            for study in ("alone", "together")
        )
        read = pd.read_parquet if name.endswith("parquet") else pd.read_csv
        pd.testing.assert_frame_equal(read(one), read(other))


@pytest.mark.parametrize("task", ["ks", "pr"])
def test_held_states_teach_several_interfaces_what_they_teach_one(ready, monkeypatch, task) -> None:
    alone = both(ready(name="alone", interfaces=PROBED), task)
    real, groups = cells.train, []

    def counted(found, *arguments):
        groups.append(len(found))
        return real(found, *arguments)

    monkeypatch.setattr(cells, "train", counted)
    monkeypatch.setattr(turns, "at_once", lambda *_: 1000)
    together = both(ready(name="together", interfaces=PROBED), task)
    pd.testing.assert_frame_equal(alone, together)
    assert groups == [len(PROBED), len(PROBED)]  # the sweep, the seeds


def test_a_step_encodes_once_for_all_interfaces(ready, encoded) -> None:
    study = ready(cache="live", interfaces=PROBED)
    encoded.clear()
    cells.sweep(study, "ks", "mini", "all")
    one = ready(name="one", cache="live", interfaces=["weighted_sum"])
    together = list(encoded)
    encoded.clear()
    cells.sweep(one, "ks", "mini", "all")
    assert together == encoded


def test_a_shared_order_gives_all_seeds_the_batches_of_seed_zero(ready, monkeypatch) -> None:
    seen = []
    real = training.Course.own

    def watched(self, batch):
        seen.append(batch.rows)
        return real(self, batch)

    monkeypatch.setattr(training.Course, "own", watched)
    keys = {"steps": 6, "batch_seconds": 4, "buckets": 2, "recipe": "none", "evaluations": 1}
    study = ready(seeds=3, training={**keys, "order": "shared"}, interfaces=["weighted_sum"])
    table = both(study)
    last = seen[-6:]
    assert all(rows.shape[0] == 1 for rows in last)  # a row of utterances, for three seeds
    stream = cells._open(study, "ks", "mini", torch.device("cpu"))
    ids = np.array([stream.rows[name] for name in stream.task.ids("train")])
    frames = int(4 / stream.features.seconds_per_frame)
    own = training_batches(ids, stream.features.frames[ids], frames, 2, 6, [0])
    for rows, batch in zip(last, own, strict=True):
        assert np.array_equal(rows, batch.rows)
    assert table["test"].notna().all()
    # each is what it is alone: a seed still has an initialisation of its own
    make = cells._maker(stream, "weighted_sum")
    for seed in range(3):
        rate = float(table["learning_rate"][0])
        group = cells._runs(stream, [Run(seed, rate)], make, stream.training)
        (found,) = training.train(
            [group], stream.task, stream.features, stream.rows, stream.training, "alone"
        )
        expected = table.loc[table["seed"] == seed, "dev"].item()
        assert found.dev[0] == pytest.approx(expected, abs=1e-9)


def test_the_order_of_batches_is_part_of_what_determines_a_cell(ready) -> None:
    cell = Cell("ks", "mini", "hconv")
    keys = {"steps": 4, "batch_seconds": 4, "buckets": 2, "recipe": "none", "evaluations": 2}
    plain, own, shared = (
        ready(training={**keys, **order}).fingerprint(cell)
        for order in ({}, {"order": "own"}, {"order": "shared"})
    )
    assert plain == own != shared


def test_a_lost_interface_leaves_the_others_whole(ready, monkeypatch) -> None:
    study = ready(cache="live")
    cells.sweep(study, "ks", "mini", "all")
    real = EagerStep.backward

    def broken(self, gradients, rate):
        for number, runs in enumerate(self.groups):
            if type(runs.skeleton.interface).__name__ == "HConv":
                gradients[number] = gradients[number] * float("inf")
        return real(self, gradients, rate)

    monkeypatch.setattr(EagerStep, "backward", broken)
    with pytest.raises(StudyError, match="train ks mini hconv: the loss of seed 0 is not finite"):
        cells.run(study, "ks", "mini", "all")
    folder = study.pack_dir("ks", "mini", "all")
    assert json.loads((folder / "weighted_sum" / "metrics.json").read_text())["runs"]
    assert not (folder / "hconv").exists()
    monkeypatch.undo()


def test_what_is_trained_together_is_resumed_together(ready, monkeypatch) -> None:
    expected = both(ready(name="whole", cache="live", interfaces=PROBED))
    study = ready(name="killed", cache="live", interfaces=PROBED)
    cells.sweep(study, "ks", "mini", "all")
    monkeypatch.setenv("SSL_BENCH_CHECKPOINT_SECONDS", "0")
    real, taken = EagerStep.forward, []

    def killed(self, *arguments):
        taken.append(self)
        if len(taken) == 3:
            raise KeyboardInterrupt
        return real(self, *arguments)

    monkeypatch.setattr(EagerStep, "forward", killed)
    with pytest.raises(KeyboardInterrupt):
        cells.run(study, "ks", "mini", "all")
    cells.run(study, "ks", "mini", "all")
    assert len(taken) == 3 + 2  # the third step again, and the fourth
    found = pd.read_csv(study.pack_dir("ks", "mini", "all") / "train.csv").drop(columns=MEASURED)
    pd.testing.assert_frame_equal(found, expected)
