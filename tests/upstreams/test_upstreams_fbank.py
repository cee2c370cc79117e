"""The filterbank upstream."""

import pytest
import torch
from pydantic import ValidationError
from torchaudio.compliance import kaldi
from torchaudio.functional import compute_deltas

from ssl_bench.errors import StudyError
from ssl_bench.upstreams.fbank import Config, load


def waves(*samples):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(n, generator=generator) * 0.1 for n in samples]


@pytest.mark.parametrize("hop", [10, 20])
@pytest.mark.parametrize("delta", [True, False])
def test_shapes_lengths_and_batches(hop, delta):
    upstream = load(Config(kind="fbank", hop_ms=hop, delta=delta))
    samples = (16_000, 5_279, 400)
    states, lengths = upstream(waves(*samples))
    assert lengths.tolist() == [upstream.frames(n) for n in samples]
    assert states.shape == (1, 3, max(lengths), 240 if delta else 80)
    for i, wave in enumerate(waves(*samples)):
        alone, _ = upstream([wave])
        torch.testing.assert_close(states[0, i, : lengths[i]], alone[0, 0], rtol=1e-4, atol=1e-4)
        assert not states[0, i, lengths[i] :].any()
    assert torch.isfinite(states).all()
    assert upstream.probe() == (1, states.shape[-1])


def test_features_are_those_of_torchaudio_for_each_recording_alone():
    upstream = load(Config(kind="fbank", hop_ms=10, cmvn=False))
    samples = waves(16_000, 5_279, 559, 400)
    states, lengths = upstream(samples)
    for i, wave in enumerate(samples):
        energies = kaldi.fbank(wave[None], num_mel_bins=80, sample_frequency=16_000)
        first = compute_deltas(energies.T)
        expected = torch.cat([energies, first.T, compute_deltas(first).T], 1)
        torch.testing.assert_close(states[0, i, : lengths[i]], expected, rtol=1e-5, atol=1e-5)
    normal, _ = load(Config(kind="fbank", hop_ms=10))(samples)
    for i, length in enumerate(lengths.tolist()[:2]):
        own = states[0, i, :length]
        expected = (own - own.mean(0)) / own.std(0)
        torch.testing.assert_close(normal[0, i, :length], expected, rtol=1e-3, atol=1e-3)


def test_frames_line_up_with_the_encoders():
    upstream = load(Config(kind="fbank"))
    assert upstream.stride == 320
    assert [upstream.frames(n) for n in (400, 719, 720, 16_000)] == [1, 1, 2, 49]
    # A click in the middle of frame 20.
    wave = torch.randn(16_000, generator=torch.Generator().manual_seed(0)) * 1e-4
    wave[20 * 320 + 200] = 1.0
    states, _ = load(Config(kind="fbank", delta=False, cmvn=False))([wave])
    assert states[0, 0].sum(1).argmax() == 20


def test_cmvn_removes_level_and_none_keeps_it():
    quiet = waves(8_000)[0]
    gaps = []
    for cmvn in (True, False):
        upstream = load(Config(kind="fbank", cmvn=cmvn, hop_ms=10))
        gaps.append((upstream([quiet])[0] - upstream([quiet * 8])[0]).abs().max().item())
    assert gaps[0] < 1e-2 < 1 < gaps[1]


def test_mistakes():
    with pytest.raises(StudyError, match="399 samples"):
        load(Config(kind="fbank"))(waves(399))
    with pytest.raises(ValidationError, match="multiple of 10"):
        Config(kind="fbank", hop_ms=25)
