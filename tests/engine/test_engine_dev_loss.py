"""``padding: group`` with ``select: dev_loss``: the dev loss is ESPnet's, written out here."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import espnet_rules
import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from ssl_bench import cells, checkpoints, evaluation, training
from ssl_bench import runs as runs_module
from ssl_bench.checkpoints import Checkpoints
from ssl_bench.evaluation import evaluate
from ssl_bench.fine_tuning import Tuned
from ssl_bench.heads.padding import Padded, scored_together
from ssl_bench.runs import Run, Runs
from ssl_bench.stream import Stream

SAID = {
    "recipe": "none",
    "steps": 4,
    "evaluations": 2,
    "batches": "sorted",
    "last_batch": "shared",
    "batch_utterances": 8,
    "neighbours": 4,
    "padding": "group",
    "select": "dev_loss",
    "not_finite": "skip",
}
HEAD = {
    **{"kind": "mono_asr", "corpus": "tones", "column": "keyword", "projection": 8, "dim": 8},
    **{"layers": 1, "attention_heads": 2, "feed_forward": 8},
}
"""With dropout and SpecAugment, which a dev loss does not have."""
RUNS = [Run(0, 1e-2), Run(1, 3e-3), Run(4, 1e-2)]


@pytest.fixture
def opened(ready, raw):
    """Open the stream of monolingual recognition: ``opened(neighbours=2)``."""

    def make(cache: str = "disk", tuned: bool = False, **said: Any) -> Stream:
        upstream = {**raw["upstreams"]["mini"]}
        if tuned:
            upstream["fine_tune"] = {"learning_rate": 1e-4}
        study = ready(
            tasks={"asr": HEAD},
            interfaces=["mean"],
            state_dtype="fp32",
            cache=cache,
            upstreams={"mini": upstream},
            training={**SAID, **said},
        )
        return cells._open(study, "asr", "mini", torch.device("cpu"))

    return make


def made(stream: Stream, runs: list[Run]) -> Runs:
    return cells._runs(stream, runs, cells._maker(stream, "mean"), stream.training)


def trained(stream: Stream, runs: list[Run], keeper: Any = None):
    group = made(stream, runs)
    where = [group], stream.task, stream.features, stream.rows
    (found,) = training.train(*where, stream.training, "dev loss", keeper)
    return group, found


def score(stream: Stream, group: Runs, split: str = "dev", seconds: float = 4.0, **keys):
    where = [group], stream.task, stream.features, stream.rows, split, seconds
    return evaluate(*where, **keys)[0]


def espnets(stream: Stream, group: Runs, r: int, size: int) -> float:
    """The dev loss of one run: each batch by itself, padded to its longest."""
    task, joined = stream.task, group.module(r).eval()
    lengths = {name: round(task.seconds(name) * 16_000) for name in task.ids("dev")}
    means, sizes = [], []
    for names in espnet_rules.batches(lengths, size):
        rows = np.array([stream.rows[name] for name in names])
        states, frames = stream.features.batch(rows, int(stream.features.frames[rows].max()))
        with torch.no_grad():
            if isinstance(joined, Tuned):
                states = joined.states(states, frames)
            features = joined.interface(states, frames)
            outputs, kept = espnet_rules.espnet(joined.head, features, frames)
        targets = [task.target(name) for name in names]
        logs = outputs.log_softmax(-1).transpose(0, 1)
        counts = torch.tensor([len(target) for target in targets])
        loss = F.ctc_loss(
            *(logs, torch.cat(targets), kept, counts), reduction="sum", zero_infinity=True
        )
        means.append(loss.item() / len(names))
        sizes.append(len(names))
    return espnet_rules.reported(means, sizes)


@pytest.mark.parametrize("pays", [True, False], ids=["stacked", "looped"])
@pytest.mark.parametrize("size", [1, 2, 4, 40])
def test_the_dev_loss_is_espnets_of_its_batches(opened, monkeypatch, pays, size) -> None:
    """Of runs together and of one, of three batches of two as of one of six."""
    monkeypatch.setattr(runs_module, "stacking_pays", lambda *_: pays)
    stream = opened()
    group, _ = trained(stream, RUNS)
    found = score(stream, group, with_loss=True, padded=size).losses
    alone = score(stream, group, with_loss=True).losses
    for r in range(len(RUNS)):
        assert found[r] == pytest.approx(espnets(stream, group, r, size), rel=1e-5)
        assert bool(abs(found[r] / alone[r] - 1) < 1e-5) is (size == 1)
    one, _ = trained(stream, RUNS[1:2])
    assert score(stream, one, with_loss=True, padded=size).losses[0] == pytest.approx(
        espnets(stream, one, 0, size), rel=1e-5
    )


@pytest.mark.parametrize("size", [1, 4, 8])
@pytest.mark.parametrize("count", [3, 8, 15, 31])
def test_dev_is_cut_as_espnets_sampler_cuts_it(count: int, size: int) -> None:
    """Of 15 by 4, three batches of 5; utterances of equal lengths stay in their order."""
    random = np.random.default_rng(count)
    lengths = {f"u{i}": int(random.integers(1, 12)) for i in range(count)}
    asked = SimpleNamespace(seconds=lengths.get)
    cut = evaluation._sorted(asked, np.array(list(lengths)), size)
    names = [[f"u{place}" for place in places] for places in cut]
    assert names == espnet_rules.batches(lengths, size)


@pytest.mark.parametrize("neighbours", [2, 4])
def test_training_selects_by_it(opened, neighbours) -> None:
    """The history's loss is that of the weights at its step."""
    stream = opened(neighbours=neighbours)
    group, found = trained(stream, RUNS)
    table = pd.DataFrame(found.history).set_index(["seed", "step"])
    for r, run in enumerate(RUNS):
        own = table.loc[run.seed]["dev_loss"]
        assert found.best_step[r] == own.idxmin()
        assert own.min() == pytest.approx(espnets(stream, group, r, neighbours), rel=1e-5)


def test_of_a_fine_tuned_encoder(opened) -> None:
    stream = opened(tuned=True)
    group, found = trained(stream, RUNS[:1])
    best = min(row["dev_loss"] for row in found.history)
    assert best == pytest.approx(espnets(stream, group, 0, 4), rel=1e-5)
    assert found.dev.tolist() == [stream.task.value(t) for t in score(stream, group).tables]


@pytest.mark.parametrize("average", [1, 2])
def test_the_metric_that_is_reported_is_of_utterances_alone(opened, average) -> None:
    stream = opened(average=average)
    group, found = trained(stream, RUNS)
    alone = [stream.task.value(table) for table in score(stream, group).tables]
    assert found.dev.tolist() == alone


def test_it_depends_on_no_other_size(opened) -> None:
    """Nor on where states are kept, nor on which runs are scored beside one."""
    stream = opened()
    group, _ = trained(stream, RUNS)
    expected = score(stream, group, with_loss=True, padded=4).losses
    for cache in ("memory", "live", "disk"):
        other = opened(cache=cache, buckets=1)
        for seconds in (0.5, 4.0, 400.0):
            found = score(other, group, seconds=seconds, with_loss=True, padded=4).losses
            np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("select", ["dev_metric", "last"])
def test_without_a_dev_loss_dev_is_scored_alone(opened, select) -> None:
    stream = opened(select=select)
    assert stream.training.scored_padded is None
    group, found = trained(stream, RUNS)
    assert "dev_loss" not in found.history[0]
    assert found.dev.tolist() == [stream.task.value(t) for t in score(stream, group).tables]


def test_with_own_padding_the_loss_is_of_utterances_alone(opened) -> None:
    stream = opened(padding="own")
    assert stream.training.scored_padded is None
    group, found = trained(stream, RUNS[:1])
    best = min(row["dev_loss"] for row in found.history)
    assert score(stream, group, with_loss=True).losses[0] == pytest.approx(best, rel=1e-6)


def test_heads_see_padding_no_longer_than_dev_is_scored(opened) -> None:
    stream = opened()
    head = made(stream, RUNS).skeleton.head
    parts = [part for part in head.modules() if isinstance(part, Padded)]
    seen = []

    def lost() -> None:
        seen.extend(part.scored for part in parts)
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"), scored_together([head]):
        lost()
    assert seen == [1] * len(parts)
    assert [part.scored for part in parts] == [None] * len(parts)


def test_a_training_that_was_killed_ends_in_the_same_bits(opened, monkeypatch) -> None:
    """The node is lost before the last of four steps, after the first evaluation."""
    monkeypatch.setenv(checkpoints.VARIABLE, "0")
    stream = opened()
    _, expected = trained(stream, RUNS)
    kept = Checkpoints(Path("kept"), "dev loss", torch.device("cpu"), 4, cell="x")
    real, left = training.learn, [3]

    def learn(*arguments) -> None:
        if not left[0]:
            raise ConnectionError("the node is gone")
        left[0] -= 1
        real(*arguments)

    monkeypatch.setattr(training, "learn", learn)
    with pytest.raises(ConnectionError), kept.keeper(0, RUNS) as keeper:
        trained(stream, RUNS, keeper)
    left[0] = 1  # and no more
    with kept.keeper(0, RUNS) as keeper:
        _, found = trained(stream, RUNS, keeper)
    assert left == [0]
    assert found.history == expected.history
    assert found.dev.tolist() == expected.dev.tolist()
    assert found.best_step.tolist() == expected.best_step.tolist()


def test_a_cell_has_the_published_loss_and_scores_of_utterances_alone(ready) -> None:
    """Test's are those of the same weights with ``padding: own``."""
    found = {}
    for padding in ("group", "own"):
        study = ready(
            name=padding,
            tasks={"asr": HEAD},
            interfaces=["mean"],
            training={**SAID, "padding": padding, "average": 2},
            sweep={"learning_rates": [1e-2]},
        )
        cells.sweep(study, "asr", "mini", "all")
        cells.run(study, "asr", "mini", "all")
        found[padding] = study.pack_dir("asr", "mini", "all") / "mean"
    stream = cells._open(study, "asr", "mini", torch.device("cpu"))
    group = made(stream, [Run(0, 1e-2), Run(1, 1e-2)])
    weights = load_file(found["group"] / "weights.safetensors")
    group.restore({name: weights[f"0.{name}"] for name in group.params})
    rows = json.loads((found["group"] / "metrics.json").read_text())["runs"]
    for split in ("dev", "test"):
        tables = score(stream, group, split).tables
        assert [row[split] for row in rows] == [stream.task.value(table) for table in tables]
    losses = [pd.read_csv(folder / "history.csv")["dev_loss"] for folder in found.values()]
    assert (losses[0] != losses[1]).all()
