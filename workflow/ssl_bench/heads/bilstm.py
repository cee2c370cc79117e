"""SUPERB's speech recognition head."""

import subprocess
import warnings
from functools import cache
from importlib.util import find_spec

import torch
import torch.nn.functional as F
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
        run = packed
        if x.is_cuda:
            run = fused if on_chip(self.rnns[0].hidden_size, x.device, x.dtype) else two_ways
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


def fits(hidden: int, dtype: torch.dtype) -> bool:
    """Whether one multiprocessor holds a direction's recurrent weights, 4 · hidden² numbers.

    Those of 128 units are 128 KiB in bf16 and fp16; in fp32 they would be 256, so 64 are the most.
    """
    most = {torch.bfloat16: 128, torch.float16: 128, torch.float32: 64}
    return hidden <= most.get(dtype, 0)


@cache
def on_chip(hidden: int, device: torch.device, dtype: torch.dtype) -> bool:
    """Whether :func:`fused` is there for LSTMs of ``hidden`` units on a GPU; tried once.

    Triton may be missing, or a C compiler, or the GPU may have less memory on its chip.
    """
    if not fits(hidden, dtype) or find_spec("triton") is None:
        return False
    from triton.errors import TritonError  # type: ignore[import-untyped]

    from ssl_bench.heads._lstm import Recurrence

    gates = torch.zeros(1, 1, 2, 4, hidden, device=device, dtype=dtype, requires_grad=True)
    weights = torch.zeros(2, 4, hidden, hidden, device=device, dtype=dtype)
    lengths = torch.ones(1, dtype=torch.long, device=device)
    try:
        with torch.enable_grad():
            Recurrence.apply(gates, weights, lengths).sum().backward()
    except (TritonError, RuntimeError, OSError, subprocess.SubprocessError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        warnings.warn(
            f"a BiLSTM of {hidden} is cuDNN's on {device}, which takes longer: {reason[0]}",
            stacklevel=2,
        )
        return False
    return True


def fused(rnn: nn.Module, x: Tensor, lengths: Tensor) -> Tensor:
    """The same with one kernel for both directions through all frames, where it is ``on_chip``."""
    from ssl_bench.heads._lstm import Recurrence

    def both(name: str) -> Tensor:
        return torch.stack([getattr(rnn, name + way) for way in ("_l0", "_l0_reverse")])

    bias = both("bias_ih") + both("bias_hh")
    projected = F.linear(x, both("weight_ih").flatten(0, 1), bias.flatten())
    weights = both("weight_hh")
    width = weights.shape[-1]
    found: Tensor = Recurrence.apply(
        projected.unflatten(-1, (2, 4, width)),
        weights.unflatten(1, (4, width)).to(projected.dtype),
        lengths,
    )
    return found.flatten(2)


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
