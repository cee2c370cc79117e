"""SUPERB's speaker verification head."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_bench.heads.masking import at_least, full_precision, masked_mean_std, valid_frames
from ssl_bench.heads.padding import Padded

CONTEXTS = ((5, 1), (3, 2), (3, 3), (1, 1), (1, 1))
"""Context size and dilation of the five TDNN layers."""
SHRINKAGE = sum((context - 1) * dilation for context, dilation in CONTEXTS)


class TDNN(nn.Module):
    """A linear layer over ``context`` frames, ``dilation`` apart, then ReLU; no padding."""

    def __init__(self, dim: int, out: int, context: int, dilation: int):
        super().__init__()
        self.context, self.dilation = context, dilation
        self.kernel = nn.Linear(dim * context, out)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) → (B, T - (context - 1) · dilation, out)."""
        frames = x.shape[1] - (self.context - 1) * self.dilation
        starts = range(0, self.context * self.dilation, self.dilation)
        windows = torch.cat([x[:, start : start + frames] for start in starts], dim=-1)
        return self.kernel(windows).relu()


class XVectorHead(Padded):
    """Linear(D→hidden) → five TDNN layers → mean and deviation over time → two linear layers.

    In training mode it returns the cosines of the second layer's output with one weight vector for
    each speaker (AM-Softmax adds margin and scale to them); in eval mode the output of the first
    linear layer and ReLU at unit length. Utterances shorter than 15 frames are continued with
    silence.

    Source: s3prl ``downstream/sv_voxceleb1/model.py`` (``XVector``, ``SP``, ``UtteranceExtractor``,
    ``AMSoftmaxLoss``). Its ``SP`` counts one frame too many of all but the longest utterance of a
    batch, which has seen padding; so does this one of a group's, with ``padding: group``.
    """

    def __init__(self, dim: int, speakers: int, hidden: int, pooled: int):
        super().__init__()
        self.connector = nn.Linear(dim, hidden)
        widths = [hidden] * (len(CONTEXTS) - 1) + [pooled]
        self.tdnn = nn.Sequential(
            *(TDNN(hidden, out, *context) for out, context in zip(widths, CONTEXTS, strict=True))
        )
        self.linear1 = nn.Linear(2 * pooled, hidden)
        self.linear2 = nn.Linear(hidden, hidden)
        self.speakers = nn.Parameter(torch.empty(hidden, speakers))
        nn.init.xavier_normal_(self.speakers)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, D), (B,) → cosines (B, speakers) or embeddings (B, hidden), and (B,)."""
        outside = ~valid_frames(lengths, features.shape[1])[..., None]
        features = at_least(features.masked_fill(outside, 0.0), SHRINKAGE + 1)
        x = self.tdnn(self.connector(features))
        counted = (lengths + 1).minimum(self.padded_to(lengths)) - SHRINKAGE
        x = self.linear1(masked_mean_std(x, counted.clamp(min=1))).relu()
        if not self.training:
            return F.normalize(full_precision(x), dim=-1), lengths
        x = self.linear2(x).relu()
        # Scaled by 30 in the loss, a cosine in bf16 would be off by a tenth.
        with torch.autocast(x.device.type, enabled=False):
            speakers = F.normalize(full_precision(self.speakers), dim=0)
            return F.normalize(full_precision(x), dim=-1) @ speakers, lengths
