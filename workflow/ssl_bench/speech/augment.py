"""What happens to speech between the mouth and the file: rooms, noise, filters and levels.

Pure functions of float64 arrays and a random generator. All arithmetic is in double precision:
processors differ in the last bits of a transform, and in double precision such a difference is
too small to survive the rounding to 16 bits.
"""

from collections.abc import Iterable, Sequence
from functools import reduce

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft

from ssl_bench.speech.espeak import RATE

_OCTAVES = 8
_EQUALISER = 256  # taps
_BINS = np.arange(_EQUALISER // 2 + 1) * (RATE / _EQUALISER)  # Hz
_CENTRES = (RATE / 2) * 2.0 ** np.arange(1 - _OCTAVES, 1)  # Hz
_WINDOW = np.hanning(_EQUALISER + 1)[:-1]
_ROW = 2048  # samples
_SMALLEST = 1e-12  # mean square under which a signal counts as silent


def power(samples: np.ndarray) -> float:
    """Return the mean square."""
    samples = np.asarray(samples, dtype=np.float64)
    # In rows: for a long dot product BLAS would use threads, which wait for each other while
    # processes compete.
    whole = len(samples) // _ROW * _ROW
    rows, rest = samples[:whole].reshape(-1, _ROW), samples[whole:]
    return float(np.vecdot(rows, rows).sum() + np.vecdot(rest, rest)) / len(samples)


def coloured_noise(rng: np.random.Generator, count: int, slope: float) -> np.ndarray:
    """Draw Gaussian noise (count,) of mean square 1.

    Args:
        rng: the source of chance.
        count: samples.
        slope: of the spectrum in dB per octave: 0 white, -3 pink, -6 brown.
    """
    size = next_fast_len(count, real=True)
    bins = size // 2 + 1
    spectrum = rng.standard_normal(2 * bins).view(np.complex128)
    # Flat below 50 Hz, so that a steep slope does not end in a drift of the baseline.
    frequency = np.maximum(np.arange(bins) * (RATE / size / 50), 1)
    spectrum *= frequency ** (slope / (20 * np.log10(2)))
    return _normalise(irfft(spectrum, size)[:count])


def babble(
    rng: np.random.Generator, clips: Sequence[np.ndarray], count: int, talkers: int = 4
) -> np.ndarray:
    """Mix random stretches of other people's speech, made :func:`equally_loud`, to (count,).

    Returns:
        Noise of mean square 1.
    """
    mixed = np.zeros(count)
    for choice in rng.integers(len(clips), size=talkers):
        mixed += _stretch(rng, clips[choice], count)
    return _normalise(mixed)


def equally_loud(clips: Iterable[np.ndarray]) -> tuple[np.ndarray, ...]:
    """Scale clips to mean square 1."""
    return tuple(_normalise(np.array(clip, dtype=np.float64)) for clip in clips)


def noise_bank(rng: np.random.Generator, slopes: Sequence[float], count: int) -> np.ndarray:
    """Draw long coloured noises (slopes, count), to cut shorter ones from (:func:`from_bank`)."""
    return np.stack([coloured_noise(rng, count, slope) for slope in slopes])


def from_bank(rng: np.random.Generator, bank: np.ndarray, count: int) -> np.ndarray:
    """Mix random stretches of two noises of a bank to (count,) samples of mean square 1.

    Takes a fifth of the time of :func:`coloured_noise`.
    """
    first, second = rng.integers(len(bank), size=2)
    share = rng.random()
    mixed = share * _stretch(rng, bank[first], count)
    mixed += (1 - share) * _stretch(rng, bank[second], count)
    return _normalise(mixed)


def room(rng: np.random.Generator, seconds: float, direct: float) -> np.ndarray:
    """Draw an impulse response: the direct sound, then exponentially decaying noise.

    Args:
        rng: the source of chance.
        seconds: reverberation time T60.
        direct: energy of the direct sound over that of the tail, in dB.
    """
    count = max(int(seconds * RATE), 2)
    tail = rng.standard_normal(count) * np.exp(np.arange(count) * (-3 * np.log(10) / count))
    tail[0] = 0
    tail *= 10 ** (-direct / 20) / np.sqrt(np.sum(np.square(tail)))
    tail[0] = 1
    return tail


def equaliser(rng: np.random.Generator, depth: float = 6.0) -> np.ndarray:
    """Draw the impulse response of a smooth filter: gains within ``depth`` dB at each octave."""
    return equaliser_of(rng.normal(0, depth / 2, _OCTAVES).clip(-depth, depth))


def equaliser_of(decibels: np.ndarray) -> np.ndarray:
    """Return the impulse response (linear phase) of gains in dB at 62.5, 125, … 8000 Hz."""
    response = irfft(np.interp(_BINS, _CENTRES, 10 ** (decibels / 20)))
    half = _EQUALISER // 2
    return np.concatenate((response[half:], response[:half])) * _WINDOW


def filtered(samples: np.ndarray, *impulses: np.ndarray) -> np.ndarray:
    """Pass speech (n,) through impulse responses, at the same length."""
    if not impulses:
        return samples
    return _convolved(samples, reduce(_whole, impulses))


def add_noise(samples: np.ndarray, noise: np.ndarray, snr: float) -> np.ndarray:
    """Add noise so that the mean square of the speech is ``snr`` dB over that of the noise.

    The mean is over the whole clip, pauses too.
    """
    signal, disturbance = power(samples), power(noise)
    if signal < _SMALLEST or disturbance < _SMALLEST:
        raise ValueError(f"add_noise: silent input (mean squares {signal:g}, {disturbance:g})")
    mixed = noise * np.sqrt(signal / disturbance * 10 ** (-snr / 10))
    mixed += samples
    return mixed


def level(samples: np.ndarray, decibels: float, peak: float = 0.98) -> np.ndarray:
    """Scale to a root mean square in dB under full scale, less where the peak would be exceeded."""
    gain = 10 ** (decibels / 20) / np.sqrt(max(power(samples), _SMALLEST))
    highest = max(float(samples.max(initial=0.0)), -float(samples.min(initial=0.0)))
    return samples * min(gain, peak / max(highest, _SMALLEST))


def quantised(samples: np.ndarray) -> np.ndarray:
    """Round [-1, 1] to int16."""
    scaled = samples * 32767
    np.rint(scaled, out=scaled)
    if len(scaled) and (scaled.max() > 32767 or scaled.min() < -32768):
        np.clip(scaled, -32768, 32767, out=scaled)
    return scaled.astype(np.int16)


def _convolved(samples: np.ndarray, impulse: np.ndarray) -> np.ndarray:
    """Convolve by overlap-save, at the length of the samples.

    Up to 3 times as fast as scipy's oaconvolve on a sentence: all transforms are one batch that
    stays in the cache.
    """
    count, reach = len(samples), len(impulse) - 1
    # Two blocks are transformed at the price of one and a half; for a short sentence in a large
    # room two fit just so.
    half = next_fast_len(-(-count // 2) + reach, real=True)
    size = max(4096, 1 << (2 * reach).bit_length())
    size = half if size > 8192 and half <= 24576 else size
    step = size - reach
    blocks = -(-count // step)
    padded = np.zeros((blocks - 1) * step + size)
    padded[reach : reach + count] = samples
    spectra = rfft(np.lib.stride_tricks.sliding_window_view(padded, size)[::step], axis=1)
    spectra *= rfft(impulse, size)
    return irfft(spectra, size, axis=1, overwrite_x=True)[:, reach:].ravel()[:count]


def _whole(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Convolve two impulse responses at full length."""
    return _convolved(np.concatenate((first, np.zeros(len(second) - 1))), second)


def _stretch(rng: np.random.Generator, clip: np.ndarray, count: int) -> np.ndarray:
    """Cut (count,) samples from a random place of a clip, which is repeated if too short."""
    if len(clip) < count:
        clip = np.concatenate([clip] * (count // len(clip) + 2))
    start = int(rng.integers(len(clip) - count + 1))
    return clip[start : start + count]


def _normalise(samples: np.ndarray) -> np.ndarray:
    """Scale to mean square 1 in place."""
    samples /= np.sqrt(max(power(samples), _SMALLEST))
    return samples
