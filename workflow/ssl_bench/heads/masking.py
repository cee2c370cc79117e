"""Lengths → masks and masked statistics over time."""

import torch
import torch.nn.functional as F
from torch import Tensor


def valid_frames(lengths: Tensor, frames: int) -> Tensor:
    """Return the mask (B, frames), true where a frame lies inside its utterance."""
    return torch.arange(frames, device=lengths.device) < lengths[:, None]


def full_precision(x: Tensor) -> Tensor:
    """Return fp16 and bf16 as fp32, and anything wider as it is."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def at_least(x: Tensor, frames: int) -> Tensor:
    """Append zero frames to (B, T, D) until T ≥ ``frames``, what a convolution needs at least."""
    return F.pad(x, (0, 0, 0, max(0, frames - x.shape[1])))


def masked_mean(x: Tensor, lengths: Tensor) -> Tensor:
    """Average (B, T, D) over the valid frames; (B, D), summed in fp32 or wider."""
    x = full_precision(x)
    mask = valid_frames(lengths, x.shape[1])[..., None]
    return x.masked_fill(~mask, 0.0).sum(1) / lengths[:, None].to(x.dtype)


def masked_mean_std(x: Tensor, lengths: Tensor) -> Tensor:
    """Concatenate mean and unbiased standard deviation over the valid frames: (B, 2 D).

    Where a channel does not vary (a dead ReLU, a single frame), its deviation has no gradient, as
    with ``torch.std``; the square root alone would give NaN.
    """
    x = full_precision(x)
    mean = masked_mean(x, lengths)
    mask = valid_frames(lengths, x.shape[1])[..., None]
    squares = (x - mean[:, None]).masked_fill(~mask, 0.0).square().sum(1)
    variance = squares / (lengths - 1).clamp(min=1)[:, None].to(x.dtype)
    varies = variance > 0
    deviation = variance.masked_fill(~varies, 1.0).sqrt().masked_fill(~varies, 0.0)
    return torch.cat([mean, deviation], dim=-1)
