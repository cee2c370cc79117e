"""Settings, corruption, targets, masks and the time plan of pre-training; what is shipped."""

import dataclasses
import hashlib
import itertools
import json
import math
import re
from pathlib import Path

import pytest
import torch

from ssl_bench.errors import StudyError
from ssl_bench.pretrain import settings as settings_module
from ssl_bench.pretrain.__main__ import main
from ssl_bench.pretrain.augment import corrupt
from ssl_bench.pretrain.card import card
from ssl_bench.pretrain.model import PretrainingModel, span_mask
from ssl_bench.pretrain.package import LARGEST
from ssl_bench.pretrain.pipeline import plan
from ssl_bench.pretrain.settings import frames, read
from ssl_bench.pretrain.targets import MFCC, assign, fit_kmeans, pitch_classes
from ssl_bench.pretrain.training import schedule

HERE = Path(__file__).parent
SHIPPED = HERE.parents[1] / "config" / "pretrain.yaml"
CPU = torch.device("cpu")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def smoke():
    return read(HERE / "smoke.yaml")


def test_shipped_sizes_have_the_right_states_and_fit():
    shipped = read(SHIPPED)
    assert sorted(shipped.sizes) == ["13", "25"]
    for name, size in shipped.sizes.items():
        assert size.layers + 1 == int(name)
        with torch.device("meta"):
            model = PretrainingModel(size, shipped.loss, [shipped.targets.clusters])
        # A safetensors header takes less than 100 kB.
        assert 2 * sum(p.numel() for p in model.hubert.parameters()) < LARGEST - 100_000


@pytest.mark.parametrize("size", ["13", "25"])
def test_a_shipped_model_is_the_one_of_its_record_and_card(repository, size):
    folder = repository / "models" / f"hubert-mini-{size}"
    weights = (folder / "model.safetensors").read_bytes()
    record = json.loads((folder / "training.json").read_text())
    assert len(weights) == record["weights"]["bytes"] <= 15_000_000
    assert hashlib.sha256(weights).hexdigest() == record["weights"]["sha256"]
    shown = (folder / "README.md").read_text()
    assert shown.split() == card(record).replace("MINUTES", "8").split()
    # A limit shortened the schedule, so that the command without one would make other weights.
    assert record["first"]["steps"] < record["first"]["planned_steps"]
    assert re.search(r"^    python -m ssl_bench.pretrain run .* --minutes 8$", shown, re.MULTILINE)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seed: 1", "sede: 1", r"unknown key 'sede'; did you mean 'seed'"),
        ("mask_span: 10", "mask_spam: 10", r"loss: unknown key 'mask_spam'; did you mean"),
        ("seed: 1", "seed: one", r"seed: expected int, found 'one'"),
        ("held_out: 3, ", "", r"speech: missing .*held_out"),
        ("snr: [0, 20]", "snr: [0]", r"snr: expected a list"),
        ('first_size: "3"', 'first_size: "4"', r"first_size '4'.*known: 3, 5"),
        ("heads: 2", "heads: 5", r"hidden 32 must be divisible by heads 5"),
        ("clusters: 16", "clusters: 16.5", r"clusters: expected int"),
    ],
)
def test_bad_settings_are_one_clear_line(tmp_path, old, new, message):
    text = (HERE / "smoke.yaml").read_text()
    assert old in text
    path = tmp_path / "bad.yaml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(StudyError, match=message):
        read(path)


def test_command_line_tells_mistakes_and_fails(tmp_path, capsys):
    common = ["--config", str(HERE / "smoke.yaml"), "--work", str(tmp_path)]
    assert main(["second", *common, "--size", "7", "--device", "cpu"]) == 2
    assert "unknown size '7'" in capsys.readouterr().err
    assert main(["first", *common, "--device", "cpu"]) == 2
    assert "make them first" in capsys.readouterr().err
    assert main(["first", *common, "--device", "cuda:9"]) == 2
    assert "cuda:9" in capsys.readouterr().err


def test_a_device_that_is_not_there_is_refused_before_any_speech(tmp_path, capsys):
    common = ["--config", str(HERE / "smoke.yaml"), "--work", str(tmp_path / "work")]
    assert main(["run", *common, "--out", str(tmp_path), "--devices", "cpu", "cuda:99"]) == 2
    said = capsys.readouterr().err
    assert re.fullmatch(r"error: pretrain: device 'cuda:99' asked for, \d+ GPUs found\n", said)
    assert not any(tmp_path.iterdir())


def test_corruption_is_reproducible_unit_variance_and_never_silent(smoke):
    clean = torch.randn(6, 16_000, generator=generator()) * 0.05
    clean[:, 4_000:8_000] = 0
    first = corrupt(clean, smoke.augment, generator(1))
    assert torch.equal(first, corrupt(clean, smoke.augment, generator(1)))
    assert not torch.equal(first, corrupt(clean, smoke.augment, generator(2)))
    torch.testing.assert_close(first.mean(1), torch.zeros(6), atol=1e-4, rtol=0)
    torch.testing.assert_close(first.square().mean(1), torch.ones(6), atol=1e-3, rtol=0)
    assert (first[:, 4_800:8_000].abs().unfold(1, 160, 160).amax(2) > 0).all()


def test_corruption_of_silence_is_finite(smoke):
    assert torch.isfinite(corrupt(torch.zeros(4, 8_000), smoke.augment, generator())).all()


def test_noise_has_the_level_asked_for(smoke):
    only_noise = dataclasses.replace(
        smoke.augment, noise=1.0, babble=0.0, snr=(6.0, 6.0), reverberation=0.0, equalisation=0.0
    )
    clean = torch.randn(5, 32_000, generator=generator())
    dirty = corrupt(clean, only_noise, generator(1))
    # The share of power that is the clean clip: 1 / (1 + 10^(-0.6)).
    share = torch.stack(
        [torch.corrcoef(torch.stack(p))[0, 1] ** 2 for p in zip(clean, dirty, strict=True)]
    )
    torch.testing.assert_close(share, torch.full((5,), 0.7992), atol=0.02, rtol=0)


def test_babble_is_other_clips_and_not_the_own(smoke):
    only_babble = dataclasses.replace(
        smoke.augment, noise=1.0, babble=1.0, snr=(-20.0, -20.0), reverberation=0, equalisation=0
    )
    tones = torch.sin(torch.arange(16_000) / 16_000 * 2 * math.pi * torch.tensor([[500], [2000]]))
    dirty = corrupt(tones, only_babble, generator())
    power = torch.fft.rfft(dirty).abs().square()
    assert power[0, 2000] > 10 * power[0, 500]
    assert power[1, 500] > 10 * power[1, 2000]


def test_room_and_equaliser_keep_time(smoke):
    only_room = dataclasses.replace(
        smoke.augment, noise=0.0, floor=(60.0, 60.0), reverberation=1.0, equalisation=1.0
    )
    clean = torch.randn(4, 16_000, generator=generator())
    dirty = corrupt(clean, only_room, generator(1))
    correlation = torch.fft.irfft(torch.fft.rfft(dirty) * torch.fft.rfft(clean).conj())
    assert correlation.argmax(1).tolist() == [0] * 4
    assert (correlation[:, 0] < 0.97 * 16_000).any()


@pytest.mark.parametrize("frequency", [70, 118, 205, 333])
@pytest.mark.parametrize("harmonics", [1, 8])
def test_pitch_class_of_a_tone(frequency, harmonics):
    time = torch.arange(16_000) / 16_000
    tone = sum(torch.sin(2 * math.pi * frequency * k * time) / k for k in range(1, harmonics + 1))
    expected = 1 + int(24 * math.log(frequency / 60) / math.log(400 / 60))
    found = pitch_classes(0.1 * tone[None], 24)
    assert found.shape == (1, frames(16_000))
    assert (found[0, 2:-2] - expected).abs().max() <= 1
    assert found[0, 2:-2].mode().values == expected


def test_noise_and_silence_are_unvoiced():
    noise = torch.randn(1, 16_000, generator=generator())
    assert (pitch_classes(noise, 24) == 0).float().mean() > 0.95
    assert not pitch_classes(torch.zeros(1, 16_000), 24).any()


def test_mfcc_frames_are_the_encoders():
    clip = torch.zeros(1, 16_000)
    clip[0, 320 * 20 + 200] = 1.0
    found = MFCC(CPU)(clip)
    assert found.shape == (1, frames(16_000), 39)
    assert found[0, :, 0].argmax() == 20


def test_kmeans_finds_separate_clusters():
    true = torch.randn(7, 5, generator=generator()) * 20
    labels = torch.arange(7).repeat(50)
    points = true[labels] + torch.randn(350, 5, generator=generator(1)) * 0.1
    centres = fit_kmeans(points, 7, 5, generator(2))
    assert torch.cdist(true, centres).min(1).values.max() < 0.1
    found = assign(points, centres)
    assert all(len(found[labels == k].unique()) == 1 for k in range(7))
    assert len(found.unique()) == 7


def test_mask_is_spans_of_the_length_and_share(smoke):
    mask = span_mask(400, 399, smoke.loss, generator())
    # A frame is unmasked if none of ten frames starts a span; the first frames have fewer.
    assert mask[:, 10:].float().mean() == pytest.approx(1 - (1 - 0.065) ** 10, abs=0.01)
    row = mask[0].int().tolist()
    runs = "".join(map(str, row)).split("0")
    assert all(len(run) >= 10 for run in runs[:-1] if run)


def test_schedule_rises_then_falls_to_zero():
    rates = [schedule(p / 100, 1.0, 0.04) for p in range(101)]
    assert max(rates) == rates[4] == 1.0
    assert rates[2] == pytest.approx(0.5)
    assert rates[100] == pytest.approx(0, abs=1e-9)
    assert all(a > b for a, b in itertools.pairwise(rates[4:]))


@pytest.mark.parametrize("devices", [1, 2])
def test_plan_shares_the_minutes(devices):
    limits = plan(read(SHIPPED), 9.0, devices)
    second = max(limits["13"], limits["25"]) if devices == 2 else limits["13"] + limits["25"]
    assert limits["first"] + second == pytest.approx(9.0)
    assert min(limits.values()) > 0.8
    with pytest.raises(StudyError, match="minutes are left"):
        plan(read(SHIPPED), 1.0, devices)


def test_frames_are_the_conv_arithmetic():
    from ssl_bench.upstreams._masking import conv_lengths

    samples = torch.arange(400, 2000, 7)
    found = conv_lengths(samples, settings_module.KERNELS, settings_module.STRIDES)
    assert found.tolist() == [frames(int(n)) for n in samples]
