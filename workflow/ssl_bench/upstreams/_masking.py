"""Make wav2vec2-like encoders indifferent to padding.

Padded positions reach an utterance in three places: the statistics of a GroupNorm over time, the
convolutions that encode position, and attention. transformers masks the last (and the input of the
second); the rest is done here.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_bench.device import upload


def conv_lengths(samples: Tensor, kernels: Sequence[int], strides: Sequence[int]) -> Tensor:
    """Return the frames left of (B,) samples after unpadded convolutions, (B,) int64."""
    for kernel, stride in zip(kernels, strides, strict=True):
        samples = torch.div(samples - kernel, stride, rounding_mode="floor") + 1
    return samples


def frame_mask(lengths: Tensor, frames: int) -> Tensor:
    """Return (B, frames) bool, true where an utterance has a frame."""
    return torch.arange(frames, device=lengths.device) < lengths[:, None]


class MaskedGroupNorm(nn.Module):
    """A GroupNorm over (B, C, T) whose statistics leave padded frames out.

    ``lengths`` is set before each forward; None means that nothing is padded.
    """

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        self.norm = norm
        self.lengths: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C, T) and keep its shape."""
        norm = self.norm
        if self.lengths is None:
            return norm(x)
        batch, channels, frames = x.shape
        groups = norm.num_groups
        grouped = x.float().view(batch, groups, channels // groups, frames)
        mask = frame_mask(self.lengths, frames)[:, None, None]
        count = (self.lengths * (channels // groups)).view(batch, 1, 1, 1)
        mean = (grouped * mask).sum((2, 3), keepdim=True) / count
        variance = ((grouped - mean).square() * mask).sum((2, 3), keepdim=True) / count
        normal = ((grouped - mean) * torch.rsqrt(variance + norm.eps)).view_as(x)
        return (normal * norm.weight[:, None] + norm.bias[:, None]).to(x.dtype)


class MaskedConvInput(nn.Module):
    """A module over (B, C, T) that sees zeros where frames are padded, as at an utterance's end.

    ``mask`` (B, T) is set before each forward; None means that nothing is padded.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.mask: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Apply the module to (B, C, T) with padded frames zeroed."""
        return self.module(x if self.mask is None else x * self.mask[:, None])


def pad(waveforms: list[Tensor], normalize: bool) -> tuple[Tensor, Tensor]:
    """Stack waveforms into (B, samples), zero-padded, and return it with (B,) lengths in samples.

    ``normalize`` gives each one zero mean and unit variance first (fairseq's ``F.layer_norm``).
    """
    lengths = upload(torch.tensor([len(w) for w in waveforms]), waveforms[0].device)
    if normalize:
        waveforms = [F.layer_norm(w, w.shape) for w in waveforms]
    return nn.utils.rnn.pad_sequence(waveforms, batch_first=True), lengths
