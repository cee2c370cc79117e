"""Crops of waveforms: encoded when they are read, alone."""

import numpy as np
import pandas as pd
import pytest
import torch

from ssl_bench import cells, fine_tuning, training
from ssl_bench.corpus import Corpus
from ssl_bench.crops import Crops
from ssl_bench.errors import StudyError
from ssl_bench.features import load_upstream
from ssl_bench.runs import Run
from ssl_bench.sampling import Batch
from ssl_bench.study import Study

CPU = torch.device("cpu")
SECONDS = 0.35
SAMPLES = 5600
SAID = {"recipe": "none", "steps": 6, "evaluations": 2, "batch_utterances": 8}
CROPPED = {**SAID, "crop_seconds": SECONDS, "crop": "waveform"}
WAYS = {
    "buckets": {},
    "random": {"batches": "random", "last_batch": "smaller"},
    "sorted": {"batches": "sorted", "neighbours": 4, "last_batch": "smaller"},
}


@pytest.fixture
def opened(ready, raw):
    """``opened(training, cache=…)``: the stream of keyword spotting with one interface."""

    def make(said: dict, **keys):
        tasks = {"ks": raw["tasks"]["ks"]}
        study = ready(training=said, tasks=tasks, interfaces=["mean"], **keys)
        return cells._open(study, "ks", "mini", CPU)

    return make


def batches(own, seeds=(0, 1)) -> list[Batch]:
    rows = np.array([own.rows[name] for name in own.task.ids("train")])
    return list(training._batches(list(seeds), own.task, own.heard, rows, own.training))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("layer", [None, np.array([2, 0])])
def test_states_of_a_crop_are_those_of_its_samples_alone(opened, way, layer) -> None:
    own = opened({**CROPPED, **WAYS[way]}, state_dtype="fp32")
    assert isinstance(own.heard, Crops)
    encoder = load_upstream(own.study, "mini", CPU)
    data = Corpus(own.study.corpus_dir("tones"))
    assert own.heard.cropped.frames == encoder.frames(SAMPLES)
    some_cropped = False
    for batch in batches(own):
        rows, starts = batch.rows, batch.starts
        states, lengths = own.heard.batch(rows, batch.width, layer, starts)
        paged = own.heard.page(batch).batch(rows, batch.width, layer, starts)
        assert torch.equal(states, paged[0])
        for r, b in np.ndindex(rows.shape):
            wave = data.waveform(rows[r, b])[starts[r, b] : starts[r, b] + SAMPLES]
            some_cropped |= len(wave) < len(data.waveform(rows[r, b]))
            alone, count = encoder.encode([torch.from_numpy(wave.astype(np.float32) / 32767)])
            alone = torch.nn.functional.layer_norm(alone[:, 0], alone.shape[-1:])
            expected = alone if layer is None else alone[layer[r]][None]
            assert lengths[r, b] == count[0] == encoder.frames(len(wave))
            torch.testing.assert_close(states[r, :, b, : count[0]], expected, rtol=1e-4, atol=1e-4)
            assert not states[r, :, b, count[0] :].any()
    assert some_cropped


def test_crops_begin_at_any_sample(opened) -> None:
    own = opened({**CROPPED, "steps": 2000})
    samples = Corpus(own.study.corpus_dir("tones")).table["samples"].to_numpy()
    shares = []
    for batch in batches(own, [0]):
        spare = np.maximum(samples[batch.rows] - SAMPLES, 0)
        assert (batch.starts >= 0).all()
        assert (batch.starts <= spare).all()
        shares += (batch.starts[spare > 0] / spare[spare > 0]).tolist()
    assert np.histogram(shares, 10, (0, 1))[0].min() > len(shares) / 10 * 0.9
    assert min(shares) < 0.001
    assert max(shares) > 0.999


def history(own) -> pd.DataFrame:
    group = cells._runs(own, [Run(0, 1e-2), Run(1, 1e-2)], cells._maker(own, "mean"), own.training)
    (found,) = training.train(
        [group], own.task, own.features, own.rows, own.training, "crops", heard=own.heard
    )
    return pd.DataFrame(found.history)


def test_wherever_states_are_kept_crops_train_the_same(opened) -> None:
    """And dev is scored on the states of whole utterances, which are kept."""
    found = [history(opened(CROPPED, cache=cache)) for cache in ("disk", "memory", "live")]
    pd.testing.assert_frame_equal(found[0], found[1], rtol=1e-3)
    pd.testing.assert_frame_equal(found[0], found[2], rtol=1e-3)
    other = history(opened({**CROPPED, "crop": "states"}))
    assert (other["train_loss"] - found[0]["train_loss"]).abs().max() > 1e-4


def test_several_interfaces_hear_the_same_crops(ready, raw) -> None:
    tasks = {"ks": raw["tasks"]["ks"]}
    study = ready(training=CROPPED, tasks=tasks, interfaces=["mean", "last"], seeds=2)
    own = cells._open(study, "ks", "mini", CPU)
    runs = [Run(0, 1e-2), Run(1, 1e-2)]

    def train(*names: str) -> list[list[dict]]:
        groups = [cells._runs(own, runs, cells._maker(own, n), own.training) for n in names]
        found = training.train(
            groups, own.task, own.features, own.rows, own.training, "both", heard=own.heard
        )
        return [one.history for one in found]

    for alone, together in zip(
        [*train("mean"), *train("last")], train("mean", "last"), strict=True
    ):
        pd.testing.assert_frame_equal(pd.DataFrame(alone), pd.DataFrame(together), rtol=1e-4)


def test_a_fine_tuned_encoder_hears_crops_as_a_frozen_one(ready, raw) -> None:
    found = []
    for tuning in ({"learning_rate": 0, "dropout": False}, None):
        mini = dict(raw["upstreams"]["mini"])
        if tuning is not None:
            mini["fine_tune"] = tuning
        study: Study = ready(
            training={**CROPPED, "clip": 1e9},  # which sees the encoder's gradients, too
            tasks={"ks": raw["tasks"]["ks"]},
            interfaces=["mean"],
            upstreams={"mini": mini},
            state_dtype="fp32",
        )
        own = cells._open(study, "ks", "mini", CPU)
        assert isinstance(own.heard, fine_tuning.Waveforms) is (tuning is not None)
        group = cells._runs(own, [Run(0, 1e-2)], cells._maker(own, "mean"), own.training)
        (trained,) = training.train(
            [group], own.task, own.features, own.rows, own.training, "tuned", heard=own.heard
        )
        found.append(pd.DataFrame(trained.history))
    pd.testing.assert_frame_equal(*found, rtol=1e-3)


def test_a_study_trains_and_scores_its_cells_on_crops(ready, raw) -> None:
    study = ready(
        training=CROPPED, tasks={"ks": raw["tasks"]["ks"]}, interfaces=["mean", "weighted_sum"]
    )
    cells.sweep(study, "ks", "mini", "all")
    cells.run(study, "ks", "mini", "all")
    for name in ("mean", "weighted_sum"):
        metrics = study.pack_dir("ks", "mini", "all") / name / "metrics.json"
        assert metrics.is_file()


def test_a_crop_that_is_too_short_is_told(opened) -> None:
    with pytest.raises(StudyError, match=r"crop_seconds: 0\.01 s are too short to be encoded"):
        opened({**CROPPED, "crop_seconds": 0.01})


def test_where_crops_are_cut_is_part_of_a_cell_only_where_there_are_any(raw) -> None:
    from ssl_bench.recipe import Training

    plain = Training(batch_seconds=9.0)
    assert Training(batch_seconds=9.0, crop="waveform").identity() == plain.identity()
    cut = Training(batch_seconds=9.0, crop="waveform", crop_seconds=8.0).identity()
    assert cut == {**plain.identity(), "crop": "waveform", "crop_seconds": 8.0}
