"""SUPERB's speech recognition head."""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from ssl_bench.heads.specaugment import SpecAugment, SpecAugmentConfig


class BiLSTMHead(nn.Module):
    """SpecAugment → Linear(D→hidden) → BiLSTMs, each with dropout → Linear(2 hidden→classes).

    Source: s3prl ``downstream/asr/model.py`` (``RNNs``). Does not run under ``vmap``.
    """

    def __init__(
        self,
        dim: int,
        classes: int,
        hidden: int,
        layers: int,
        dropout: float,
        specaugment: SpecAugmentConfig | None,
    ):
        super().__init__()
        self.specaugment = SpecAugment(specaugment) if specaugment else None
        self.projector = nn.Linear(dim, hidden)
        widths = [hidden] + [2 * hidden] * (layers - 1)
        self.rnns = nn.ModuleList(
            nn.LSTM(width, hidden, batch_first=True, bidirectional=True) for width in widths
        )
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(2 * hidden, classes)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, D), (B,) → logits (B, T, classes), (B,)."""
        if self.specaugment is not None:
            features = self.specaugment(features, lengths)
        x = self.projector(features)
        frames, on_host = x.shape[1], lengths.to(torch.device("cpu"))
        for rnn in self.rnns:
            packed = pack_padded_sequence(x, on_host, batch_first=True, enforce_sorted=False)
            x, _ = pad_packed_sequence(rnn(packed)[0], batch_first=True, total_length=frames)
            x = self.dropout(x)
        return self.linear(x), lengths
