"""Training with ``padding: group``: from the study's key to the head, in stacked runs as alone."""

from typing import Any

import pandas as pd
import pytest
import torch

from ssl_bench import cells, training
from ssl_bench import runs as runs_module
from ssl_bench.evaluation import evaluate
from ssl_bench.heads.padding import Padded
from ssl_bench.runs import Run, Runs
from ssl_bench.stream import Stream

SAID = {
    "recipe": "none",
    "steps": 6,
    "evaluations": 2,
    "batch_utterances": 10,
    "neighbours": 5,
    "not_finite": "skip",
}
WAYS: dict[str, dict[str, Any]] = {
    "sv": {"batches": "random", "last_batch": "smaller"},
    "mono_asr": {"batches": "sorted", "last_batch": "shared"},
}
TASKS: dict[str, dict[str, Any]] = {
    "sv": {"hidden": 24, "pooled": 32, "trials": 2},
    "mono_asr": {
        **{"column": "keyword", "projection": 8, "dim": 8, "layers": 1},
        **{"attention_heads": 2, "feed_forward": 8, "specaugment": None, "dropout": 0.0},
    },
}


@pytest.fixture
def opened(ready):
    """Open the stream of a kind of task: ``opened("sv", padding="group")``."""

    def make(kind: str, **said: Any) -> Stream:
        study = ready(
            name=kind.replace("_", "-"),
            tasks={kind: {"kind": kind, "corpus": "tones", **TASKS[kind]}},
            interfaces=["mean"],
            training={**SAID, **WAYS[kind], **said},
        )
        return cells._open(study, kind, "mini", torch.device("cpu"))

    return make


def group_of(stream: Stream, runs: list[Run]) -> Runs:
    return cells._runs(stream, runs, cells._maker(stream, "mean"), stream.training)


def learnt(stream: Stream, runs: list[Run]) -> tuple[Runs, list[dict]]:
    group = group_of(stream, runs)
    (found,) = training.train(
        [group], stream.task, stream.features, stream.rows, stream.training, "padding"
    )
    return group, found.history


@pytest.mark.parametrize("kind", WAYS)
@pytest.mark.parametrize(("padding", "groups"), [("own", None), ("group", 2)])
def test_the_head_is_told_of_as_many_groups_as_a_batch_has(opened, kind, padding, groups) -> None:
    stream = opened(kind, padding=padding)
    head = group_of(stream, [Run(0, 1e-2)]).skeleton.head
    assert {part.groups for part in head.modules() if isinstance(part, Padded)} == {groups}


@pytest.mark.parametrize("kind", WAYS)
def test_training_sees_padding_and_scoring_does_not(opened, kind) -> None:
    """The first loss differs; weights of one step, scored both ways, are worth the same."""
    losses, groups = [], []
    for padding in ("own", "group"):
        stream = opened(kind, padding=padding, steps=1, evaluations=1)
        group, history = learnt(stream, [Run(0, 1e-2)])
        losses.append(history[0]["train_loss"])
        groups.append(group)
    assert losses[0] != losses[1]
    groups[0].restore(groups[1].snapshot())
    of = stream.task, stream.features, stream.rows, "dev", 4.0
    own, grouped = (scored.tables[0] for scored in evaluate(groups, *of))
    pd.testing.assert_frame_equal(own, grouped)


@pytest.mark.parametrize("pays", [True, False], ids=["stacked", "looped"])
@pytest.mark.parametrize("kind", WAYS)
def test_runs_learn_together_what_each_learns_alone(opened, monkeypatch, kind, pays) -> None:
    """Alone a batch is narrower: what is beyond a group's longest shows nowhere."""
    monkeypatch.setattr(runs_module, "stacking_pays", lambda *_: pays)
    stream = opened(kind, padding="group")
    runs = [Run(0, 1e-2), Run(1, 3e-3), Run(4, 1e-2)]
    together, histories = learnt(stream, runs)
    for r, run in enumerate(runs):
        alone, history = learnt(stream, [run])
        for name, value in alone.params.items():
            if name.endswith("qkv.bias"):
                continue  # the keys' changes no attention: its gradient is rounding
            torch.testing.assert_close(together.params[name][r], value[0], rtol=1e-3, atol=1e-5)
        losses = [row["train_loss"] for row in histories if row["seed"] == run.seed]
        assert losses == pytest.approx([row["train_loss"] for row in history], rel=1e-4)


@pytest.mark.parametrize("kind", WAYS)
@pytest.mark.parametrize(("neighbours", "groups"), [(None, 1), (10, 3)])
def test_utterances_at_random_are_padded_together(opened, kind, neighbours, groups) -> None:
    """In as many batches as are accumulated; one of more than there are takes the next pass's."""
    said = {"batches": "random", "last_batch": "filled", "batch_utterances": 30}
    losses = []
    for padding in ("own", "group"):
        stream = opened(kind, padding=padding, neighbours=neighbours, **said)
        group, history = learnt(stream, [Run(0, 0.01)])
        losses.append([row["train_loss"] for row in history])
    assert {p.groups for p in group.skeleton.head.modules() if isinstance(p, Padded)} == {groups}
    assert losses[0] != losses[1]
    assert torch.tensor(losses).isfinite().all()
