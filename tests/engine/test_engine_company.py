"""``encode: group``: what is trained on, or scored, is encoded in company, anew at each step."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from random_checkpoints import BASE, Case, write_s3prl
from safetensors.torch import load_file

from ssl_bench import cells, checkpoints, registry, training
from ssl_bench.__main__ import main
from ssl_bench.checkpoints import Checkpoints
from ssl_bench.company import Company, Together
from ssl_bench.errors import StudyError
from ssl_bench.evaluation import evaluate
from ssl_bench.recipe import Training, settle
from ssl_bench.runs import Run
from ssl_bench.sampling import Batch
from ssl_bench.steps import make_step

CPU = torch.device("cpu")
SAID = {"recipe": "none", "steps": 6, "evaluations": 2, "batch_utterances": 8, "encode": "group"}
WAYS = {
    "sliding": {"batches": "sliding", "neighbours": 4},
    "random": {"batches": "random", "neighbours": 5, "batch_utterances": 10},
    "smaller": {"batches": "random", "neighbours": 4, "last_batch": "smaller"},
    "shared": {"batches": "sorted", "neighbours": 7, "last_batch": "shared", "batch_utterances": 7},
    "crops": {"batches": "random", "crop_seconds": 0.35, "crop": "waveform"},
    "balance": {"batches": "random", "balance": True},
    "scored": {"batches": "random", "balance": True, "scored_utterances": 4},
}
RUNS = [Run(0, 1e-2), Run(1, 1e-2)]


@pytest.fixture
def upstreams(tmp_path) -> dict:
    """A random HuBERT Base in s3prl's format."""
    torch.manual_seed(3)
    path = write_s3prl(Case("hubert", BASE, False), tmp_path / "hubert.pt")
    return {"mini": {"kind": "s3prl", "name": "hubert_local", "path": str(path)}}


@pytest.fixture
def opened(ready, raw, upstreams):
    """``opened(training, task)``: a task's stream with some interfaces."""

    def make(said: dict, task: str = "ks", **keys):
        study = ready(
            **{
                "training": {**SAID, **said},
                "tasks": {task: raw["tasks"][task]},
                "interfaces": {
                    "mean": {},
                    "weighted_sum": {},
                    "each": {"kind": "single_layer", "layer": "each"},
                },
                "upstreams": upstreams,
                "state_dtype": "fp32",
                **keys,
            }
        )
        return cells._open(study, task, "mini", CPU)

    return make


def learned(own, runs, *names, keeper=None):
    groups = [cells._runs(own, runs, cells._maker(own, name), own.training) for name in names]
    found = training.train(
        *(groups, own.task, own.scored, own.rows, own.training, "company", keeper, own.heard)
    )
    return groups, found


@pytest.fixture
def asked(monkeypatch) -> list[int]:
    """How many utterances each encoding was asked for."""
    counts: list[int] = []
    real = Together.encode

    def counted(self, waveforms):
        counts.append(len(waveforms))
        return real(self, waveforms)

    monkeypatch.setattr(Together, "encode", counted)
    return counts


@pytest.mark.parametrize("way", WAYS)
def test_stacked_seeds_learn_what_each_learns_alone(opened, way) -> None:
    """Whose widths may differ, and nothing else."""
    own = opened(WAYS[way])
    (together,) = learned(own, RUNS, "weighted_sum")[1]
    history = pd.DataFrame(together.history)
    for run in RUNS:
        (alone,) = learned(own, [run], "weighted_sum")[1]
        expected = history[history["seed"] == run.seed].reset_index(drop=True)
        pd.testing.assert_frame_equal(pd.DataFrame(alone.history), expected, rtol=1e-4)


@pytest.mark.parametrize("way", ["random", "crops"])
def test_several_interfaces_hear_the_same(opened, asked, way) -> None:
    """Also runs of one seed at several rates: each group of a step is encoded once."""
    own = opened(WAYS[way])
    runs = [*RUNS, Run(1, 3e-2)]
    alone = [learned(own, runs, name)[1][0].history for name in ("mean", "weighted_sum")]
    asked.clear()
    together = [one.history for one in learned(own, runs, "mean", "weighted_sum")[1]]
    size = own.training.batch_utterances // own.training.accumulated
    assert asked == [size] * (6 * 2 * own.training.accumulated)  # steps, seeds, groups
    for one, other in zip(alone, together, strict=True):
        pd.testing.assert_frame_equal(pd.DataFrame(one), pd.DataFrame(other), rtol=1e-4)


def test_it_is_not_what_utterances_alone_teach(opened) -> None:
    found = [
        pd.DataFrame(
            learned(opened({**WAYS["sliding"], "encode": encode}), RUNS, "mean")[1][0].history
        )
        for encode in ("group", "alone")
    ]
    assert (found[0]["train_loss"] - found[1]["train_loss"]).abs().max() > 1e-4


@pytest.mark.parametrize("cache", ["disk", "memory", "live"])
def test_dev_is_read_from_where_the_states_are(opened, cache, asked) -> None:
    own = opened(WAYS["sliding"], cache=cache)
    assert isinstance(own.heard, Company)
    assert not isinstance(own.features, Company)
    assert own.heard.page(Batch(np.arange(4), 30)).now is not None
    assert asked == [4]
    own.features.batch(np.arange(4), 30)
    assert asked == [4]


@pytest.mark.parametrize("normalize", [True, False])
def test_states_are_normalised_as_the_study_says(opened, monkeypatch, normalize) -> None:
    own = opened(WAYS["sliding"], normalize=normalize)
    real = own.heard.upstream.together
    monkeypatch.setattr(own.heard.upstream, "together", lambda waves: 3 * real(waves))
    states, lengths = own.heard.batch(np.arange(4), 35)
    inside = states.movedim(0, 2)[torch.arange(35) < lengths[:, None]]
    spread = (inside.std(-1, unbiased=False) - 1).abs().max()
    assert bool(spread < 0.05) is normalize


class Lost(Exception):
    """The node is gone."""


@pytest.mark.parametrize("way", ["smaller", "crops", "scored"])
def test_a_training_that_was_killed_ends_in_the_same_bits(opened, monkeypatch, way) -> None:
    monkeypatch.setenv(checkpoints.VARIABLE, "0")
    own = opened(WAYS[way])
    ((undisturbed,), (expected,)) = learned(own, RUNS, "weighted_sum")
    left = [3]

    def step_of(*groups):
        step = make_step(*groups)
        real = step.forward

        def forward(*arguments):
            if left[0] == 0:
                raise Lost
            left[0] -= 1
            return real(*arguments)

        step.forward = forward
        return step

    monkeypatch.setattr(training, "make_step", step_of)
    kept = Checkpoints(Path("kept"), "company", CPU, own.training.steps, cell="x")
    with pytest.raises(Lost), kept.keeper(0, RUNS) as keeper:
        learned(own, RUNS, "weighted_sum", keeper=keeper)
    left[0] = 3  # the steps that are left, and no more
    with kept.keeper(0, RUNS) as keeper:
        ((runs,), (found,)) = learned(own, RUNS, "weighted_sum", keeper=keeper)
    assert left == [0]
    for name, value in undisturbed.snapshot().items():
        assert torch.equal(runs.snapshot()[name], value), name
    pd.testing.assert_frame_equal(
        pd.DataFrame(found.history), pd.DataFrame(expected.history), check_exact=True
    )


def test_an_expert_that_counts_frames_of_padding_otherwise_is_told(opened, monkeypatch) -> None:
    own = opened(WAYS["sliding"])
    monkeypatch.setattr(own.heard.upstream, "_rule", lambda samples, stride: samples // stride + 1)
    with pytest.raises(StudyError, match=r"'hubert_local' gives \d+ frames of a padded batch, exp"):
        own.heard.batch(np.arange(4), 35)


def test_a_study_trains_and_scores_its_cells(raw, upstreams, monkeypatch) -> None:
    """By the command line, stage by stage, beside a task whose utterances are encoded alone."""
    tasks = {
        "ks": {**raw["tasks"]["ks"], "training": {**WAYS["random"], "encode": "alone"}},
        "pr": {**raw["tasks"]["pr"], "training": {**WAYS["sliding"], "halve_seconds": 0.5}},
    }
    study = {**raw, "training": SAID, "tasks": tasks, "upstreams": upstreams}
    Path("study.yaml").write_text(yaml.safe_dump(study))
    cell = ("--upstream", "mini", "--pack", "all")
    for stage, *options in (
        ("corpus", "--name", "tones"),
        ("upstream", "--name", "mini"),
        ("features", "--upstream", "mini", "--corpus", "tones"),
        ("sweep", "--task", "pr", *cell),
        ("train", "--task", "pr", *cell),
        ("sweep", "--task", "ks", *cell),
        ("train", "--task", "ks", *cell),
    ):
        monkeypatch.setattr(sys, "argv", ["ssl_bench", stage, "--study", "study.yaml", *options])
        with pytest.raises(SystemExit, match=r"^0$"):
            main()
    for task, name in [("pr", "hconv"), ("pr", "weighted_sum"), ("ks", "hconv")]:
        folder = Path("results/tiny/cells") / task / "mini" / "all" / name
        metrics = json.loads((folder / "metrics.json").read_text())
        assert len(metrics["runs"]) == 2
        said = metrics["config"]["training"]
        assert said.get("encode") == ("group" if task == "pr" else None)


# ---- what is scored


@pytest.fixture
def heard(monkeypatch) -> list[list[int]]:
    """The samples of the utterances of each encoding."""
    found: list[list[int]] = []
    real = Together.encode

    def listening(self, waveforms):
        found.append([len(wave) for wave in waveforms])
        return real(self, waveforms)

    monkeypatch.setattr(Together, "encode", listening)
    return found


def samples(own, ids, size: int) -> list[list[int]]:
    """Those of a loader's batches of these utterances."""
    every = own.heard.corpus.table["samples"].to_numpy()[[own.rows[name] for name in ids]].tolist()
    return [every[first : first + size] for first in range(0, len(every), size)]


def score(own, groups, split, **keys):
    return evaluate(groups, own.task, own.scored, own.rows, split, 0.5, **keys)


@pytest.mark.parametrize("way", ["random", "crops"])
@pytest.mark.parametrize("cache", ["disk", "memory", "live"])
def test_a_split_is_encoded_in_batches_of_its_order(opened, heard, way, cache) -> None:
    """Whole, and once for all interfaces; of 9 utterances the last batch has one."""
    own = opened({**WAYS[way], "scored_utterances": 4}, cache=cache)
    assert isinstance(own.scored, Company)
    probes = [Run(0, 1e-2, layer) for layer in range(own.features.layers)]
    groups = [
        cells._runs(own, runs, cells._maker(own, name), own.training)
        for name, runs in (("mean", RUNS), ("weighted_sum", RUNS), ("each", probes))
    ]
    heard.clear()
    together = score(own, groups, "test", together=4)
    assert heard == samples(own, own.task.ids("test"), 4)
    assert [len(part) for part in heard] == [4, 4, 1]
    for group, found in zip(groups, together, strict=True):
        (alone,) = score(own, [group], "test", together=4)
        for one, other in zip(found.tables, alone.tables, strict=True):
            pd.testing.assert_frame_equal(one, other)


def test_a_balanced_dev_is_encoded_as_it_is_drawn(opened, heard) -> None:
    """In batches of the draw's own order, in which an utterance may come twice."""
    own = opened(WAYS["scored"])
    drawn = training._drawn_dev(own.task, as_drawn=True)
    assert sorted(drawn) == sorted(training._drawn_dev(own.task))
    assert len(set(drawn)) < len(drawn)
    learned(own, RUNS, "weighted_sum")
    dev = samples(own, drawn, 4)
    step = [8, 8]  # of two seeds
    assert [len(part) for part in heard] == 2 * (3 * step + [4, 2])
    assert heard[6:8] == heard[14:] == dev


@pytest.mark.parametrize("frames", ["encoder", "ceil"])
def test_a_padded_dev_loss_is_of_states_that_saw_the_padding(opened, heard, frames) -> None:
    """As in ESPnet's validation; what is reported then is of each utterance alone."""
    said = {**WAYS["shared"], "select": "dev_loss", "padding": "group", "steps": 1}
    own = opened({**said, "evaluations": 1, "frames": frames})
    groups, (found,) = learned(own, RUNS, "weighted_sum")
    dev = sorted(n for part in samples(own, own.task.ids("dev"), 7) for n in part)
    assert len(heard) == 3  # a step of two seeds, then dev
    assert sorted(heard[2]) == dev
    losses = [row["dev_loss"] for row in found.history]
    where = own.task, own.features, own.rows, "dev", 0.5
    (alone,) = evaluate(groups, *where, with_loss=True)
    assert len(heard) == 3
    assert np.isfinite(losses).all()
    assert (abs(alone.losses - losses) > 1e-5).all()  # the same weights


@pytest.mark.parametrize(
    "said", [{"scored_utterances": None}, {"encode": "alone", "scored_utterances": 4}], ids=str
)
def test_else_each_utterance_is_scored_alone(opened, heard, said) -> None:
    own = opened({**WAYS["random"], **said})
    assert own.scored is own.features
    assert own.training.scored_together is None


def test_a_cell_has_scores_of_published_batches(ready, raw, upstreams) -> None:
    """Its weights, scored by themselves: dev as it is drawn, and test."""
    study = ready(
        training={**SAID, **WAYS["scored"], "average": 2},
        tasks={"ks": raw["tasks"]["ks"]},
        interfaces=["weighted_sum"],
        upstreams=upstreams,
        sweep={"learning_rates": [1e-2]},
    )
    cells.sweep(study, "ks", "mini", "all")
    cells.run(study, "ks", "mini", "all")
    folder = study.pack_dir("ks", "mini", "all") / "weighted_sum"
    about = json.loads((folder / "metrics.json").read_text())
    assert about["config"]["training"]["scored_utterances"] == 4
    own = cells._open(study, "ks", "mini", CPU)
    group = cells._runs(own, RUNS, cells._maker(own, "weighted_sum"), own.training)
    weights = load_file(folder / "weights.safetensors")
    group.restore({name: weights[f"0.{name}"] for name in group.params})
    drawn = {"dev": training._drawn_dev(own.task, as_drawn=True), "test": None}
    for split, ids in drawn.items():
        (found,) = score(own, [group], split, together=4, drawn=ids)
        values = [own.task.value(table) for table in found.tables]
        assert [row[split] for row in about["runs"]] == values


@pytest.mark.parametrize(("kind", "size"), [("ks", 32), ("ic", 32), ("er", 4), ("sid", None)])
def test_who_publishes_batches_that_are_scored(kind, size) -> None:
    published = registry.load("tasks", kind).RECIPE.training
    assert settle(published, Training(encode="group")).scored_together == size
    alone = settle(published, Training())
    assert alone.scored_together is None
    assert "scored_utterances" not in alone.identity()


# ---- what is refused


def test_a_fine_tuned_encoder_is_refused(ready, upstreams) -> None:
    tuned = {"mini": {**upstreams["mini"], "fine_tune": {"learning_rate": 1e-5}}}
    said = {**SAID, **WAYS["sliding"]}
    with pytest.raises(StudyError, match=r"upstreams\.mini: expected a frozen upstream, found fi"):
        ready(training=said, upstreams=tuned)


def test_an_upstream_that_the_task_leaves_out_may_be_of_any_kind(raw, ready, upstreams) -> None:
    fbank = {"fbank": {"kind": "fbank", "interfaces": ["mean"]}}
    tasks = {"ks": {**raw["tasks"]["ks"], "interfaces": ["weighted_sum"]}}
    said = {**SAID, **WAYS["sliding"]}
    keys = {"training": said, "interfaces": ["mean", "weighted_sum"], "tasks": tasks}
    ready(upstreams={**upstreams, **fbank}, **keys)
    fbank = {"fbank": {"kind": "fbank"}}
    with pytest.raises(StudyError, match=r"upstreams\.fbank: expected kind 's3prl', .* 'fbank'$"):
        ready(upstreams={**upstreams, **fbank}, **keys)


def test_encode_is_part_of_a_cell_only_where_it_is_said() -> None:
    plain = Training(batch_seconds=9.0)
    assert Training(batch_seconds=9.0, encode="alone").identity() == plain.identity()
    group = Training(batch_seconds=9.0, encode="group", crop="waveform")
    assert group.identity() == {**plain.identity(), "encode": "group"}
    scored = group.model_copy(update={"scored_utterances": 4})
    assert scored.identity() == {**group.identity(), "scored_utterances": 4}
    assert Training(batch_seconds=9.0, scored_utterances=4).identity() == plain.identity()
