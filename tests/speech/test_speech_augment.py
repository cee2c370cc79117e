import numpy as np
import pytest

from ssl_bench.speech import augment
from ssl_bench.speech.espeak import RATE


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def speech_like(rng: np.random.Generator, seconds: float = 2.0) -> np.ndarray:
    count = int(seconds * RATE)
    return augment.coloured_noise(rng, count, -6) * (np.sin(np.arange(count) / 2000) ** 2) * 0.1


@pytest.mark.parametrize("snr", [-10.0, 0.0, 7.5, 30.0])
def test_snr_is_what_was_asked(rng: np.random.Generator, snr: float) -> None:
    speech, noise = speech_like(rng), augment.coloured_noise(rng, 2 * RATE, -3) * 3.3
    mixed = augment.add_noise(speech, noise, snr)
    found = 10 * np.log10(augment.power(speech) / augment.power(mixed - speech))
    assert found == pytest.approx(snr, abs=1e-6)


def test_noise_and_silence_do_not_mix(rng: np.random.Generator) -> None:
    with pytest.raises(ValueError, match="silent input"):
        augment.add_noise(np.zeros(100), rng.normal(size=100), 0)


@pytest.mark.parametrize("slope", [0.0, -3.0, -6.0])
def test_noise_has_the_colour_that_was_asked(rng: np.random.Generator, slope: float) -> None:
    noise = augment.coloured_noise(rng, 20 * RATE, slope)
    assert augment.power(noise) == pytest.approx(1)
    energy = np.abs(np.fft.rfft(noise)) ** 2
    frequency = np.fft.rfftfreq(len(noise), 1 / RATE)
    low = energy[(frequency > 200) & (frequency < 400)].mean()
    high = energy[(frequency > 3200) & (frequency < 6400)].mean()
    assert 10 * np.log10(high / low) == pytest.approx(4 * slope, abs=0.5)


def test_noise_from_a_bank_is_new_each_time(rng: np.random.Generator) -> None:
    bank = augment.noise_bank(rng, (-6, -3, 0), RATE)
    assert bank.shape == (3, RATE)
    for count in (RATE // 2, 3 * RATE):
        first, second = (augment.from_bank(rng, bank, count) for _ in range(2))
        assert first.shape == (count,)
        assert abs(np.corrcoef(first, second)[0, 1]) < 0.9


def test_babble_mixes_talkers_equally_loud(rng: np.random.Generator) -> None:
    clips = augment.equally_loud(speech_like(rng, 1.0) * loud for loud in (1.0, 100.0))
    assert [augment.power(clip) for clip in clips] == pytest.approx([1, 1])
    noise = augment.babble(rng, clips, 3 * RATE, talkers=8)
    assert noise.shape == (3 * RATE,)
    assert augment.power(noise) > 2 * augment.power(augment.babble(rng, clips, 3 * RATE, talkers=1))


def test_room_decays_by_60_db_in_its_time(rng: np.random.Generator) -> None:
    impulse = augment.room(rng, seconds=0.5, direct=3)
    assert impulse[0] == 1
    assert 10 * np.log10(1 / np.sum(impulse[1:] ** 2)) == pytest.approx(3, abs=1e-6)
    tenth = len(impulse) // 10
    first, last = np.mean(impulse[1:tenth] ** 2), np.mean(impulse[-tenth:] ** 2)
    assert 10 * np.log10(first / last) == pytest.approx(54, abs=3)


def test_filtering_is_convolution(rng: np.random.Generator) -> None:
    speech, impulse = speech_like(rng, 0.5), augment.room(rng, 0.2, 0)
    expected = np.convolve(speech, impulse)[: len(speech)]
    np.testing.assert_allclose(augment.filtered(speech, impulse), expected, atol=1e-9)


def test_equaliser_raises_the_band_it_says() -> None:
    impulse = augment.equaliser_of(np.array([0, 0, 0, 0, 0, 0, 6.0, 6.0]))  # from 4 kHz up
    response = 20 * np.log10(np.abs(np.fft.rfft(impulse, RATE)))  # 1 Hz a bin
    assert response[4400:7800] == pytest.approx(6, abs=0.2)
    assert response[100:1900] == pytest.approx(0, abs=0.2)


def test_flat_equaliser_only_delays(rng: np.random.Generator) -> None:
    speech = speech_like(rng)
    flat = augment.filtered(speech, augment.equaliser_of(np.zeros(8)))
    np.testing.assert_allclose(flat[128:], speech[:-128], atol=1e-12)


def test_filters_follow_one_another(rng: np.random.Generator) -> None:
    speech, first, second = speech_like(rng, 0.5), augment.room(rng, 0.1, 0), np.array([1.0, -0.9])
    one_by_one = augment.filtered(augment.filtered(speech, first), second)
    np.testing.assert_allclose(augment.filtered(speech, first, second), one_by_one, atol=1e-12)


def test_no_filter_changes_nothing(rng: np.random.Generator) -> None:
    speech = speech_like(rng)
    np.testing.assert_array_equal(augment.filtered(speech), speech)


@pytest.mark.parametrize("seconds", [0.1, 0.5, 1.4, 2.3, 6.0])
@pytest.mark.parametrize("tap", [255, 2500, 9000, 40000])
def test_filtering_reaches_into_the_pause_that_follows(
    rng: np.random.Generator, seconds: float, tap: int
) -> None:
    speech, impulses = speech_like(rng, seconds), [np.zeros(tap - 55), np.zeros(57)]
    for impulse in impulses:
        impulse[-1] = 1  # an echo, later by all taps but one
    heard = augment.filtered(speech, *impulses, before=700, after=3000)
    assert len(heard) == 700 + len(speech) + 3000
    expected = np.concatenate((np.zeros(700 + tap), speech, np.zeros(3000)))[: len(heard)]
    np.testing.assert_allclose(heard, expected, atol=1e-12)


def test_level_is_met_unless_it_would_clip(rng: np.random.Generator) -> None:
    speech = speech_like(rng)
    found = augment.levelled(speech, -25)
    assert found.dtype == np.int16
    assert 10 * np.log10(augment.power(found / 32767)) == pytest.approx(-25, abs=1e-3)
    loud = augment.levelled(speech, 10)
    assert np.abs(loud.astype(int)).max() == round(0.98 * 32767)


def test_levels_are_rounded_not_cut_off() -> None:
    found = augment.levelled(np.array([-1.0, 0.0, 0.25, 0.26, 0.5, 1.0]), 20, peak=8 / 32767)
    assert found.tolist() == [-8, 0, 2, 2, 4, 8]
    found = augment.levelled(np.array([-1.0, 0.3, 0.99]), 20, peak=1.0)
    assert found.tolist() == [-32767, 9830, 32439]
