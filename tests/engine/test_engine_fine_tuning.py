"""Fine-tuning: against the frozen path, what changes, what is kept, and what a study says of it."""

import copy
import json

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from ssl_bench import cells, fine_tuning, training
from ssl_bench.errors import StudyError
from ssl_bench.planning import show, throughput, work
from ssl_bench.planning.known import Hours
from ssl_bench.profiles import layer_profiles
from ssl_bench.runs import Run
from ssl_bench.steps import EagerStep, make_step
from ssl_bench.study import Cell, load, parse

CPU = torch.device("cpu")
LOOSE = {"clip": 1e6}
"""No clipping: it is by the norm of all gradients, which the encoder's add to."""


@pytest.fixture
def tuned(raw, ready):
    """Return a function that prepares the study with its upstream fine-tuned."""

    def make(tuning: dict | None = None, **keys):
        raw["upstreams"]["mini"].pop("fine_tune", None)
        if tuning is not None:
            raw["upstreams"]["mini"]["fine_tune"] = {"dropout": False, **tuning}
        changed = {**raw["training"], **keys.pop("training", {})}
        return ready(training=changed, **keys)

    return make


def opened(study, task="ks", interface="weighted_sum", run=None, device=CPU):
    """Return a stream and one untrained group of it."""
    stream = cells._open(study, task, "mini", device)
    run = run or Run(0, 1e-2)
    make = cells._maker(stream, interface)
    return stream, cells._runs(stream, [run], make, stream.training)


def encoder_weights(group) -> dict[str, torch.Tensor]:
    return {k: v for k, v in group.snapshot().items() if k.startswith(fine_tuning.ENCODER)}


def train_group(stream, group):
    return training.train(
        [group], stream.task, stream.features, stream.rows, stream.training, "test"
    )[0]


# ---- against the frozen path


@pytest.mark.parametrize(
    ("task", "interface", "said", "normalize"),
    [
        ("ks", "hconv", {}, True),
        ("pr", "weighted_sum", {}, False),
        ("ks", "weighted_sum", {"crop_seconds": 0.31}, True),
        ("ks", "weighted_sum", {"crop_seconds": 0.31, "frames": "ceil"}, True),
        ("pr", "hconv", {"frames": "ceil"}, True),
        ("ks", "single_layer", {}, True),
    ],
)
def test_at_rate_zero_it_is_the_frozen_upstream(tuned, task, interface, said, normalize) -> None:
    said = {**LOOSE, "select": "dev_loss", "average": 2, **said}
    options = {"interfaces": {interface: {"layer": 2} if interface == "single_layer" else {}}}
    found = []
    for tuning in ({"learning_rate": 0}, None):
        study = tuned(tuning, training=said, normalize=normalize, state_dtype="fp32", **options)
        stream, group = opened(study, task, interface)
        before = encoder_weights(group)
        history = pd.DataFrame(train_group(stream, group).history)
        assert bool(before) is (tuning is not None)
        for name, value in encoder_weights(group).items():
            assert torch.equal(value, before[name])
        found.append((group.snapshot(), history, layer_profiles(group, stream.features, range32())))
    (tuned_weights, tuned_history, profile), (weights, history, frozen_profile) = found
    for name, value in weights.items():
        torch.testing.assert_close(tuned_weights[name], value, rtol=1e-4, atol=1e-5)
    pd.testing.assert_frame_equal(tuned_history, history, rtol=1e-4, atol=1e-5)
    pd.testing.assert_frame_equal(profile, frozen_profile, rtol=1e-3, atol=1e-5)


def range32() -> np.ndarray:
    return np.arange(24, 30)


def test_probes_read_their_layer(tuned) -> None:
    each = {
        "interfaces": {"single_layer": {"layer": "each"}},
        "training": LOOSE,
        "state_dtype": "fp32",
    }
    found = []
    for tuning in ({"learning_rate": 0}, None):
        stream, group = opened(tuned(tuning, **each), "ks", "single_layer", Run(0, 1e-2, layer=1))
        trained = train_group(stream, group)
        found.append((trained.dev, group.snapshot()["head.linear.weight"]))
    np.testing.assert_allclose(found[0][0], found[1][0])
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-4, atol=1e-5)


# ---- what is trained


def test_a_tuned_encoder_learns_more_than_a_frozen_one(tuned) -> None:
    said = {"steps": 30, "evaluations": 1, "select": "dev_loss"}
    losses = {}
    for rate in (0, 1e-3):
        stream, group = opened(tuned({"learning_rate": rate}, training=said), "pr")
        before = encoder_weights(group)
        losses[rate] = train_group(stream, group).history[-1]["dev_loss"]
        moved = {
            name for name, value in encoder_weights(group).items() if (value != before[name]).any()
        }
        assert moved == (set(before) if rate else set())
    assert losses[1e-3] < losses[0] - 0.1


def test_what_is_trained_of_the_encoder(tuned) -> None:
    fixed = encoder_weights(opened(tuned({"learning_rate": 1e-4}))[1])
    assert not any("feature_extractor" in name or "masked" in name for name in fixed)
    assert any("feature_projection" in name for name in fixed)
    assert any("pos_conv_embed" in name for name in fixed)
    free = encoder_weights(opened(tuned({"learning_rate": 1e-4, "freeze_convolutions": False}))[1])
    more = set(free) - set(fixed)
    assert more
    assert all(name.startswith("encoder.model.feature_extractor.") for name in more)


def test_its_rate_is_its_own(tuned) -> None:
    """Adam's first step is the rate: of the encoder 1e-4, whatever the run's."""
    for rate in (1e-2, 1e-1):
        study = tuned({"learning_rate": 1e-4}, training={"steps": 1, "evaluations": 1})
        stream, group = opened(study, run=Run(0, rate))
        before = group.snapshot()
        train_group(stream, group)
        change = {
            name: (value - before[name]).abs().max() for name, value in group.snapshot().items()
        }
        for name, found in change.items():
            scale = 10 if name.endswith("sum_weights") else 1
            expected = 1e-4 if name.startswith("encoder.") else rate * scale
            assert found <= expected * 1.01, name
        assert change["head.linear.weight"] == pytest.approx(rate, rel=1e-2)
        assert change["encoder.model.encoder.layers.0.feed_forward.output_dense.weight"] == (
            pytest.approx(1e-4, rel=2e-2)
        )


@pytest.mark.parametrize(
    ("dropout", "fixed", "autocast"),
    [(True, True, False), (False, True, True), (True, False, True)],
)
def test_checkpointing_changes_no_gradient(tuned, dropout, fixed, autocast) -> None:
    gradients = []
    for checkpointing in (True, False):
        tuning = {"dropout": dropout, "freeze_convolutions": fixed, "checkpointing": checkpointing}
        stream, group = opened(tuned({"learning_rate": 1e-4, **tuning}), interface="hconv")
        group.autocast = autocast
        batch, lengths = stream.features.batch(np.array([[0, 7, 13]]), 31)
        torch.manual_seed(3)
        outputs, _ = group.forward(batch, lengths, training=True, shared=False)
        loss = outputs.square().flatten(1).sum(1)
        gradients.append(group.gradients(loss, torch.ones(1)))
    assert gradients[0].abs().sum() > 0
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-7)


def test_dropout_is_within_the_blocks_and_masking_and_layerdrop_never_act(
    tuned, encoder_folder, raw, tmp_path
) -> None:
    folder = tmp_path / "wild"
    folder.mkdir()
    for file in encoder_folder.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    about = json.loads((folder / "config.json").read_text())
    wild = {
        "layerdrop": 0.9,
        "mask_time_prob": 0.9,
        "mask_time_length": 2,
        "mask_feature_prob": 0.9,
    }
    quiet = {"hidden_dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0}
    outputs = {}
    for name, changes in {"as it is": {}, "wild": wild, "wild, quiet": {**wild, **quiet}}.items():
        (folder / "config.json").write_text(json.dumps({**about, **changes}))
        raw["upstreams"]["mini"]["model"] = str(folder)
        for dropout in (True, False):
            stream, group = opened(tuned({"learning_rate": 1e-4, "dropout": dropout}))
            batch, lengths = stream.features.batch(np.array([[0, 7, 13]]), 31)
            torch.manual_seed(3)
            outputs[name, dropout], _ = group.forward(batch, lengths, training=True, shared=False)
    plain = outputs["as it is", False]
    for name in ("wild", "wild, quiet"):
        assert torch.equal(outputs[name, False], plain)
    assert torch.equal(outputs["wild, quiet", True], plain)
    assert torch.equal(outputs["wild", True], outputs["as it is", True])
    assert not torch.allclose(outputs["wild", True], plain)


def test_states_do_not_depend_on_the_company(tuned) -> None:
    stream, group = opened(tuned({"learning_rate": 1e-4}))
    rows = np.array([0, 6, 3, 6])
    width = int(stream.features.frames[rows].max()) + 2
    together, lengths = stream.features.batch(rows, width)
    states = group.states(together, lengths)
    assert states.shape == (4, 4, width, 16)
    for place, row in enumerate(rows):
        alone, length = stream.features.batch(np.array([row]), width)
        torch.testing.assert_close(
            group.states(alone, length)[:, 0], states[:, place], atol=1e-5, rtol=0
        )
        assert not states[:, place, length[0] :].any()


# ---- sweep, train, what a cell leaves


def test_a_cell_is_complete_and_each_seed_begins_anew(tuned) -> None:
    study = tuned({"learning_rate": 1e-3}, seeds=[0, 1], interfaces=["weighted_sum", "hconv"])
    cells.sweep(study, "ks", "mini", "all")
    cells.run(study, "ks", "mini", "all")
    folder = study.pack_dir("ks", "mini", "all")
    assert len(pd.read_csv(folder / "sweep.csv")) == 4
    trained = pd.read_csv(folder / "train.csv")
    assert len(trained) == 4
    weights = load_file(folder / "hconv" / "weights.safetensors")
    assert {name.split(".")[0] for name in weights} == {"0", "1"}
    encoder = {name: v for name, v in weights.items() if ".encoder." in name.split("model")[0]}
    assert {value.dtype for value in encoder.values()} == {torch.float16}
    assert {v.dtype for name, v in weights.items() if name not in encoder} == {torch.float32}
    name = "encoder.model.encoder.layers.2.final_layer_norm.weight"
    assert not torch.equal(weights[f"0.{name}"], weights[f"1.{name}"])
    profile = pd.read_csv(folder / "hconv" / "layer_profile.csv")
    assert len(profile) == 2 * 4
    np.testing.assert_allclose(profile.groupby("seed")["share"].sum(), 1, rtol=1e-5)

    alone = tuned({"learning_rate": 1e-3}, seeds=[1], interfaces=["hconv"], name="alone")
    cells.sweep(alone, "ks", "mini", "all")
    cells.run(alone, "ks", "mini", "all")
    again = load_file(alone.pack_dir("ks", "mini", "all") / "hconv" / "weights.safetensors")
    for name, value in again.items():
        assert torch.equal(value, weights[name.replace("0.", "1.", 1)])


def test_the_encoder_is_selected_along(tuned, monkeypatch) -> None:
    study = tuned({"learning_rate": 1e-2}, training={"steps": 6, "evaluations": 3})
    stream, group = opened(study)
    seen = []

    def second_is_best(*_) -> np.ndarray:
        seen.append(group.snapshot())
        return np.array([[1.0], [3.0], [2.0]][len(seen) - 1])

    monkeypatch.setattr(training, "_merit", second_is_best)
    assert train_group(stream, group).best_step == [4]
    for name, value in group.snapshot().items():
        assert torch.equal(value, seen[1][name])
    batch, lengths = stream.features.batch(np.array([3]), 31)
    left = group.states(batch, lengths)
    group.restore(seen[2])
    assert not torch.equal(group.states(batch, lengths), left)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_trains_it_in_bf16(tuned) -> None:
    said = {"steps": 30, "evaluations": 3, "average": 2}
    study = tuned({"learning_rate": 1e-3, "dropout": True}, training=said)
    stream, group = opened(study, "pr", "hconv", device=torch.device("cuda", 0))
    assert isinstance(make_step(group), EagerStep)
    before = encoder_weights(group)
    history = train_group(stream, group).history
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    assert all((value != before[name]).any() for name, value in encoder_weights(group).items())
    profile = layer_profiles(group, stream.features, range32())
    assert profile["share"].sum() == pytest.approx(1, rel=1e-3)
    assert {value.device.type for value in group.stored().values()} == {"cpu"}


def test_steps_are_not_recorded(tuned, monkeypatch) -> None:
    _, group = opened(tuned({"learning_rate": 1e-4}))
    monkeypatch.setattr(group, "device", torch.device("cuda"))
    assert isinstance(make_step(group), EagerStep)


def test_no_state_is_cached(tuned) -> None:
    study = tuned({"learning_rate": 1e-4}, cache="disk")
    folder = study.features_dir("mini", "tones")
    about = json.loads((folder / "features.json").read_text())
    assert not study.states_dir("").exists()
    frozen = tuned(None, cache="disk", name="frozen")
    other = json.loads((frozen.features_dir("mini", "tones") / "features.json").read_text())
    assert about.pop("source") == "live"
    assert other.pop("source") == "disk"
    assert other.pop("store")
    assert about == other


# ---- what a study says


def test_other_studies_keep_their_fingerprints(raw) -> None:
    """As they were before the key: cells that are done stay done."""
    raw["upstreams"]["mini"]["model"] = "somewhere"
    study = parse(raw)
    about = json.loads(study.slice("ks", "mini", "hconv"))
    assert about["upstream"] == {"kind": "transformers", "model": "somewhere"}
    assert study.fingerprint(Cell("ks", "mini", "hconv")) == "1b29636820e92b1f"


def test_a_change_of_the_key_reaches_its_cells(raw) -> None:
    def fingerprint(**tuning) -> str:
        changed = copy.deepcopy(raw)
        if tuning:
            changed["upstreams"]["mini"]["fine_tune"] = tuning
        study = parse(changed)
        assert study.upstream_slice("mini") == raw["upstreams"]["mini"]
        return study.fingerprint(Cell("ks", "mini", "hconv"))

    first = fingerprint(learning_rate=1e-5)
    assert fingerprint() != first
    assert fingerprint(learning_rate=1e-4) != first
    assert fingerprint(learning_rate=1e-5, freeze_convolutions=False) != first
    assert fingerprint(learning_rate=1e-5, dropout=True, checkpointing=False) == first
    assert fingerprint(learning_rate=1e-5, input_dropout=False) == first
    assert fingerprint(learning_rate=1e-5, input_dropout=True) != first


@pytest.mark.parametrize(
    ("tuning", "parts"),
    [
        ({}, ["fine_tune: missing key 'learning_rate'"]),
        ({"learning_rate": -1e-5}, ["learning_rate", "greater than or equal to 0", "-1e-05"]),
        ({"learning_rate": "slow"}, ["learning_rate", "'slow'"]),
        ({"learning_rate": float("inf")}, ["learning_rate", "inf"]),
        ({"learning_rate": 1, "freeze_convolution": 1}, ["did you mean 'freeze_convolutions'?"]),
        ({"learning_rate": 1, "dropout": 0.1}, ["dropout", "0.1"]),
        (
            {"learning_rate": 1, "dropout": False, "input_dropout": True},
            ["expected dropout: true", "found dropout: false"],
        ),
        (True, ["found True"]),
    ],
)
def test_a_bad_key_is_told_in_one_line(raw, tuning, parts) -> None:
    raw["upstreams"]["mini"]["fine_tune"] = tuning
    with pytest.raises(StudyError, match=r"^study: upstreams\.mini\.fine_tune: ") as caught:
        parse(raw)
    for part in parts:
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_fine_tuned(raw) -> None:
    raw["upstreams"]["bands"] = {"kind": "fbank", "fine_tune": {"learning_rate": 1e-5}}
    with pytest.raises(
        StudyError, match=r"upstreams\.bands: fine_tune: 'fbank' has no weights; .*transformers"
    ):
        parse(raw)
    del raw["upstreams"]["bands"]
    raw["upstreams"]["mini"]["fine_tune"] = {"learning_rate": 1e-5}
    raw["interfaces"]["pca"] = {"kind": "pca_concat"}
    with pytest.raises(StudyError, match=r"fine_tune: 'pca' of tasks\.ks is fitted"):
        parse(raw)
    raw["upstreams"]["mini"]["interfaces"] = ["hconv"]
    assert parse(raw).fine_tune_of("mini") is not None


def test_the_plan_counts_it_apart(raw, capsys) -> None:
    raw["upstreams"]["tuned"] = {
        **raw["upstreams"]["mini"],
        "fine_tune": {"learning_rate": 1e-5},
        "interfaces": ["hconv"],
    }
    plan = work.make(parse({**raw, "cache": "disk"}))
    places = {stream.upstream: (stream.place, stream.on_disk) for stream in plan.streams}
    assert places["tuned"] == ("live", 0.0)
    assert places["mini"][0] == "disk"
    cell = next(cell for cell in plan.cells if cell.cell.upstream == "tuned")
    assert (cell.train, cell.sweep) == (2, 2)
    assert cell.weights == 2 * 12 * 3 * 16**2 * 2
    show.show(plan)
    printed = capsys.readouterr().out
    assert "fine-tuning, forward and backward, of 2 cells: not measured" in printed
    assert "fine-tuned encoders" in printed


def test_hours_of_fine_tuning_are_of_lines_of_their_own(repository, monkeypatch) -> None:
    """On an upstream whose frozen encoding and steps were measured."""
    monkeypatch.chdir(repository)
    monkeypatch.setattr(work, "corpus_hours", lambda *_: Hours(10.0, {}, "made up"))
    study = load("config/mini.yaml").model_copy(update={"name": "never-run", "cache": "live"})
    (name,) = study.upstreams
    entry = {**study.upstreams[name], "fine_tune": {"learning_rate": 1e-5}}
    tuned = study.model_copy(
        update={
            "upstreams": {name: entry},
            "tasks": {"pr": {"kind": "pr", "corpus": "sentences"}},
            "interfaces": {"hconv": {}},
            "training": study.training.model_copy(update={"steps": 1000, "batch_seconds": 64}),
        }
    )
    before, after = (throughput.estimates(work.make(one)) for one in (study, tuned))
    assert any(one.streams for one in before)
    assert any(one.cells for one in before)
    assert not any(one.streams or one.cells or one.measured_streams for one in after)
    known = list(throughput.rows("throughput"))
    line = {**known[0], "stage": "tune", "task": "pr", "interface": "hconv", "runs": "1"}
    line |= {"batch_seconds": "32", "value": "50", "unit": "ms"}
    monkeypatch.setattr(throughput, "rows", lambda _: [*known, line])
    plan = work.make(tuned)
    found = {one.hardware: one for one in throughput.estimates(plan)}[line["hardware"]]
    assert found.cells == 1
    assert found.training == pytest.approx(2 * 1000 * 50 * 2 / 3.6e6)  # two seeds, twice the audio
    assert found.streams == 0
    assert throughput.tuned_and_unmeasured(plan) == 0
