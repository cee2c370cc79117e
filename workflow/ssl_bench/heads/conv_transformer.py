"""ML-SUPERB's speech recognition head."""

import math

from torch import Tensor, nn

from ssl_bench.heads.masking import at_least, masked_mean, valid_frames
from ssl_bench.heads.padding import Padded
from ssl_bench.heads.specaugment import SpecAugment, SpecAugmentConfig
from ssl_bench.heads.transformer import EPSILON, TransformerLayer, sinusoids

SHORTEST = 7
"""Frames that two convolutions of width 3, the first of stride 2, need for one output frame."""


class ConvTransformerHead(Padded):
    """SpecAugment → mean normalisation → Linear(D→projection) → conv2d2 → Transformer → Linear.

    conv2d2 halves the frame rate: Conv2d 1→dim (3×3, stride 2), ReLU, Conv2d dim→dim (3×3), ReLU,
    Linear. Positions are sinusoids added to inputs scaled by √dim. An output frame is valid where
    all of the input frames that it sees are, so T' = ⌊(T - 1) / 2⌋ - 2; an utterance shorter than
    seven frames is continued with silence and yields one.

    With ``padding: group`` an output frame is valid where the first of the seven input frames that
    it sees is, and the seven lie within the group's longest, as ``Conv2dSubsampling2`` masks them.
    What it sees of padding is what ``UtteranceMVN`` leaves there: minus the mean.

    Source: ESPnet ``egs2/ml_superb/asr1/conf/tuning/train_asr_s3prl_1h.yaml``,
    ``espnet/nets/pytorch_backend/transformer/subsampling.py``, ``espnet2/layers/utterance_mvn.py``.
    """

    def __init__(
        self,
        input_dim: int,
        classes: int,
        projection: int,
        dim: int,
        layers: int,
        attention_heads: int,
        feed_forward: int,
        dropout: float,
        specaugment: SpecAugmentConfig | None,
    ):
        super().__init__()
        self.specaugment = SpecAugment(specaugment, warps_alike=True) if specaugment else None
        self.projector = nn.Linear(input_dim, projection)
        self.conv = nn.Sequential(nn.Conv2d(1, dim, 3, 2), nn.ReLU(), nn.Conv2d(dim, dim, 3, 1))
        self.subsample = nn.Linear(dim * ((projection - 1) // 2 - 2), dim)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(
            TransformerLayer(dim, attention_heads, feed_forward, dropout) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(dim, eps=EPSILON)
        self.linear = nn.Linear(dim, classes)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, D), (B,) → logits (B, T', classes), lengths (B,) after subsampling."""
        if self.specaugment is not None:
            features = self.specaugment(features, lengths)
        mean = masked_mean(features, lengths)[:, None].to(features.dtype)
        padded = self.padded_to(lengths)
        if padded is not lengths:
            features = _zero_beyond(lengths, features)
        x = self.projector(at_least(_zero_beyond(padded, features - mean), SHORTEST))
        x = self.conv(x[:, None]).relu()  # (B, dim, T', F')
        x = self.subsample(x.transpose(1, 2).flatten(2))
        begun = (lengths + 1).div(2, rounding_mode="floor")
        whole = (padded - 1).div(2, rounding_mode="floor") - 2
        lengths = begun.minimum(whole).clamp(min=1)
        x = self.dropout(x * math.sqrt(x.shape[-1]) + sinusoids(x.shape[1], x.shape[2], x))
        mask = valid_frames(lengths, x.shape[1])
        for layer in self.layers:
            x = layer(x, mask)
        return self.linear(self.norm(x)), lengths


def _zero_beyond(lengths: Tensor, x: Tensor) -> Tensor:
    return x.masked_fill(~valid_frames(lengths, x.shape[1])[..., None], 0.0)
