"""Corrupt a batch of clips on the GPU: equaliser, room, noise, babble, never exact silence.

Every clip of a batch goes through the same operations with its own random strengths, so that shapes
are static and nothing waits for the GPU.
"""

import torch
from scipy.fft import next_fast_len
from torch import Tensor

from ssl_bench.pretrain.settings import SAMPLE_RATE, Augment

EQUALISER_POINTS = 8
BABBLE_VOICES = 4
ECHO_SECONDS = 0.5


def corrupt(clean: Tensor, settings: Augment, rng: torch.Generator) -> Tensor:
    """Return corrupted clips, each with zero mean and unit variance.

    Args:
        clean: (B, samples) float32.
        settings: how often and how strongly.
        rng: a generator on the clips' device.
    """
    batch, samples = clean.shape
    echo = round(ECHO_SECONDS * SAMPLE_RATE)
    size = next_fast_len(samples + echo, real=True)
    spectrum = torch.fft.rfft(clean, size)
    bins = spectrum.shape[1]

    def draw(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(batch, 1, generator=rng, device=clean.device)

    def chosen(share: float) -> Tensor:
        return torch.rand(batch, 1, generator=rng, device=clean.device) < share

    equalise = chosen(settings.equalisation)
    gains = settings.gain * torch.randn(
        batch, 1, EQUALISER_POINTS, generator=rng, device=clean.device
    )
    curve = torch.nn.functional.interpolate(gains, bins, mode="linear", align_corners=True)[:, 0]
    spectrum = spectrum * torch.where(equalise, 10 ** (curve / 20), 1.0)

    room = _room(batch, echo, draw(*settings.rt60), draw(0.1, 0.6), rng)
    reverberant = spectrum * torch.fft.rfft(room, size)
    spectrum = torch.where(chosen(settings.reverberation), reverberant, spectrum)
    speech = torch.fft.irfft(spectrum, size)[:, :samples]

    noise = _coloured(batch, bins, size, draw(0.0, 2.0), rng)[:, :samples]
    babble = torch.zeros_like(clean)
    for _ in range(BABBLE_VOICES):
        # A shift of at least one keeps a clip out of its own babble.
        shift = torch.randint(1, max(batch, 2), (1,), generator=rng, device=clean.device)
        others = (torch.arange(batch, device=clean.device) + shift) % batch
        offset = torch.randint(0, samples, (1,), generator=rng, device=clean.device)
        times = (torch.arange(samples, device=clean.device) + offset) % samples
        babble = babble + clean[others][:, times]
    noisy = chosen(settings.noise)
    noise = _unit(noise)
    # The floor of white noise under the babble fills its pauses.
    noise = torch.where(noisy & chosen(settings.babble), _unit(babble) + 0.01 * noise, noise)
    snr = torch.where(noisy, draw(*settings.snr), draw(*settings.floor))
    mixed = _unit(speech) + noise * 10 ** (-snr / 20)
    return _unit(mixed - mixed.mean(1, keepdim=True))


def _unit(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-8)


def _room(batch: int, echo: int, rt60: Tensor, level: Tensor, rng: torch.Generator) -> Tensor:
    """Return impulse responses (B, echo): a direct path at 0 and an exponentially decaying tail.

    ``rt60`` (B, 1) is the time in seconds in which the tail falls by 60 dB, ``level`` (B, 1) the
    tail's energy relative to the direct path's.
    """
    time = torch.arange(echo, device=rt60.device) / SAMPLE_RATE
    decay = torch.exp(-6.9078 * time / rt60)
    tail = decay * torch.randn(batch, echo, generator=rng, device=rt60.device)
    tail = tail * torch.sqrt(level / tail.square().sum(1, keepdim=True))
    # The first reflections arrive after some 2 ms.
    tail = tail * (time > 0.002)
    tail[:, 0] = 1.0
    return tail


def _coloured(batch: int, bins: int, size: int, slope: Tensor, rng: torch.Generator) -> Tensor:
    """Return noise (B, size) whose power falls as frequency to the power of ``slope`` (B, 1)."""
    frequency = torch.arange(bins, device=slope.device).clamp(min=bins // 400 + 1) / bins
    shape = frequency ** (-slope / 2)
    real, imaginary = torch.randn(2, batch, bins, generator=rng, device=slope.device)
    return torch.fft.irfft(torch.complex(real * shape, imaginary * shape), size)
