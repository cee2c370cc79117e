"""SpecAugment's masks on features."""

import torch
from torch import Tensor, nn

from ssl_bench.configuration import Strict


class SpecAugmentConfig(Strict):
    """Masks of one example; a width is drawn uniformly from [0, its bound).

    The bound of a time mask is ``time_width`` frames, or ``time_ratio`` of the utterance's length
    where that is given.
    """

    feature_masks: int
    feature_width: int
    time_masks: int
    time_width: int = 0
    time_ratio: float | None = None


class SpecAugment(nn.Module):
    """Zero random bands of dimensions and of frames, in training mode only.

    Masks are drawn for each example from its own length, so they do not depend on the batch;
    s3prl and ESPnet (``mask_along_axis``) draw positions from the longest of the batch. Their time
    warp (window 5) is left out: its output length depends on drawn values, which no batched
    program can follow.
    """

    def __init__(self, config: SpecAugmentConfig):
        super().__init__()
        self.config = config

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, D), (B,) → (B, T, D)."""
        if not self.training:
            return features
        batch, frames, dim = features.shape
        device = features.device
        dims = torch.full((batch,), dim, device=device)
        width = torch.full((batch,), self.config.feature_width, device=device)
        bands = self._masks(dims, width, self.config.feature_masks, dim)
        if self.config.time_ratio is None:
            width = torch.full((batch,), self.config.time_width, device=device)
        else:
            width = (lengths * self.config.time_ratio).long()
        times = self._masks(lengths, width, self.config.time_masks, frames)
        return features.masked_fill(bands[:, None, :] | times[:, :, None], 0.0)

    @staticmethod
    def _masks(sizes: Tensor, bound: Tensor, masks: int, axis: int) -> Tensor:
        """Draw ``masks`` intervals inside ``sizes`` (B,) and return their union, (B, axis)."""
        draw = torch.rand(2, sizes.shape[0], masks, device=sizes.device)
        width = (draw[0] * bound[:, None]).long()
        start = (draw[1] * (sizes[:, None] - width).clamp(min=1)).long()
        at = torch.arange(axis, device=sizes.device)
        inside = (start[..., None] <= at) & (at < (start + width)[..., None])
        return inside.any(dim=1)
