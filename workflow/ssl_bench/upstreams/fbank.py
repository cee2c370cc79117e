"""Log-mel filterbank: SUPERB's FBANK baseline, as one layer of states.

80 log-mel energies of 25 ms windows every 10 ms, their first and second differences, and mean and
variance normalisation over the utterance (s3prl's ``upstream/baseline/fbank.yaml``). Of these
frames every second one is kept by default, so that frames line up with the encoders' (stride 320).
"""

import torch
from pydantic import Field
from torch import Tensor, nn
from torchaudio.compliance import kaldi
from torchaudio.functional import compute_deltas

from ssl_bench.errors import StudyError
from ssl_bench.upstreams.base import SAMPLE_RATE, Upstream, UpstreamConfig

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
    """The features, one utterance at a time: nothing depends on the batch."""

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
        features = [self._features(wave) for wave in waveforms]
        lengths = torch.tensor([len(f) for f in features], device=waveforms[0].device)
        return nn.utils.rnn.pad_sequence(features, batch_first=True)[None], lengths

    def _features(self, wave: Tensor) -> Tensor:
        if len(wave) < WINDOW:
            raise StudyError(
                f"upstream: a recording has {len(wave)} samples at 16 kHz, "
                f"expected at least {WINDOW} (one frame)"
            )
        x = kaldi.fbank(
            wave[None],
            num_mel_bins=self.config.mels,
            frame_length=25.0,
            frame_shift=10.0,
            sample_frequency=SAMPLE_RATE,
        )
        if self.config.delta:
            first = compute_deltas(x.T)
            x = torch.cat([x, first.T, compute_deltas(first).T], 1)
        if self.config.cmvn:
            spread = x.std(0, correction=min(1, len(x) - 1))
            x = (x - x.mean(0)) / (spread + 1e-10)
        return x[:: self.keep]


def size(config: Config) -> tuple[int, int, int]:
    """Return L, D and the stride."""
    return 1, config.mels * (3 if config.delta else 1), SHIFT * (config.hop_ms // 10)


def load(config: Config) -> Filterbank:
    """Make the upstream; there is nothing to load."""
    return Filterbank(config)
