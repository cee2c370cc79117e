"""SUPERB's speech recognition head."""

import warnings

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from ssl_bench.heads.masking import valid_frames
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
        run = two_ways if x.is_cuda else packed
        for rnn in self.rnns:
            x = self.dropout(run(rnn, x, lengths))
        return self.linear(x), lengths


def packed(rnn: nn.Module, x: Tensor, lengths: Tensor) -> Tensor:
    """Run a bidirectional LSTM on (B, T, D) as PyTorch would have it → (B, T, 2 hidden).

    A packed sequence costs a GPU a kernel a frame, and its lengths are read on the host.
    """
    on_host = lengths.to(torch.device("cpu"))
    sequence = pack_padded_sequence(x, on_host, batch_first=True, enforce_sorted=False)
    return pad_packed_sequence(rnn(sequence)[0], batch_first=True, total_length=x.shape[1])[0]


def two_ways(rnn: nn.Module, x: Tensor, lengths: Tensor) -> Tensor:
    """The same as two LSTMs on padded sequences, the second on each utterance turned around.

    What is padded comes after an utterance in both, so it changes nothing. cuDNN runs these as few
    kernels, and they can be recorded in a CUDA graph.
    """
    frames = x.shape[1]
    place = torch.arange(frames, device=x.device)
    own = valid_frames(lengths, frames)
    turned = torch.where(own, lengths[:, None] - 1 - place, place)[..., None]
    onward = _one_way(rnn, x, "_l0")
    back = _one_way(rnn, x.take_along_dim(turned, 1), "_l0_reverse").take_along_dim(turned, 1)
    return torch.cat([onward, back], -1) * own[..., None]


def _one_way(rnn: nn.Module, x: Tensor, which: str) -> Tensor:
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    weights = [getattr(rnn, name + which) for name in names]
    start = x.new_zeros(1, len(x), weights[1].shape[1])
    with warnings.catch_warnings():  # that weights do not lie in one piece, which no copy can mend
        warnings.filterwarnings("ignore", message="RNN module weights")
        found: Tensor = torch.lstm(x, (start, start), weights, True, 1, 0.0, True, False, True)[0]
    return found
