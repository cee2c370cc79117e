"""Sweep and train: what is chosen, what a cell holds, what is trained again and what is not."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from ssl_bench import cells, turns
from ssl_bench.errors import StudyError
from ssl_bench.features import open_features
from ssl_bench.runs import Runs
from ssl_bench.study import Study

FILES = {
    "metrics.json",
    "scores.parquet",
    "history.csv",
    "layer_profile.csv",
    "weights.safetensors",
}


def both(study: Study, task: str = "ks", pack: str = "all") -> pd.DataFrame:
    cells.sweep(study, task, "mini", pack)
    cells.run(study, task, "mini", pack)
    return pd.read_csv(study.pack_dir(task, "mini", pack) / "train.csv")


def folder(study: Study, interface: str, task: str = "ks", pack: str = "all") -> Path:
    return study.pack_dir(task, "mini", pack) / interface


def names_in(study) -> set[str]:
    """What lies in the folder of the job."""
    return {path.name for path in study.pack_dir("ks", "mini", "all").iterdir()}


@pytest.fixture
def trainings(monkeypatch) -> list[str]:
    """Names of the interfaces whose seeds are trained, in order; sweeps are not counted."""
    seen: list[str] = []
    real = cells.train

    def counted(groups, task, features, rows, training, label, *rest):
        if label.startswith("train"):
            seen.append(label.split()[-1])
        return real(groups, task, features, rows, training, label, *rest)

    monkeypatch.setattr(cells, "train", counted)
    return seen


# ---- the choice of a learning rate


def table(**dev: list[float]) -> pd.DataFrame:
    """Dev values of two seeds by learning rate; a key is a rate, ``r1`` = 0.1."""
    rows = [
        {"layer": None, "learning_rate": int(rate[1:]) / 10, "seed": seed, "dev": value}
        for rate, values in dev.items()
        for seed, value in enumerate(values)
    ]
    return pd.DataFrame(rows)


def chosen(frame: pd.DataFrame) -> set[float]:
    return set(frame.loc[frame["chosen"], "learning_rate"])


def test_the_best_mean_in_the_tasks_direction_is_chosen() -> None:
    frame = table(r1=[10, 30], r2=[19, 19], r3=[40, 5])
    assert chosen(cells._mark_best(frame, higher_is_better=True)) == {0.3}
    assert chosen(cells._mark_best(frame, higher_is_better=False)) == {0.2}


@pytest.mark.parametrize("higher_is_better", [True, False])
def test_a_rate_that_diverged_with_any_seed_is_not_chosen(higher_is_better: bool) -> None:
    frame = table(r1=[20, 20], r2=[np.nan, 1], r3=[99, np.nan], r4=[np.nan, np.nan])
    assert chosen(cells._mark_best(frame, higher_is_better)) == {0.1}


def test_every_layer_has_its_own_best_rate() -> None:
    first, second = table(r1=[1, 1], r2=[2, 2]), table(r1=[2, 2], r2=[1, 1])
    frame = pd.concat([first.assign(layer=0), second.assign(layer=1)])
    marked = cells._mark_best(frame, higher_is_better=True)
    assert chosen(marked[marked["layer"] == 0]) == {0.2}
    assert chosen(marked[marked["layer"] == 1]) == {0.1}


@pytest.mark.parametrize("task", ["ks", "pr"])
def test_every_seed_is_trained_at_the_rate_that_the_sweep_chose(ready, task: str) -> None:
    study = ready()
    trained = both(study, task)
    swept = pd.read_csv(study.pack_dir(task, "mini", "all") / "sweep.csv")
    assert len(swept) == 2 * 2  # interfaces × rates, one seed
    for interface, own in swept.groupby("interface"):
        order = own.sort_values("dev", ascending=task == "pr", kind="stable")
        best = order.iloc[0]["learning_rate"]
        if order["dev"].nunique() == 2:
            assert chosen(own) == {best}
        rows = trained[trained["interface"] == interface]
        assert sorted(rows["seed"]) == [0, 1]
        assert set(rows["learning_rate"]) == chosen(own)


def test_a_rate_that_diverges_is_survived_and_not_chosen(ready) -> None:
    study = ready(sweep={"learning_rates": [1e30, 1e-2, 1e6], "seeds": [0, 1]})
    both(study)
    swept = pd.read_csv(study.pack_dir("ks", "mini", "all") / "sweep.csv")
    assert swept.loc[swept["learning_rate"] == 1e30, "dev"].isna().all()
    assert swept.loc[swept["learning_rate"] == 1e-2, "dev"].notna().all()
    assert not (swept["chosen"] & swept["dev"].isna()).any()


def test_a_training_that_diverges_stops_and_leaves_no_half_cell(ready) -> None:
    study = ready(sweep={"learning_rates": [1e30]})
    with pytest.raises(StudyError) as caught:
        both(study)
    line = str(caught.value)
    assert "seed 0" in line
    assert "1e+30" in line
    assert "\n" not in line
    assert names_in(study) == {"sweep.csv", ".sweeps"}


def test_a_training_that_diverges_after_its_best_is_told_too(ready, monkeypatch) -> None:
    study = ready()
    cells.sweep(study, "ks", "mini", "all")
    real = Runs.update

    def lost_at_the_last_step(self, *arguments) -> None:
        real(self, *arguments)
        self.alive[-1] &= self.updates[-1] < 4

    monkeypatch.setattr(Runs, "update", lost_at_the_last_step)
    with pytest.raises(StudyError, match="the loss of seed 1 is not finite"):
        cells.run(study, "ks", "mini", "all")


def test_rates_come_from_a_table_where_there_is_no_sweep(ready, raw, tmp_path) -> None:
    rates = tmp_path / "rates.csv"
    rates.write_text("task,upstream,interface,layer,learning_rate\nks,mini,hconv,,0.004\n")
    del raw["sweep"]
    study = ready(learning_rates="rates.csv", interfaces=["hconv"])
    cells.run(study, "ks", "mini", "all")
    trained = pd.read_csv(study.pack_dir("ks", "mini", "all") / "train.csv")
    assert set(trained["learning_rate"]) == {0.004}
    with pytest.raises(StudyError, match=r"rates\.csv: no row for task 'pr', upstream 'mini'"):
        cells.run(study, "pr", "mini", "all")


# ---- what a cell holds


@pytest.mark.parametrize("task", ["ks", "pr"])
def test_a_cell_is_complete_and_its_parts_agree(ready, task: str) -> None:
    study = ready()
    trained = both(study, task)
    place = folder(study, "weighted_sum", task)
    assert {path.name for path in place.iterdir()} == FILES
    about = json.loads((place / "metrics.json").read_text())
    assert set(about) >= {"config", "versions", "runs"}
    scores = pd.read_parquet(place / "scores.parquet")
    history = pd.read_csv(place / "history.csv")
    assert len(about["runs"]) == 2
    for run in about["runs"]:
        assert run["interface_parameters"] == 4
        assert (run["n_dev"], run["n_test"]) == (6, 9)
        own = scores[scores["seed"] == run["seed"]]
        assert len(own) == 9
        assert set(own["speaker"]) == {"test-0", "test-1"}
        if task == "ks":
            assert run["test"] == pytest.approx(100 * own["correct"].mean())
        else:
            rate = own["errors"].sum() / own["reference_length"].sum()
            assert run["test"] == pytest.approx(100 * rate)
        steps = history[history["seed"] == run["seed"]].set_index("step")["dev"]
        assert list(steps.index) == [2, 4]
        assert run["dev"] == steps.loc[run["best_step"]]
        assert run["dev"] == (steps.max() if task == "ks" else steps.min())
    profile = pd.read_csv(place / "layer_profile.csv")
    assert sorted(zip(profile["seed"], profile["layer"], strict=True)) == [
        (seed, layer) for seed in range(2) for layer in range(4)
    ]
    np.testing.assert_allclose(profile.groupby("seed")["share"].sum(), 1, rtol=1e-5)
    weights = load_file(place / "weights.safetensors")
    assert all(len(value) == 2 and value.isfinite().all() for value in weights.values())
    assert trained["test"].tolist()[:2] == [run["test"] for run in about["runs"]]


def test_a_seed_gives_the_same_alone_in_company_and_again(ready, monkeypatch) -> None:
    sweep = {"learning_rates": [1e-2]}
    columns = ["interface", "seed", "dev", "test", "best_step"]
    study = ready(seeds=[0, 1, 2], sweep=sweep)
    together = both(study)[columns].set_index(["interface", "seed"])
    alone = both(ready(seeds=[2], sweep=sweep, name="alone"))[columns]
    for row in alone.itertuples():
        pd.testing.assert_series_equal(
            together.loc[(row.interface, 2)],
            alone.set_index(["interface", "seed"]).loc[(row.interface, 2)],
        )
    monkeypatch.setattr(turns, "STACKED", 2)
    in_turns = both(ready(seeds=[0, 1, 2], sweep=sweep, name="turns"))[columns]
    pd.testing.assert_frame_equal(in_turns.set_index(["interface", "seed"]), together)


def test_single_layers_are_probed_one_by_one(ready) -> None:
    sweep = {"learning_rates": [1e-3, 3e-2]}
    study = ready(interfaces={"single_layer": {"layer": "each"}}, sweep=sweep)
    trained = both(study)
    assert sorted(zip(trained["layer"], trained["seed"], strict=True)) == [
        (layer, seed) for layer in range(4) for seed in range(2)
    ]
    swept = pd.read_csv(study.pack_dir("ks", "mini", "all") / "sweep.csv")
    assert len(swept) == 4 * 2
    assert (swept.groupby("layer")["chosen"].sum() == 1).all()
    assert pd.read_csv(folder(study, "single_layer") / "layer_profile.csv").empty
    scores = pd.read_parquet(folder(study, "single_layer") / "scores.parquet")
    assert len(scores) == 4 * 2 * 9

    # a layer's probe is what that layer trained as an interface of its own is
    own = ready(interfaces={"single_layer": {"layer": 2}}, sweep=sweep, name="own")
    alone = both(own).set_index("seed")
    probe = trained[trained["layer"] == 2].set_index("seed")
    for column in ("learning_rate", "dev", "test", "best_step"):
        pd.testing.assert_series_equal(alone[column], probe[column])


def test_principal_components_are_those_of_the_training_utterances(ready) -> None:
    study = ready(interfaces=["pca_concat"], sweep={"learning_rates": [1e-2]})
    stream = cells._open(study, "ks", "mini", torch.device("cpu"))
    first, second = (cells._maker(stream, "pca_concat")().interface for _ in range(2))
    features = open_features(study, "mini", "tones", torch.device("cpu"))
    rows = np.array([stream.rows[name] for name in stream.task.ids("train")])
    states, lengths = features.batch(rows, int(features.frames[rows].max()))
    valid = torch.arange(states.shape[2]) < lengths[:, None]
    frames = states.double()[:, valid]  # (L, N, D)
    torch.testing.assert_close(first.mean.double(), frames.mean(1), atol=1e-4, rtol=1e-4)
    product = first.components @ first.components.transpose(1, 2)
    torch.testing.assert_close(product, torch.eye(4).expand(4, 4, 4), atol=1e-4, rtol=1e-4)
    centred = frames - frames.mean(1, keepdim=True)
    kept = (centred @ first.components.double().transpose(1, 2)).square().sum((1, 2))
    best = torch.linalg.svdvals(centred)[:, :4].square().sum(1)
    torch.testing.assert_close(kept, best, rtol=1e-4, atol=1e-4)
    assert torch.equal(first.components, second.components)
    assert both(study)["interface_parameters"].eq(0).all()


# ---- what is trained again


def test_a_sweep_that_was_stopped_goes_on_with_the_interfaces_that_are_missing(
    ready, monkeypatch
) -> None:
    study = ready()
    target = study.pack_dir("ks", "mini", "all") / "sweep.csv"
    real, swept = cells.train, []

    def stopped(groups, task, features, rows, training, label, *rest):
        if label.endswith("hconv"):
            raise KeyboardInterrupt
        swept.append(label)
        return real(groups, task, features, rows, training, label, *rest)

    monkeypatch.setattr(cells, "train", stopped)
    with pytest.raises(KeyboardInterrupt):
        cells.sweep(study, "ks", "mini", "all")
    assert swept == ["sweep ks mini weighted_sum"]
    assert not target.exists()

    def counted(groups, task, features, rows, training, label, *rest):
        swept.append(label)
        return real(groups, task, features, rows, training, label, *rest)

    monkeypatch.setattr(cells, "train", counted)
    cells.sweep(study, "ks", "mini", "all")
    assert swept == ["sweep ks mini weighted_sum", "sweep ks mini hconv"]
    resumed = target.read_text()
    cells.sweep(ready(sweep={"learning_rates": [1e-3]}), "ks", "mini", "all")
    assert swept[2:] == ["sweep ks mini weighted_sum", "sweep ks mini hconv"]
    cells.sweep(study, "ks", "mini", "all")
    assert len(swept) == 6
    assert target.read_text() == resumed


def test_a_finished_cell_is_not_trained_again(ready, trainings) -> None:
    study = ready()
    first = both(study)
    assert trainings == ["weighted_sum", "hconv"]
    written = (folder(study, "hconv") / "metrics.json").stat().st_mtime_ns
    trainings.clear()
    cells.run(study, "ks", "mini", "all")
    assert trainings == []
    assert (folder(study, "hconv") / "metrics.json").stat().st_mtime_ns == written
    again = pd.read_csv(study.pack_dir("ks", "mini", "all") / "train.csv")
    pd.testing.assert_frame_equal(first, again)


@pytest.mark.parametrize(
    ("keys", "trained"),
    [
        ({"interfaces": {"weighted_sum": {}, "hconv": {"layers": [0, 1, 2]}}}, ["hconv"]),
        ({"interfaces": {"weighted_sum": {}, "hconv": {}, "mean": {}}}, ["mean"]),
        ({"interfaces": {"weighted_sum": {}}}, []),
        ({"title": "another", "cache": "live"}, []),
        ({"seeds": 3}, ["weighted_sum", "hconv"]),
        ({"normalize": False}, ["weighted_sum", "hconv"]),
    ],
)
def test_a_change_trains_the_cells_that_it_determines(ready, trainings, keys, trained) -> None:
    both(ready())
    trainings.clear()
    both(ready(**keys))
    assert trainings == trained


def test_another_recording_under_the_same_name_is_trained_on(ready, trainings, tone) -> None:
    both(ready())
    trainings.clear()
    tone(Path("audio/train-0.wav"), 0.3, hertz=300.0)
    both(ready())
    assert trainings == ["weighted_sum", "hconv"]


def test_a_job_that_was_stopped_keeps_its_finished_cells(ready, monkeypatch, trainings) -> None:
    study = ready()
    cells.sweep(study, "ks", "mini", "all")
    counted = cells.train

    def stopped(groups, task, features, rows, training, label, *rest):
        if label.endswith("hconv"):
            raise KeyboardInterrupt
        return counted(groups, task, features, rows, training, label, *rest)

    monkeypatch.setattr(cells, "train", stopped)
    with pytest.raises(KeyboardInterrupt):
        cells.run(study, "ks", "mini", "all")
    assert names_in(study) == {"sweep.csv", ".sweeps", "weighted_sum"}
    monkeypatch.setattr(cells, "train", counted)
    trainings.clear()
    cells.run(study, "ks", "mini", "all")
    assert trainings == ["hconv"]
