"""Drawn batches have LibriSpeech's lengths and the targets of SUPERB PR."""

import importlib

import numpy as np
import pytest
import torch

ICEFALL = {
    0.5: 2.2, 1: 2.5, 5: 4.2, 10: 6.4, 25: 11.4, 50: 13.8, 75: 15.3, 90: 16.7, 95: 17.3,
    99: 18.1, 99.5: 18.4, 99.9: 18.8,
}  # fmt: skip
"""Percentiles of train-clean-100 with its copies at 0.9 and 1.1 of the speed."""


@pytest.fixture(scope="module")
def speechlike():
    return importlib.import_module("speechlike")


def test_lengths_are_those_of_train_clean_100(speechlike):
    alone = speechlike.durations(400_000, np.random.default_rng(0))
    together = np.concatenate([alone, alone / 0.9, alone / 1.1])
    found = np.percentile(together, list(ICEFALL))
    np.testing.assert_allclose(found, list(ICEFALL.values()), atol=0.15)
    assert alone.mean() == pytest.approx(12.69, abs=0.05)  # 100.6 hours, 28,539 utterances
    assert np.mean((alone >= 12) & (alone <= 16)) == pytest.approx(0.69, abs=0.02)


@pytest.mark.parametrize("similar", [False, True])
def test_a_batch(speechlike, similar):
    batches = [speechlike.draw(195, seed, similar) for seed in range(8)]
    for batch in batches:
        assert batch.seconds == pytest.approx(195, abs=9)  # half of the longest utterance
        samples = [len(wave) for wave in batch.waveforms]
        assert samples == sorted(samples, reverse=True)
        assert batch.padded_seconds == samples[0] * len(samples) / 16_000
        for wave, target in zip(batch.waveforms, batch.targets, strict=True):
            assert wave.dtype == torch.float32
            phones, seconds = len(target) - 1, len(wave) / 16_000
            assert 10 * seconds - 0.51 <= phones <= 13 * seconds + 0.51
            assert target[-1] == 1
            assert target[:-1].min() >= 3
            assert target[:-1].max() <= 73
    used = sum(b.seconds for b in batches) / sum(b.padded_seconds for b in batches)
    assert used > 0.98 if similar else 0.7 < used < 0.9


def test_a_seed_gives_one_batch(speechlike):
    one, again, other = (speechlike.draw(30, seed) for seed in (1, 1, 2))
    for a, b in zip(one.waveforms + one.targets, again.waveforms + again.targets, strict=True):
        assert torch.equal(a, b)
    assert len(one.waveforms[0]) != len(other.waveforms[0])
    assert len(speechlike.draw(0.1).waveforms) == 1
