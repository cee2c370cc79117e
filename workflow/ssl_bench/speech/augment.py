"""What happens to speech between the mouth and the file: rooms, noise, filters and levels.

Pure functions of float64 arrays and a random generator. All arithmetic is in double precision:
processors differ in the last bits of a transform, and in double precision such a difference is
too small to survive the rounding to 16 bits.
"""

from collections.abc import Iterable, Sequence
from functools import cache

import numpy as np
from numpy.fft import irfft, rfft
from scipy.fft import next_fast_len

from ssl_bench.speech.espeak import RATE

_OCTAVES = 8
_EQUALISER = 256  # taps
_BINS = np.arange(_EQUALISER // 2 + 1) * (RATE / _EQUALISER)  # Hz
_CENTRES = (RATE / 2) * 2.0 ** np.arange(1 - _OCTAVES, 1)  # Hz
_WINDOW = np.hanning(_EQUALISER + 1)[:-1]
# Few, so that the transforms find their tables from one recording to the next.
_SIZES = (4096, 8192, 12288, 16384, 20480, 24576, 32768, 49152)
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
    """Add up random stretches of other people's speech, made :func:`equally_loud`: (count,)."""
    mixed = np.zeros(count)
    # One by one: numpy takes longer to draw an array of a few than to draw them.
    for clip in [clips[int(rng.integers(len(clips)))] for _ in range(talkers)]:
        mixed += _stretch(rng, clip, count)
    return mixed


def equally_loud(clips: Iterable[np.ndarray]) -> tuple[np.ndarray, ...]:
    """Scale clips to mean square 1."""
    return tuple(_normalise(np.array(clip, dtype=np.float64)) for clip in clips)


def noise_bank(rng: np.random.Generator, slopes: Sequence[float], count: int) -> np.ndarray:
    """Draw long coloured noises (slopes, count), to cut shorter ones from (:func:`from_bank`)."""
    return np.stack([coloured_noise(rng, count, slope) for slope in slopes])


def from_bank(rng: np.random.Generator, bank: np.ndarray, count: int) -> np.ndarray:
    """Mix random stretches of two noises of a bank: (count,), of no certain level.

    Takes a twentieth of the time of :func:`coloured_noise`.
    """
    first, second = rng.integers(len(bank)), rng.integers(len(bank))
    share = rng.random()
    mixed = _stretch(rng, bank[first], count) * (share / (1 - share))
    mixed += _stretch(rng, bank[second], count)
    return mixed


def room(rng: np.random.Generator, seconds: float, direct: float) -> np.ndarray:
    """Draw an impulse response: the direct sound, then exponentially decaying noise.

    Args:
        rng: the source of chance.
        seconds: reverberation time T60.
        direct: energy of the direct sound over that of the tail, in dB.
    """
    count = max(int(seconds * RATE), 2)
    tail = rng.standard_normal(count)
    tail *= np.exp(np.arange(count) * (-3 * np.log(10) / count))
    tail[0] = 0
    tail *= 10 ** (-direct / 20) / np.sqrt(power(tail) * count)
    tail[0] = 1
    return tail


def equaliser(rng: np.random.Generator, depth: float = 6.0) -> np.ndarray:
    """Draw the impulse response of a smooth filter: gains within ``depth`` dB at each octave."""
    return equaliser_of(rng.normal(0, depth / 2, _OCTAVES).clip(-depth, depth))


def equaliser_of(decibels: np.ndarray) -> np.ndarray:
    """Return the impulse response (linear phase) of gains in dB at 62.5, 125, … 8000 Hz."""
    return 10 ** (decibels / 20) @ _octave_responses()


def filtered(
    samples: np.ndarray, *impulses: np.ndarray, before: int = 0, after: int = 0
) -> np.ndarray:
    """Pass speech (n,) with pauses round it through impulse responses: (before + n + after,)."""
    heard = np.zeros(before + len(samples) + after)
    if impulses:
        heard[before:] = _convolved(samples, impulses, len(samples) + after)
    else:
        heard[before : before + len(samples)] = samples
    return heard


def add_noise(samples: np.ndarray, noise: np.ndarray, snr: float) -> np.ndarray:
    """Add noise so that the mean square of the speech is ``snr`` dB over that of the noise.

    The mean is over the whole clip, pauses too.

    Returns:
        Their sum, in the place of the noise.
    """
    signal, disturbance = power(samples), power(noise)
    if signal < _SMALLEST or disturbance < _SMALLEST:
        raise ValueError(f"add_noise: silent input (mean squares {signal:g}, {disturbance:g})")
    noise *= np.sqrt(signal / disturbance * 10 ** (-snr / 10))
    noise += samples
    return noise


def levelled(samples: np.ndarray, decibels: float, peak: float = 0.98) -> np.ndarray:
    """Scale to a root mean square in dB under full scale, and round to int16.

    Scaled less where a sample would exceed the peak, which is at most 1.
    """
    gain = 10 ** (decibels / 20) / np.sqrt(max(power(samples), _SMALLEST))
    highest = max(float(samples.max()), -float(samples.min()), _SMALLEST)
    scaled = samples * (32767 * min(gain, peak / highest))
    return np.rint(scaled, out=scaled).astype(np.int16)


@cache
def _octave_responses() -> np.ndarray:
    """Return the impulse responses (octaves, taps) of a gain of 1 at one octave, 0 at others."""
    gains = (np.interp(_BINS, _CENTRES, octave) for octave in np.eye(_OCTAVES))
    return np.stack([np.fft.fftshift(irfft(gain)) * _WINDOW for gain in gains])


def _convolved(samples: np.ndarray, impulses: Sequence[np.ndarray], count: int) -> np.ndarray:
    """Convolve by overlap-save, the first (count,) samples.

    Up to 3 times as fast as scipy's oaconvolve on a sentence: all transforms are one batch that
    stays in the cache.
    """
    reach = sum(len(impulse) - 1 for impulse in impulses)

    def cost(size: int) -> int:
        blocks = -(-count // (size - reach))
        # Forwards and backwards, transformed two at a time; and that of an impulse response.
        return size * (2 * (blocks + blocks % 2) + 1)

    large = 1 << (2 * reach).bit_length()
    size = min((size for size in (*_SIZES, large) if size > reach), key=cost)
    step = size - reach
    blocks = -(-count // step)
    padded = np.zeros((blocks - 1) * step + size)
    padded[reach : reach + len(samples)] = samples
    # numpy's sliding_window_view would take a fifth of the time of the transforms.
    rows = np.ndarray((blocks, size), buffer=padded, strides=(8 * step, 8))
    spectra = rfft(rows, axis=1)
    for impulse in impulses:
        spectra *= rfft(impulse, size)
    return irfft(spectra, size, axis=1)[:, reach:].ravel()[:count]


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
