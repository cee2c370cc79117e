"""SpecAugment on features: a time warp, then masks."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from ssl_bench.configuration import Strict
from ssl_bench.heads.padding import Padded, longest
from ssl_bench.heads.time_warp import draw_warp, warp


class SpecAugmentConfig(Strict):
    """Masks of one example, their widths drawn uniformly from [0, a bound), and its time warp.

    The bound of a time mask is ``time_width`` frames, or ``time_ratio`` of the length where that is
    given. ``extent`` says what length time masks are placed in, and are a ratio of: that of the
    longest utterance of the ``batch`` (of its group, with ``padding: group``), as s3prl and ESPnet
    have it, or that of the ``utterance`` itself. ``time_warp`` is the warp's window in frames; 0 is
    none. Only keys that are named do something: a task's default names the published ones.
    """

    feature_masks: int = Field(0, ge=0)
    feature_width: int = Field(0, ge=0)
    time_masks: int = Field(0, ge=0)
    time_width: int = Field(0, ge=0)
    time_ratio: float | None = Field(None, ge=0, le=1)
    time_warp: int = Field(0, ge=0)
    extent: Literal["batch", "utterance"] = "utterance"


class SpecAugment(Padded):
    """Warp time, then zero random bands of dimensions and of frames; in training mode only.

    Source: s3prl ``downstream/specaug.py``, ESPnet ``espnet2/layers/mask_along_axis.py``. A mask
    begins before the length less the widest mask drawn in the batch (``extent: batch``), or less
    its own width.

    Args:
        config: what is drawn.
        warps_alike: whether utterances of equal lengths that are padded together are warped alike,
            as by ESPnet's ``espnet2/layers/time_warp.py``; s3prl draws for each.
    """

    def __init__(self, config: SpecAugmentConfig, warps_alike: bool = False):
        super().__init__()
        self.config, self.warps_alike = config, warps_alike

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, D), (B,) → (B, T, D)."""
        config = self.config
        if not self.training:
            return features
        batch, frames, dim = features.shape
        if config.time_warp:
            alike = self.groups if self.warps_alike else None
            features = warp(features, lengths, *draw_warp(lengths, config.time_warp, alike))
        dims = torch.full((batch,), dim, device=features.device)
        width = torch.full((batch,), config.feature_width, device=features.device)
        bands = self._masks(dims, width, config.feature_masks, dim)
        sizes = longest(lengths, self.groups or 1) if config.extent == "batch" else lengths
        if config.time_ratio is None:
            width = torch.full((batch,), config.time_width, device=features.device)
        else:
            width = (sizes * config.time_ratio).long()
        times = self._masks(sizes, width, config.time_masks, frames)
        return features.masked_fill(bands[:, None, :] | times[:, :, None], 0.0)

    def _masks(self, sizes: Tensor, bound: Tensor, masks: int, axis: int) -> Tensor:
        """Draw ``masks`` intervals inside ``sizes`` (B,) and return their union, (B, axis)."""
        draw = torch.rand(2, sizes.shape[0], masks, device=sizes.device)
        width = (draw[0] * bound[:, None]).long()
        widest = width
        if self.config.extent == "batch" and masks:
            widest = longest(width, self.groups or 1)[:, None]
        start = (draw[1] * (sizes[:, None] - widest).clamp(min=1)).long()
        at = torch.arange(axis, device=sizes.device)
        inside = (start[..., None] <= at) & (at < (start + width)[..., None])
        return inside.any(dim=1)
