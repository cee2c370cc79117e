"""Log-mel filterbank: SUPERB's FBANK baseline, as one layer of states.

80 log-mel energies of 25 ms windows every 10 ms, their first and second differences, and mean and
variance normalisation over the utterance (s3prl's ``upstream/baseline/fbank.yaml``). Of these
frames every second one is kept by default, so that frames line up with the encoders' (stride 320).
"""

import math

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torchaudio.compliance import kaldi
from torchaudio.functional import compute_deltas

from ssl_bench.audio import SAMPLE_RATE
from ssl_bench.errors import StudyError
from ssl_bench.upstreams.base import Upstream, UpstreamConfig

WINDOW, SHIFT = 400, 160


class Config(UpstreamConfig):
    """Keys of an upstream of kind ``fbank``."""

    mels: int = Field(default=80, ge=1)
    delta: bool = True
    """Append first and second differences (SUPERB's 240 dimensions)."""
    cmvn: bool = True
    """Zero mean and unit variance of each dimension over the utterance."""
    hop_ms: int = Field(default=20, ge=10, multiple_of=10)
    """Every ``hop_ms / 10``-th frame is kept; 10 is SUPERB's, 20 the encoders'."""


class Filterbank(Upstream):
    """The features of a batch at once; what an utterance gets depends on no other."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.keep = config.hop_ms // 10
        self.stride = SHIFT * self.keep

    def frames(self, samples: int) -> int:
        """See :meth:`Upstream.frames`: whole windows only."""
        return (samples - WINDOW) // self.stride + 1

    def encode(self, waveforms: list[Tensor]) -> tuple[Tensor, Tensor]:
        """See :meth:`Upstream.encode`; L is 1.

        Raises:
            StudyError: a waveform is shorter than one window.
        """
        shortest = min(map(len, waveforms))
        if shortest < WINDOW:
            raise StudyError(
                f"upstream: a recording has {shortest} samples at 16 kHz, "
                f"expected at least {WINDOW} (one frame)"
            )
        counts = torch.tensor([(len(wave) - WINDOW) // SHIFT + 1 for wave in waveforms])
        counts = counts.to(waveforms[0].device)
        x = _held(self._energies(waveforms, int(counts.max())), counts)
        if self.config.delta:
            first = _held(compute_deltas(x.mT).mT, counts)
            x = torch.cat([x, first, compute_deltas(first.mT).mT], -1)
        valid = (torch.arange(x.shape[1], device=x.device) < counts[:, None])[..., None]
        if self.config.cmvn:
            number = counts[:, None, None]
            x = x - (x * valid).sum(1, keepdim=True) / number
            spread = (x.square() * valid).sum(1, keepdim=True) / (number - 1).clamp(min=1)
            x = x / (spread.sqrt() + 1e-10)
        lengths = (counts - 1) // self.keep + 1
        return (x * valid)[None, :, :: self.keep], lengths

    def _energies(self, waveforms: list[Tensor], width: int) -> Tensor:
        """Return log-mel energies every 10 ms, (B, width, mels); rows go on into other frames.

        All utterances are one recording, each beginning where a window does.
        """
        ends = np.cumsum([math.ceil(len(wave) / SHIFT) for wave in waveforms])
        starts = np.concatenate([[0], ends[:-1]])
        joined = waveforms[0].new_zeros(int(starts[-1] + width) * SHIFT + WINDOW)
        for start, wave in zip(starts, waveforms, strict=True):
            joined[start * SHIFT : start * SHIFT + len(wave)] = wave
        frames = kaldi.fbank(
            joined[None],
            num_mel_bins=self.config.mels,
            frame_length=25.0,
            frame_shift=10.0,
            sample_frequency=SAMPLE_RATE,
        )
        place = torch.from_numpy(starts[:, None] + np.arange(width)).to(frames.device)
        return frames[place.clamp(max=len(frames) - 1)]


def _held(x: Tensor, counts: Tensor) -> Tensor:
    """Repeat each row's last frame beyond its length; (B, T, F), (B,) → (B, T, F)."""
    place = torch.arange(x.shape[1], device=x.device).minimum(counts[:, None] - 1)
    return x.take_along_dim(place[..., None], 1)


def size(config: Config) -> tuple[int, int, int]:
    """Return L, D and the stride."""
    return 1, config.mels * (3 if config.delta else 1), SHIFT * (config.hop_ms // 10)


def load(config: Config) -> Filterbank:
    """Make the upstream; there is nothing to load."""
    return Filterbank(config)
