"""Intervals, corrections, ranks and the bootstrap against known answers."""

import numpy as np
import pandas as pd
import pytest
from confidence_intervals import evaluate_with_conf_int
from scipy import stats
from sklearn.metrics import roc_curve
from statsmodels.stats.multitest import multipletests

from analysis.resampling import (
    Draws,
    equal_error_rate,
    estimate,
    paired,
    paired_difference,
    ratio_draws,
    speaker_weights,
    trial_draws,
)
from analysis.statistics import average_ranks, holm, mean_interval


def test_t_interval_by_hand():
    interval = mean_interval([1.0, 2.0, 3.0])
    # t(0.975, 2) = 4.302653, standard error 1/sqrt(3)
    assert interval.mean == 2
    assert interval.half == pytest.approx(4.302653 / np.sqrt(3), rel=1e-6)
    assert (interval.low + interval.high) / 2 == pytest.approx(2)


def test_one_seed_has_no_interval():
    interval = mean_interval([4.2])
    assert interval.mean == 4.2
    assert np.isnan(interval.low)
    assert np.isnan(interval.half)
    with pytest.raises(ValueError, match="at least one"):
        mean_interval([])


def test_t_interval_covers_95_percent():
    rng = np.random.default_rng(0)
    intervals = [mean_interval(rng.normal(30, 2, 3)) for _ in range(1000)]
    covered = np.mean([i.low <= 30 <= i.high for i in intervals])
    assert 0.93 < covered < 0.97


def test_holm_by_hand():
    # sorted 0.01 0.02 0.03 0.04 × 4 3 2 1 = 0.04 0.06 0.06 0.04, made monotone
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.6, 0.7]) == pytest.approx([1.0, 1.0])


def test_holm_is_statsmodels_and_skips_gaps():
    p = np.random.default_rng(1).random(20) ** 3
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])
    gapped = holm([0.01, np.nan, 0.04])
    assert gapped[[0, 2]] == pytest.approx([0.02, 0.04])
    assert np.isnan(gapped[1])


def test_ranks_by_hand():
    losses = pd.DataFrame({"a": [1, 1, 1.0], "b": [2, 3, 2.0], "c": [3, 2, 2.0]})
    ranks = average_ranks(losses)
    assert ranks.mean.to_dict() == pytest.approx({"a": 1.0, "b": 7.5 / 3, "c": 7.5 / 3})
    assert ranks.blocks == 3
    # Demšar (2006), table 5: q(0.05) = 2.343 for three methods
    assert ranks.critical_difference == pytest.approx(2.343 * np.sqrt(3 * 4 / (6 * 3)), rel=1e-3)
    assert ranks.friedman_p == pytest.approx(stats.friedmanchisquare(*losses.T.to_numpy()).pvalue)
    with pytest.raises(ValueError, match="at least 3 methods"):
        average_ranks(losses[["a", "b"]])


def test_nemenyi_and_critical_difference_agree():
    rng = np.random.default_rng(2)
    losses = pd.DataFrame(rng.normal([0, 0.5, 1, 4], 1, (12, 4)), columns=list("abcd"))
    ranks = average_ranks(losses)
    for first in losses:
        for second in losses:
            apart = abs(ranks.mean[first] - ranks.mean[second]) > ranks.critical_difference
            assert (ranks.nemenyi_p.loc[first, second] < 0.05) == apart


def test_weights_are_paired_and_reproducible():
    names = [f"s{k}" for k in range(10)]
    first, again = speaker_weights(names, 50, 3), speaker_weights(names, 50, 3)
    assert (first == again).all()
    assert (first.sum(1) == 10).all()
    assert (speaker_weights(names, 50, 4) != first).any()


def test_ratio_bootstrap_is_the_block_bootstrap_of_confidence_intervals():
    rng = np.random.default_rng(0)
    speaker = np.repeat(np.arange(25), 8)
    length = rng.integers(10, 30, len(speaker))
    rate = np.clip(rng.normal(0.3, 0.1, 25), 0.02, 0.9)[speaker]
    errors = rng.binomial(length, rate)
    value, drawn = ratio_draws(errors[None], length[None], speaker, 3000)
    assert value[0] == pytest.approx(100 * errors.sum() / length.sum())
    np.random.seed(0)  # noqa: NPY002 - the library draws from the global generator
    _, (low, high) = evaluate_with_conf_int(
        errors,
        lambda lengths, e: 100 * e.sum() / lengths.sum(),
        labels=length,
        conditions=speaker,
        num_bootstraps=400,
    )
    ours = np.percentile(drawn[:, 0], [2.5, 97.5])
    width = high - low
    assert np.abs(ours - [low, high]).max() < 0.15 * width
    alone = ratio_draws(errors[None], length[None], np.arange(len(speaker)), 1000)[1]
    assert drawn.std() > 1.3 * alone.std(), "utterances of a speaker must not count as independent"


def reference_eer(score, label):
    alarms, hits, _ = roc_curve(label, score, drop_intermediate=False)
    grid = np.linspace(0, 1, 200_001)
    miss = 1 - np.interp(grid, alarms, hits)
    return 100 * grid[np.argmin(np.abs(grid - miss))]


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("size", [20, 63, 64, 65, 128, 1000])
def test_equal_error_rate_is_the_crossing_of_the_roc(ties, size):
    rng = np.random.default_rng(5)
    label = (rng.random(size) < 0.3).astype(int)
    score = rng.standard_normal(size) + 1.2 * label
    score = np.round(score, 1) if ties else score
    ours = equal_error_rate(score, label, np.ones((1, size), dtype=np.float32))[0]
    assert ours == pytest.approx(reference_eer(score, label), abs=0.05)


def test_equal_error_rate_extremes():
    label = np.array([1, 1, 0, 0])
    ones = np.ones((1, 4), dtype=np.float32)
    assert equal_error_rate(np.array([4.0, 3, 2, 1]), label, ones)[0] == pytest.approx(0)
    assert equal_error_rate(np.array([1.0, 2, 3, 4]), label, ones)[0] == pytest.approx(100)
    assert equal_error_rate(np.zeros(4), label, ones)[0] == pytest.approx(50)


def test_weighted_equal_error_rate_is_that_of_repeated_trials():
    rng = np.random.default_rng(6)
    label = (rng.random(120) < 0.5).astype(int)
    score = rng.standard_normal(120) + label
    times = rng.integers(0, 4, 120)
    weighted = equal_error_rate(score, label, times[None].astype(np.float32))[0]
    repeated = np.repeat(score, times), np.repeat(label, times)
    ones = np.ones((1, len(repeated[0])), dtype=np.float32)
    assert weighted == pytest.approx(equal_error_rate(*repeated, ones)[0])


def test_trial_draws_use_both_speakers():
    rng = np.random.default_rng(7)
    first, second = rng.integers(12, size=(2, 400))
    second = np.where(rng.random(400) < 0.4, first, second)
    label = (first == second).astype(int)
    score = rng.standard_normal((2, 400)) + 1.5 * label
    names = np.array([f"s{a:02d}|s{b:02d}" for a, b in zip(first, second, strict=True)])
    value, drawn = trial_draws(score, label, names, resamples=60, seed=1, chunk=7)
    assert value == pytest.approx([reference_eer(row, label) for row in score], abs=0.05)
    weights = speaker_weights([f"s{k:02d}" for k in range(12)], 60, 1)
    counts = np.where(first == second, weights[13][first], weights[13][first] * weights[13][second])
    expected = equal_error_rate(score[1], label, counts[None].astype(np.float32))[0]
    assert drawn[13, 1] == pytest.approx(expected)


def simulate(rng, difference, speakers=30, seeds=4, spread=1.0, resamples=300):
    """Two cells on the same speakers and utterances, the first ``difference`` points worse.

    Speakers differ in how hard they are and in how much the interfaces differ on them; every run
    has an offset of its own.
    """
    speaker = np.repeat(np.arange(speakers), 5)
    length = np.full((seeds, len(speaker)), 30)
    hard = rng.uniform(0.2, 0.4, speakers)
    gain = difference / 100 + 0.03 * rng.standard_normal(speakers)
    cells = []
    for rate in (hard + gain, hard):
        offset = spread / 100 * rng.standard_normal((seeds, 1))
        errors = rng.binomial(length, np.clip(rate[speaker] + offset, 0.01, 0.99))
        value, drawn = ratio_draws(errors, length, speaker, resamples)
        cells.append(Draws(value, drawn, tuple(range(seeds)), speakers, len(speaker), 1))
    return cells


def test_paired_test_finds_a_real_difference():
    rng = np.random.default_rng(0)
    found = [paired_difference(*simulate(rng, 6.0)) for _ in range(30)]
    assert np.mean([test.p < 0.05 for test in found]) > 0.9
    assert np.mean([test.value for test in found]) == pytest.approx(6, abs=0.6)


def test_paired_test_is_calibrated_without_a_difference():
    rng = np.random.default_rng(1)
    tests = [paired_difference(*simulate(rng, 0.0)) for _ in range(400)]
    p = np.array([test.p for test in tests])
    assert np.mean(p < 0.05) < 0.085
    assert np.mean(p < 0.05) > 0.005
    assert np.mean(p < 0.5) == pytest.approx(0.5, abs=0.12)
    assert 0.92 < np.mean([test.low <= 0 <= test.high for test in tests]) < 0.99


def test_speakers_alone_would_be_overconfident():
    rng = np.random.default_rng(2)
    pairs = [simulate(rng, 0.0, spread=2.5) for _ in range(150)]
    joint = [paired_difference(a, b).p for a, b in pairs]
    only = []
    for a, b in pairs:
        mean = np.mean(a.value - b.value, keepdims=True)
        only.append(estimate(mean, (a.resampled - b.resampled).mean(1), a.speakers).p)
    assert np.mean(np.array(only) < 0.05) > 0.15
    assert np.mean(np.array(joint) < 0.05) < 0.09


def test_pairing_narrows_the_interval():
    a, b = simulate(np.random.default_rng(3), 3.0, spread=0.0)
    together = paired_difference(a, b).error_speakers
    apart = np.sqrt(a.resampled.mean(1).var() + b.resampled.mean(1).var())
    assert together < 0.8 * apart


def test_identical_cells_do_not_differ():
    a, _ = simulate(np.random.default_rng(4), 0.0)
    same = paired_difference(a, a)
    assert (same.value, same.low, same.high, same.p) == (0, 0, 0, 1)


def test_cells_are_cut_to_common_seeds_and_must_share_material():
    a, b = simulate(np.random.default_rng(5), 0.0)
    later = Draws(b.value, b.resampled, (2, 3, 4, 5), b.speakers, b.utterances, b.material)
    first, second = paired(a, later)
    assert first.seeds == second.seeds == (2, 3)
    assert first.value == pytest.approx(a.value[2:])
    assert second.value == pytest.approx(b.value[:2])
    with pytest.raises(ValueError, match="share no seed"):
        paired(a, Draws(b.value, b.resampled, (7, 8, 9, 10), 30, 150, b.material))
    with pytest.raises(ValueError, match="same utterances"):
        paired(a, Draws(b.value, b.resampled, b.seeds, 30, 150, 2))


def test_one_seed_and_one_speaker_is_untestable():
    result = estimate(np.array([3.0]), np.array([3.0, 3.0]), speakers=1)
    assert np.isnan(result.p)
