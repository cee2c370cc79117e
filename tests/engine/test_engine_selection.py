"""Which weights a run ends with: its best, the mean of its best, the last."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from ssl_bench import cells
from ssl_bench.evaluation import evaluate
from ssl_bench.recipe import Training
from ssl_bench.runs import Joined, Run, Runs
from ssl_bench.selection import Selection
from ssl_bench.training import _drawn_dev, train

CPU = torch.device("cpu")


class Scalar(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.zeros(2))

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return x * self.value


def group(count: int = 2) -> Runs:
    runs = [Run(seed, 1e-2) for seed in range(count)]
    return Runs(runs, lambda: Joined(Scalar(), nn.Identity()), CPU, stackable=True)


def offered(merits: list[list[float]], count: int) -> tuple[Runs, Selection]:
    """Offer weights that are all n at step n, with these merits of the two runs."""
    runs = group()
    selection = Selection(runs, count)
    for step, merit in enumerate(merits, start=1):
        with torch.no_grad():
            runs.params["interface.value"].fill_(step)
        selection.offer(np.array(merit), step)
    selection.apply()
    return runs, selection


MERITS = [[5.0, 1.0], [4.0, 2.0], [1.0, 3.0], [3.0, np.nan], [2.0, 0.5]]


@pytest.mark.parametrize(
    ("count", "values"),
    [
        (1, [1.0, 3.0]),
        (2, [1.5, 2.5]),  # the steps of the two best: 1 and 2, 3 and 2
        (3, [7 / 3, 2]),
        (9, [3, 11 / 4]),  # all there are; the one that diverged is none
    ],
)
def test_each_run_has_its_own_best(count: int, values: list[float]) -> None:
    runs, selection = offered(MERITS, count)
    held = runs.params["interface.value"]
    torch.testing.assert_close(held, torch.tensor(values)[:, None].expand(2, 2))
    assert selection.best_steps.tolist() == [1, 3]


def test_of_equal_steps_the_first_is_kept() -> None:
    _runs, selection = offered([[1.0, 1.0], [1.0, 1.0]], 1)
    assert selection.best_steps.tolist() == [1, 1]


def test_a_run_without_any_keeps_its_first_weights() -> None:
    runs, selection = offered([[np.nan, 1.0]] * 2, 2)
    assert not runs.params["interface.value"][0].any()
    assert selection.best_steps.tolist() == [0, 1]


# ---- in a training


def trained(ready, task: str = "pr", **training):
    """Train three runs of one interface; return stream, runs and what the training left."""
    keys = {"recipe": "none", "steps": 12, "batch_seconds": 4, "evaluations": 6, "buckets": 2}
    study = ready(training={**keys, **training})
    stream = cells._open(study, task, "mini", CPU)
    make = cells._maker(stream, "weighted_sum")
    runs = [Run(seed, rate) for seed, rate in [(0, 0.1), (1, 0.03), (2, 0.3)]]
    made = cells._runs(stream, runs, make, stream.training)
    (found,) = train([made], stream.task, stream.features, stream.rows, stream.training, "test")
    return stream, made, found


def history(found) -> pd.DataFrame:
    return pd.DataFrame(found.history).set_index(["seed", "step"])


def scored(stream, made, split: str = "dev"):
    where = (stream.task, stream.features, stream.rows, split, 4.0)
    return evaluate([made], *where, with_loss=split == "dev")[0]


def test_the_step_of_lowest_dev_loss(ready) -> None:
    stream, made, found = trained(ready, select="dev_loss")
    table = history(found)
    again = scored(stream, made)
    for r, seed in enumerate(range(3)):
        best = table.loc[seed]["dev_loss"].idxmin()
        assert found.best_step[r] == best
        assert found.dev[r] == table.loc[(seed, best), "dev"]
        assert again.losses[r] == pytest.approx(table.loc[(seed, best), "dev_loss"], rel=1e-5)


def test_the_dev_loss_is_the_mean_over_utterances(ready) -> None:
    stream, made, _found = trained(ready, select="dev_loss")
    task, features = stream.task, stream.features
    by_hand = []
    for name in task.ids("dev"):
        row = np.array([stream.rows[name]])
        states, lengths = features.batch(row, int(features.frames[row[0]]))
        with torch.no_grad():
            outputs, out = made.forward(states, lengths, training=False, shared=True)
        target = task.target(name).repeat(3, 1)
        count = torch.full((3,), target.shape[1])
        by_hand.append(task.loss(outputs.flatten(0, 1), out.flatten(), target, count))
    np.testing.assert_allclose(
        scored(stream, made).losses, torch.stack(by_hand).mean(0).numpy(), rtol=1e-5
    )


def test_the_last(ready) -> None:
    _stream, _, found = trained(ready, select="last")
    assert found.best_step.tolist() == [12, 12, 12]
    assert found.dev.tolist() == history(found).xs(12, level="step")["dev"].tolist()
    assert "dev_loss" not in found.history[0]


def test_the_mean_of_the_best_is_scored_anew(ready) -> None:
    stream, made, found = trained(ready, select="last", average=2)
    snapshots = []
    for steps in (10, 12):
        # Steps up to 10 of 12 are those of a training of 10: the schedule is constant.
        _, own, _ = trained(ready, select="last", steps=steps, evaluations=steps // 2)
        snapshots.append(own.snapshot())
    for name, value in made.params.items():
        mean = (snapshots[0][name] + snapshots[1][name]) / 2
        torch.testing.assert_close(value.detach(), mean, rtol=1e-5, atol=1e-6)
    again = scored(stream, made)
    assert found.dev.tolist() == [stream.task.value(table) for table in again.tables]


def test_a_run_selects_the_same_alone_and_in_company(ready) -> None:
    keys = {"select": "dev_loss", "average": 3}
    stream, made, found = trained(ready, **keys)
    make = cells._maker(stream, "weighted_sum")
    alone = cells._runs(stream, [Run(1, 0.03)], make, stream.training)
    (own,) = train([alone], stream.task, stream.features, stream.rows, stream.training, "alone")
    assert own.best_step[0] == found.best_step[1]
    for name, value in alone.params.items():
        torch.testing.assert_close(value[0], made.params[name][1], rtol=1e-4, atol=1e-6)


def test_published_training_through_the_stages(ready, raw) -> None:
    """Batches by utterances, crops, balance and a mean of the best, from study to cell."""
    training = {
        "steps": 4,
        "evaluations": 4,
        "batch_utterances": 6,
        "crop_seconds": 0.3,
        "min_seconds": 0.31,
        "balance": True,
        "select": "dev_loss",
        "average": 2,
    }
    del raw["training"]
    study = ready(training=training, tasks={"ks": raw["tasks"]["ks"]})
    cells.sweep(study, "ks", "mini", "all")
    cells.run(study, "ks", "mini", "all")
    about = json.loads((study.pack_dir("ks", "mini", "all") / "hconv/metrics.json").read_text())
    assert {run["n_dev"] for run in about["runs"]} == {6}
    assert about["config"]["training"]["layer_weight_scale"] == 1  # of the published recipe
    table = pd.read_csv(study.pack_dir("ks", "mini", "all") / "hconv/history.csv")
    assert table["dev_loss"].notna().all()
    stream = cells._open(study, "ks", "mini", CPU)
    kept = stream.task.rows
    assert (kept[kept["split"] == "train"]["duration"] > 0.31).all()
    assert len(stream.task.ids("train")) == 20  # of 24, four last 0.3 s
    assert len(stream.task.ids("dev")) == 6


def test_dev_is_drawn_with_equal_classes_where_training_is_balanced(ready) -> None:
    stream = cells._open(ready(), "ks", "mini", CPU)
    drawn = _drawn_dev(stream.task)
    assert drawn == _drawn_dev(stream.task)
    assert len(drawn) == 6
    assert set(drawn) <= set(stream.task.ids("dev"))
    assert len(set(drawn)) < 6  # with replacement
    runs = cells._runs(stream, [Run(0, 0.1)], cells._maker(stream, "weighted_sum"), Training())
    where = ([runs], stream.task, stream.features, stream.rows, "dev", 4.0)
    table = evaluate(*where, drawn=drawn)[0].tables[0].set_index("id")["correct"]
    whole = evaluate(*where)[0].tables[0].set_index("id")["correct"]
    assert sorted(table.index) == sorted(drawn)
    assert (table == whole[table.index]).all()
