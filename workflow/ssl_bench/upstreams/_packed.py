"""HuBERT, wav2vec2 (XLSR, XLS-R) and WavLM on a GPU: bf16, without padding, states written once.

The same weights as the model of transformers, in another order of work:

* convolutions run with channels last, where their matrix products need no transposed copies;
* the first layer's GroupNorm is folded into its weights. A GroupNorm with a group a channel needs
  mean and variance of each channel, and those of w · p are w · mean(p) and w · cov(p) · w for the
  ten samples p that the convolution reads: so a 10 × 10 covariance of each waveform is enough;
* behind the convolutions only frames that exist are kept, one after the other (N, D); attention
  runs on sequences of unequal length, or padded and with a bias for WavLM (``_attention.py``);
* one kernel adds, normalises and writes the state to where the stream of features keeps it.

Matrix products take bf16 and add in fp32, the sum that runs through the blocks stays fp32.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_bench.device import upload
from ssl_bench.upstreams._add_norm import add_norm
from ssl_bench.upstreams._attention import Attention, Relative, Unequal
from ssl_bench.upstreams._masking import conv_lengths, frame_mask, pad

TAPS = 16
"""Samples of the first convolution's window, filled up with zeros to what tensor cores want."""


class PackedEncoder:
    """The forward pass of one encoder, its weights copied to bf16.

    Args:
        model: ``HubertModel``, ``Wav2Vec2Model`` or ``WavLMModel`` that ``packable`` of
            ``transformers.py`` takes.
        normalize: whether each waveform gets zero mean and unit variance.
        dtype: of weights and products; flash attention takes bfloat16 and float16.
    """

    def __init__(
        self, model: nn.Module, normalize: bool, dtype: torch.dtype = torch.bfloat16
    ) -> None:
        parts: Any = model
        config: Any = model.config
        self.normalize, self.dtype = normalize, dtype
        self.kernels, self.strides = tuple(config.conv_kernel), tuple(config.conv_stride)
        self.eps = config.layer_norm_eps
        self.stable = bool(config.do_stable_layer_norm)
        self.grouped = config.feat_extract_norm == "group"
        layers = parts.feature_extractor.conv_layers
        self.first = _First(layers[0], self.grouped, dtype)
        self.convolutions = [_Convolution(layer, dtype) for layer in layers[1:]]
        projection = parts.feature_projection
        before = getattr(projection, "layer_norm", None)
        self.project_norm = None if before is None else _norm(before, dtype)
        self.project = _linear(projection.projection, dtype)
        self.position = _Position(parts.encoder.pos_conv_embed.conv, dtype)
        self.norm = _norm(parts.encoder.layer_norm, torch.float32)
        self.blocks = [_Block(block, dtype) for block in parts.encoder.layers]
        own = parts.encoder.layers[0].attention
        self.relative = own if self.blocks[0].attention.gate is not None else None

    @torch.no_grad()
    def __call__(self, waveforms: list[Tensor]) -> Tensor:
        """Encode waveforms, each (samples,) float32 on the GPU.

        Returns:
            (N, L, D) in ``dtype``: the frames of the first waveform, then those of the second, …
        """
        padded, samples = pad(waveforms, self.normalize)
        counts = [len(w) for w in waveforms]
        for kernel, stride in zip(self.kernels, self.strides, strict=True):
            counts = [(n - kernel) // stride + 1 for n in counts]
        with torch.autocast("cuda", enabled=False):
            return self._encode(padded, samples, counts)

    def _encode(self, padded: Tensor, samples: Tensor, counts: Sequence[int]) -> Tensor:
        x = self.first(padded, conv_lengths(samples, self.kernels[:1], self.strides[:1]))
        for convolution in self.convolutions:
            x = convolution(x)
        frames = x.shape[1]
        ragged = min(counts) < frames
        kept = _places(counts, x.shape[1], x.device) if ragged else None
        x = x.flatten(0, 1)
        x = x if kept is None else x[kept]  # (N, C)
        if self.project_norm is not None:
            x = F.layer_norm(x, x.shape[-1:], *self.project_norm, self.eps)
        x = F.linear(x, *self.project)
        total = self._positions(x, kept, (len(counts), frames))  # (N, D) fp32
        states = x.new_empty(len(x), len(self.blocks) + 1, x.shape[1])
        return self._blocks(total, states, self._attention(counts, kept, x.device))

    def _attention(
        self, counts: Sequence[int], kept: Tensor | None, device: torch.device
    ) -> Unequal | Relative:
        if self.relative is None:
            return Unequal(counts, device)
        return Relative(self.relative, counts, kept, self.dtype)

    def _positions(self, x: Tensor, kept: Tensor | None, sizes: tuple[int, int]) -> Tensor:
        """Add to the frames what the positional convolution says."""
        full = x
        if kept is not None:
            full = x.new_zeros(sizes[0] * sizes[1], x.shape[1])
            full[kept] = x
        found = self.position(full.view(*sizes, -1)).flatten(0, 1)
        return x.float() + (found if kept is None else found[kept])

    def _blocks(self, total: Tensor, states: Tensor, attend: Unequal | Relative) -> Tensor:
        """Run the blocks on frames (N, D) fp32 and fill the states (N, L, D)."""
        step = self._stable if self.stable else self._post
        inner = states.new_empty(total.shape)
        if self.stable:
            add_norm(total, None, self.blocks[0].norm, self.eps, inner, raw=states[:, 0])
        else:
            inner = add_norm(total, None, self.norm, self.eps, states[:, 0], keep=True)
        for place in range(1, len(self.blocks) + 1):
            inner = step(place, total, inner, states, attend)
        return states

    def _post(
        self, place: int, total: Tensor, inner: Tensor, states: Tensor, attend: Unequal | Relative
    ) -> Tensor:
        """A block with its norms behind its sums: a state is what the second one gives."""
        block = self.blocks[place - 1]
        attended = attend(block.attention, inner)
        inner = add_norm(total, attended, block.norm, self.eps, attended, keep=True)
        change = block.feed_forward(inner)
        return add_norm(total, change, block.final_norm, self.eps, states[:, place], keep=True)

    def _stable(
        self, place: int, total: Tensor, inner: Tensor, states: Tensor, attend: Unequal | Relative
    ) -> Tensor:
        """A block with its norms before its products: a state is a sum, the last a LayerNorm."""
        block = self.blocks[place - 1]
        attended = attend(block.attention, inner)
        inner = add_norm(total, attended, block.final_norm, self.eps, attended)
        change = block.feed_forward(inner)
        if place == len(self.blocks):
            return add_norm(total, change, self.norm, self.eps, states[:, place])
        return add_norm(
            total, change, self.blocks[place].norm, self.eps, change, raw=states[:, place]
        )


def _places(counts: Sequence[int], frames: int, device: torch.device) -> Tensor:
    """Return where the frames that exist lie in a padded batch."""
    begin = [torch.arange(n) + row * frames for row, n in enumerate(counts)]
    return upload(torch.cat(begin), device)


class _First:
    """The convolution over samples, its norm and GELU."""

    def __init__(self, layer: Any, grouped: bool, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.stride = layer.conv.stride[0]
        weight = layer.conv.weight.detach()[:, 0].float()  # (C, taps)
        self.taps = weight.shape[1]
        self.weight = F.pad(weight, (0, TAPS - self.taps))
        bias = layer.conv.bias
        self.bias = torch.zeros_like(weight[:, 0]) if bias is None else bias.detach().float()
        norm = getattr(layer, "layer_norm", None)
        norm = getattr(norm, "norm", norm)  # a MaskedGroupNorm holds its own
        self.affine = None if norm is None else (norm.weight.detach(), norm.bias.detach())
        self.eps = 0.0 if norm is None else norm.eps
        self.grouped = grouped

    def __call__(self, padded: Tensor, lengths: Tensor) -> Tensor:
        """(B, samples) fp32, frames (B,) of each → (B, T, C)."""
        windows = padded.unfold(1, self.taps, self.stride)
        read = F.pad(windows.to(self.dtype), (0, TAPS - self.taps))
        if not self.grouped:
            x = F.linear(read, self.weight.to(self.dtype), self.bias.to(self.dtype))
            if self.affine is not None:
                scale, shift = (value.to(self.dtype) for value in self.affine)
                x = F.layer_norm(x, x.shape[-1:], scale, shift, self.eps)
            return F.gelu(x)
        scale, shift = self._folded(windows, lengths)
        weight = (self.weight * scale[..., None]).to(self.dtype).transpose(1, 2)  # (B, taps, C)
        return F.gelu(torch.baddbmm(shift.to(self.dtype)[:, None], read, weight))

    def _folded(self, windows: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the GroupNorm multiplies and adds, each (B, C) fp32."""
        assert self.affine is not None
        own = frame_mask(lengths, windows.shape[1])[..., None]
        count = lengths[:, None].float()
        mean = (windows * own).sum(1) / count  # (B, taps)
        apart = (windows - mean[:, None]) * own
        covariance = _products(apart) / count[..., None]
        weight = self.weight[:, : self.taps]
        variance = ((weight @ covariance) * weight).sum(-1)  # (B, C)
        gain, offset = self.affine
        scale = gain * torch.rsqrt(variance + self.eps)
        return scale, offset - scale * (mean @ weight.t())


def _products(x: Tensor) -> Tensor:
    """Return xᵀ x of (B, T, n), (B, n, n); long sums are cut up, to keep all of a GPU at work."""
    whole = F.pad(x, (0, 0, 0, -x.shape[1] % 512)).unflatten(1, (-1, 512))
    return (whole.transpose(2, 3) @ whole).sum(1)


class _Convolution:
    """One of the later convolutions over time, with its norm (if any) and GELU."""

    def __init__(self, layer: Any, dtype: torch.dtype) -> None:
        weight = layer.conv.weight.detach().to(dtype).unsqueeze(2)
        self.weight = weight.contiguous(memory_format=torch.channels_last)
        self.bias = None if layer.conv.bias is None else layer.conv.bias.detach().to(dtype)
        self.stride = (1, layer.conv.stride[0])
        norm = getattr(layer, "layer_norm", None)
        self.norm = None if norm is None else _norm(norm, dtype)
        self.eps = 0.0 if norm is None else norm.eps

    def __call__(self, x: Tensor) -> Tensor:
        """(B, T, C) → (B, T', C)."""
        image = x.transpose(1, 2).unsqueeze(2)  # channels last, as it lies
        x = F.conv2d(image, self.weight, self.bias, self.stride).squeeze(2).transpose(1, 2)
        if self.norm is not None:
            x = F.layer_norm(x, x.shape[-1:], *self.norm, self.eps)
        return F.gelu(x)


class _Position:
    """The grouped convolution that encodes position, and its GELU.

    cuDNN has a fast kernel for it where a group has a multiple of 64 channels; HuBERT Base has 48,
    so each group is filled up with zeros (32 to 3 ms for 800 s of audio on an H200).
    """

    def __init__(self, convolution: Any, dtype: torch.dtype) -> None:
        self.groups = convolution.groups
        width = convolution.weight.shape[1]
        self.spare = -width % 64
        weight = convolution.weight.detach().unflatten(0, (self.groups, width))
        self.weight = F.pad(weight, (0, 0, 0, self.spare, 0, self.spare)).flatten(0, 1).to(dtype)
        bias = convolution.bias.detach().unflatten(0, (self.groups, width))
        self.bias = F.pad(bias, (0, self.spare)).flatten().to(dtype)

    def __call__(self, x: Tensor) -> Tensor:
        """(B, T, D) → (B, T, D)."""
        _, frames, dim = x.shape
        grouped = F.pad(x.unflatten(2, (self.groups, -1)), (0, self.spare)).flatten(2)
        half = self.weight.shape[-1] // 2
        found = F.conv1d(
            grouped.transpose(1, 2), self.weight, self.bias, padding=half, groups=self.groups
        )
        found = F.gelu(found[..., :frames]).transpose(1, 2)
        return found.unflatten(2, (self.groups, -1))[..., : dim // self.groups].reshape(x.shape)


class _Block:
    """The weights of a transformer block."""

    def __init__(self, block: Any, dtype: torch.dtype) -> None:
        self.attention = Attention(block.attention, dtype)
        self.norm = _norm(block.layer_norm, torch.float32)
        self.final_norm = _norm(block.final_layer_norm, torch.float32)
        self.inner = _linear(block.feed_forward.intermediate_dense, dtype)
        self.outer = _linear(block.feed_forward.output_dense, dtype)

    def feed_forward(self, x: Tensor) -> Tensor:
        """(N, D) → (N, D)."""
        return F.linear(F.gelu(F.linear(x, *self.inner)), *self.outer)


def _linear(layer: Any, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return layer.weight.detach().to(dtype), layer.bias.detach().to(dtype)


def _norm(layer: Any, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return layer.weight.detach().to(dtype), layer.bias.detach().to(dtype)
