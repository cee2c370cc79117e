"""The whole of pre-training at toy size: speech, first iteration, second iteration, folder."""

import dataclasses
import hashlib
import json
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ssl_bench.errors import StudyError
from ssl_bench.pretrain import package, speech, stages
from ssl_bench.pretrain.data import Clips, load_targets
from ssl_bench.pretrain.model import PretrainingModel
from ssl_bench.pretrain.settings import frames, read
from ssl_bench.pretrain.training import Report, Trainer
from ssl_bench.upstreams.transformers import Config, load

CPU = torch.device("cpu")


def quiet(_: str) -> None:
    pass


@pytest.fixture(scope="module")
def settings():
    return read(Path(__file__).parent / "smoke.yaml")


@pytest.fixture(scope="module")
def run(settings, tmp_path_factory):
    """Run everything once; return the work folder and the models' folders by size."""
    work = tmp_path_factory.mktemp("work")
    out = tmp_path_factory.mktemp("models")
    speech.make(settings, work, workers=1, log=quiet)
    stages.first(settings, work, CPU, compiled=False, log=quiet)
    folders = {
        size: stages.second(settings, work, out, size, CPU, compiled=False, log=quiet)
        for size in settings.sizes
    }
    return work, folders


def test_clips_are_reproducible_distinct_and_level(settings, run):
    work, _ = run
    clips = np.load(work / "clips.npy")
    assert clips.shape == (settings.speech.clips, settings.speech.samples)
    again, _ = speech.make_clip(settings.seed, 5, settings.speech)
    assert np.array_equal(again, clips[5])
    assert not np.array_equal(clips[4], clips[5])
    level = np.sqrt(((clips / 32768.0) ** 2).mean(1))
    assert ((level > 0.8 * speech.LEVEL) & (level < 1.05 * speech.LEVEL)).all()
    record = json.loads((work / "speech.json").read_text())
    assert sum(record["languages"].values()) == settings.speech.clips


def test_clips_do_not_depend_on_the_number_of_workers(settings, run, tmp_path):
    work, _ = run
    expected = json.loads((work / "speech.json").read_text())["sha256"]
    assert speech.make(settings, tmp_path, workers=2, log=quiet)["sha256"] == expected
    assert (tmp_path / "clips.npy").read_bytes() == (work / "clips.npy").read_bytes()


def test_targets_cover_every_frame(settings, run):
    work, _ = run
    for name, classes in (
        ("mfcc", settings.targets.mfcc_clusters),
        ("hidden", settings.targets.clusters),
        ("pitch", settings.targets.pitch_bins + 1),
    ):
        found = np.load(work / f"{name}.npy")
        assert found.shape == (settings.speech.clips, frames(settings.speech.samples))
        assert found.max() < classes
        assert len(np.unique(found)) > classes // 2


def test_loss_falls_in_both_iterations(run):
    work, folders = run
    records = [json.loads((work / "first.json").read_text())]
    records += [json.loads((f / "training.json").read_text())["second"] for f in folders.values()]
    for record in records:
        assert record["curve"][-1]["loss"] < record["curve"][0]["loss"] - 0.3
        assert record["steps"] == record["planned_steps"] == 40


def test_folder_loads_through_the_upstream(settings, run):
    _, folders = run
    for size, folder in folders.items():
        upstream = load(Config(kind="transformers", model=str(folder)))
        assert upstream.normalize
        assert upstream.probe() == (settings.sizes[size].layers + 1, settings.sizes[size].hidden)
        assert int(size) == settings.sizes[size].layers + 1


def test_card_and_record_hold_the_weights_hash(run):
    for folder in run[1].values():
        weights = (folder / "model.safetensors").read_bytes()
        digest = hashlib.sha256(weights).hexdigest()
        record = json.loads((folder / "training.json").read_text())
        assert record["weights"]["sha256"] == digest
        assert digest in (folder / "README.md").read_text()
        assert all(
            v.dtype == torch.float16 for v in load_file(folder / "model.safetensors").values()
        )


def test_fp16_folder_agrees_with_the_trained_model(settings, tmp_path, run):
    """The states in the folder are those of the training form, but for the rounding."""
    work, _ = run
    torch.manual_seed(0)
    model = PretrainingModel(settings.sizes["3"], settings.loss, [4]).eval()
    waves = torch.randn(2, 8_000, generator=torch.Generator().manual_seed(0))
    waves = torch.nn.functional.layer_norm(waves, (8_000,))
    with torch.no_grad():
        expected = model.encode(waves, None, 2)
        expected[-1] = model.hubert.encoder.layer_norm(expected[-1])
    figures = {"masked": 1.0, "unmasked": 1.0, "accuracy": 0.5}
    report = Report(held_out=[figures] * 3)
    folder = package.save(settings, "3", model.hubert, report, work, tmp_path, CPU, None)
    states, _ = load(Config(kind="transformers", model=str(folder)))(list(waves))
    torch.testing.assert_close(states, torch.stack(expected), atol=5e-3, rtol=0)
    assert not torch.equal(states, torch.stack(expected))


def _trainer(settings, work, **changes):
    torch.manual_seed(0)
    model = PretrainingModel(settings.sizes["3"], settings.loss, [settings.targets.clusters])
    training = dataclasses.replace(settings.first, **changes.pop("training", {}))
    labels = load_targets([work / "hidden.npy"], CPU)
    clips = Clips(work / "clips.npy", CPU)
    return Trainer(settings, training, model, clips, labels, compiled=False, **changes)


def test_time_limit_ends_the_run_with_the_whole_schedule(settings, run):
    begin = time.perf_counter()
    report = _trainer(settings, run[0], minutes=2 / 60, training={"steps": 10**6}).train(quiet)
    assert time.perf_counter() - begin < 6
    assert 3 < report.steps < 10**6
    assert report.curve[-1]["learning_rate"] < 0.1 * settings.first.learning_rate


def test_non_finite_loss_says_the_step(settings, run):
    trainer = _trainer(settings, run[0], training={"steps": 40, "learning_rate": 1e30})
    with pytest.raises(StudyError, match=r"loss of step [2-9]\d? is not finite"):
        trainer.train(quiet)


def test_training_is_reproducible_from_the_seed(settings, run):
    first, second = (
        _trainer(settings, run[0], training={"steps": 5}).train(quiet) for _ in range(2)
    )
    assert [e["loss"] for e in first.curve] == [e["loss"] for e in second.curve]


def test_held_out_clips_are_never_trained_on(settings, run):
    trainer = _trainer(settings, run[0], training={"steps": 12})
    seen = set()
    batch = trainer.clips.batch
    trainer.clips.batch = lambda indices: (seen.update(indices.tolist()), batch(indices))[1]
    trainer._held_out = list
    trainer.train(quiet)
    last = settings.speech.clips - settings.speech.held_out
    assert seen == set(range(last))


def test_a_file_too_large_to_ship_is_an_error(settings, run, tmp_path, monkeypatch):
    monkeypatch.setattr(package, "LARGEST", 1000)
    model = PretrainingModel(settings.sizes["3"], settings.loss, [4])
    with pytest.raises(StudyError, match="expected at most 1000"):
        package.save(settings, "3", model.hubert, Report(), run[0], tmp_path, CPU, None)


def test_weights_that_fp16_cannot_hold_are_an_error(settings, run, tmp_path):
    model = PretrainingModel(settings.sizes["3"], settings.loss, [4])
    model.hubert.feature_projection.projection.weight.data[0, 0] = 1e6
    with pytest.raises(StudyError, match="too large for fp16"):
        package.save(settings, "3", model.hubert, Report(), run[0], tmp_path, CPU, None)
    assert not list((tmp_path / "hubert-mini-3").glob("*"))
