"""What ``schedules.py`` compares: each candidate a small function, its idea in its first line.

A candidate is a form of its own, (interface, states (N, B, T, D)) → features, or the library with a
part exchanged, so that what wins can be put into the library as it is. The plain forms that all
are held to are those of the tests.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from SSL_Interface import gating, products, windows
from SSL_Interface.fusing import Tiling
from SSL_Interface.working import no_autocast, sum_type, working_type

Form = Callable[[Any, Tensor], Tensor]


def library(interface: Any, states: Tensor) -> Tensor:
    """What the library does."""
    return interface.join(states)


# HConv


def conv2d(interface: Any, states: Tensor) -> Tensor:
    """No copy: layers are the height, frames the width of one channels-last image."""
    layers, batch, time, dim = states.shape
    x = states.reshape(1, layers, batch * time, dim).permute(0, 3, 1, 2)
    for conv in interface.transforms[::2]:
        weight = conv.weight[..., None].contiguous(memory_format=torch.channels_last)
        x = F.conv2d(x, weight, conv.bias, (conv.stride[0], 1), (conv.padding[0], 0)).relu()
    return x[0].permute(2, 0, 1).reshape(batch, time, -1)


def im2col(interface: Any, states: Tensor) -> Tensor:
    """All windows copied out, padding included: one large product for each convolution."""
    x = states.movedim(0, 2).flatten(0, 1)  # (M, L, D)
    x = x.to(working_type(x))
    for conv in interface.transforms[::2]:
        padded = F.pad(x, (0, 0, conv.padding[0], conv.padding[0]))
        columns = padded.unfold(1, conv.kernel_size[0], conv.stride[0]).transpose(2, 3).flatten(2)
        x = F.linear(columns, conv.weight.transpose(1, 2).flatten(1), conv.bias).relu()
    return x.transpose(1, 2).reshape(*states.shape[1:3], -1)


def reshaped(interface: Any, states: Tensor) -> Tensor:
    """First convolution: frames padded so that every stride-many taps are one reshape."""
    layers, batch, time, dim = states.shape
    conv, frames = interface.transforms[0], batch * time
    stride, kernel, padding = interface.stride, interface.kernel_size, interface.kernel_size // 2
    outputs = interface.positions[1]
    slots = stride * outputs
    if slots < padding + layers or not stride <= kernel <= stride + padding:
        raise RuntimeError(f"{layers} layers do not fit into {slots} positions")
    buffer = states.new_empty(frames * slots + kernel, dim, dtype=working_type(states))
    buffer[frames * slots :] = 0
    inside = buffer[: frames * slots].view(frames, slots, dim)
    inside[:, :padding] = inside[:, padding + layers :] = 0
    inside[:, padding : padding + layers] = states.flatten(1, 2).transpose(0, 1)
    taps, rows = conv.weight.transpose(1, 2).flatten(1), 0
    for first in range(0, kernel, stride):
        some = slice(first * dim, min(first + stride, kernel) * dim)
        part = buffer[first : first + frames * slots].view(frames * outputs, stride * dim)
        rows = rows + F.linear(part[:, : some.stop - some.start], taps[:, some])
    rows = (rows + conv.bias.to(rows.dtype)).relu().view(batch, time, -1)
    for index, length in enumerate(interface.positions[1:-1], 1):
        weight, bias = interface.transforms[2 * index].parameters()
        rows = windows.window_products(rows, weight, bias, interface._windows(length))
    return rows.unflatten(-1, (interface.positions[-1], -1)).transpose(-1, -2).flatten(-2)


class Epilogue(windows._WindowProducts):
    """Bias and ReLU in each product's epilogue, into outputs of their own; then one copy."""

    @staticmethod
    def forward(rows: Tensor, weight: Tensor, bias: Tensor, spans: windows.Windows) -> Tensor:
        """Forward alone differs; the backward pass is the library's."""
        frames, taps, shift, span = _prepared(rows, weight, bias)
        outputs = [
            torch._addmm_activation(
                shift, frames[:, span(first, last)], taps[:, span(first, last, start)].t()
            )
            for first, last, start in spans
        ]
        return torch.cat(outputs, 1).unflatten(0, rows.shape[:2])


class Batched(windows._WindowProducts):
    """The windows that share nothing with the padding in one batched product."""

    @staticmethod
    def forward(rows: Tensor, weight: Tensor, bias: Tensor, spans: windows.Windows) -> Tensor:
        """Forward alone differs; the backward pass is the library's."""
        frames, taps, shift, span = _prepared(rows, weight, bias)
        outputs = frames.new_empty(len(frames), len(spans), len(weight))
        kernel, dim = weight.shape[2], weight.shape[1]
        whole = [index for index, (first, last, _) in enumerate(spans) if last - first == kernel]
        for index in set(range(len(spans))) - set(whole):
            first, last, start = spans[index]
            block = taps[:, span(first, last, start)].t()
            torch.mm(frames[:, span(first, last)], block, out=outputs[:, index])
        if whole:
            # Neighbours are the stride apart, which with one window is not asked for.
            step = spans[whole[-1]][0] - spans[whole[-2]][0] if len(whole) > 1 else kernel
            inside = frames[:, span(spans[whole[0]][0], spans[whole[-1]][1])]
            parts = inside.unfold(1, kernel * dim, step * dim).transpose(0, 1)
            products = outputs[:, whole[0] : whole[-1] + 1].transpose(0, 1)
            torch.bmm(parts, taps.t().expand(len(whole), -1, -1), out=products)
        return outputs.add_(shift).relu_().flatten(1).unflatten(0, rows.shape[:2])


def _prepared(rows: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor, Any]:
    """Rows, taps and bias in the type of their products, and where positions are in them."""
    dtype, dim = working_type(rows), weight.shape[1]

    def span(first: int, last: int, start: int = 0) -> slice:
        return slice((first - start) * dim, (last - start) * dim)

    frames, taps = rows.to(dtype).flatten(0, 1), weight.transpose(1, 2).flatten(1).to(dtype)
    return frames, taps, bias.to(dtype), span


def narrow_output(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Products rounded to their narrow type, then added to their fp32 block."""
    if total.dtype == left.dtype:
        torch.addmm(total, left, right, out=total)
    else:
        total.add_(left @ right)


# Concatenation


class BatchedLayers(products._LayerProducts):
    """All layers in one batched product where they lie, each rounded; then their sum in fp32."""

    wide = False

    @classmethod
    def forward(cls, states: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Forward alone differs; the backward pass is the library's."""
        dtype, layers = working_type(states), states.flatten(1, 2)
        blocks = weight.to(dtype).unflatten(1, (len(states), -1)).permute(1, 2, 0)  # (N, D, C)
        with no_autocast(states):
            if cls.wide:
                each = torch.bmm(layers.to(dtype), blocks, out_dtype=torch.float32)
            else:
                each = torch.bmm(layers.to(dtype), blocks)
            total = each.sum(0, dtype=sum_type(dtype)).add_(bias)
        return total.to(dtype).unflatten(0, states.shape[1:3])


class WideBatchedLayers(BatchedLayers):
    """The same with each layer's product kept in fp32."""

    wide = True


# PCA


def centred_after(interface: Any, states: Tensor) -> Tensor:
    """All layers in one batched product; centred in fp32, where they are laid side by side."""
    dtype = working_type(states)
    layers, components = states.flatten(1, 2).to(dtype), interface.components.to(dtype)
    wide = sum_type(dtype)
    with no_autocast(states):
        if wide == dtype:
            each = layers @ components.mT  # (N, M, K)
        else:
            each = torch.bmm(layers, components.mT, out_dtype=wide)
        # With the components as they were rounded, or the means would not cancel.
        means = (components.to(wide) @ interface.mean.to(wide)[..., None]).squeeze(-1)
        rows = each.new_empty(layers.shape[1], *means.shape, dtype=dtype)
        torch.sub(each.transpose(0, 1), means, out=rows)
    return rows.flatten(1).unflatten(0, states.shape[1:3])


# Weighted sum


def no_kernels(*_: Tensor) -> None:
    """Sums by torch, as where there is no Triton."""


def on_a_cpu_too(states: Tensor) -> bool:
    """Sums that a CPU takes by the same passes as a GPU, for the test of equality."""
    return True


def frame_sums(weights: Tensor, states: Tensor) -> Tensor:
    """Sum: one small product for each frame."""
    frames = states.flatten(1, 2).transpose(0, 1)
    spread = weights.to(states.dtype).expand(len(frames), 1, -1)
    return torch.bmm(spread, frames).view(states.shape[1:])


def utterance_sums(weights: Tensor, states: Tensor) -> Tensor:
    """Sum: one product for each utterance, of its T · D values."""
    spread = weights.to(states.dtype).expand(states.shape[1], 1, -1)
    return torch.bmm(spread, states.flatten(2).transpose(0, 1)).view(states.shape[1:])


def layer_by_layer(weights: Tensor, states: Tensor) -> Tensor:
    """Sum: each layer added to an fp32 total in its turn."""
    total = states[0].to(sum_type(states.dtype)) * weights[0]
    for state, weight in zip(states[1:], weights[1:], strict=True):
        total.addcmul_(state, weight)
    return total.to(states.dtype)


def one_product(states: Tensor, gradient: Tensor) -> Tensor:
    """Gradient: one matrix-vector product with N results."""
    return states.flatten(1) @ gradient.flatten()


# CLS pooling


def values_first(interface: Any, states: Tensor) -> Tensor:
    """Values of all layers in one large product, then their sum by attention."""
    layer, attention = interface.layer, interface.layer.self_attn
    weight, bias = (p[2 * interface.dim :] for p in attention.parameters(recurse=False))
    shares = interface._attend(states)[..., None]  # (N + 1, B, T, heads, 1)
    own = F.linear(interface.cls, weight)
    values = F.linear(states, weight).unflatten(-1, (interface.heads, -1))
    mixed = (shares[1:].to(values.dtype) * values).sum(0)
    mixed = mixed + shares[0].to(mixed.dtype) * own.view(interface.heads, -1).to(mixed.dtype)
    attended = attention.out_proj(mixed.flatten(-2) + bias.to(mixed.dtype))
    x = layer.norm1(interface.cls + attended)
    return layer.norm2(x + layer.linear2(layer.linear1(x).relu()))


def frame_by_frame(interface: Any, states: Tensor) -> Tensor:
    """The library's, on states copied frame by frame first."""
    return interface.join(states.movedim(0, 2).contiguous().movedim(2, 0))


# LAP, AttM and Gumbel selection


def all_at_once(layers: Tensor) -> bool:
    """All layers gated at once, by torch's own: what small states take."""
    return True


class Scattered(gating._GatedMaximum):
    """All layers gated at once, maximum with its place; back, gradients are scattered there."""

    @staticmethod
    def forward(gates: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Gates (N, …), values (N, …, C) → maximum and its place (…, C)."""
        largest, place = (gates[..., None] * values).max(0)
        return largest, place.to(torch.int16)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Any) -> None:
        """Keep the places, not the maximum."""
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(*inputs, output[1])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of gates and values."""
        gates, values, place = ctx.saved_tensors
        own = torch.zeros_like(values).scatter_(0, place.long()[None], gradient[None])
        return (own * values).sum(-1), own.mul_(gates[..., None])

    @classmethod
    def apply(cls, *inputs: Tensor) -> Tensor:
        """Give the maximum alone."""
        return super().apply(*inputs)[0]


@dataclass
class Candidate:
    """A form, and what takes the place of parts of the library while it runs."""

    form: Form
    parts: dict[str, Any] = field(default_factory=dict)
    gpu_only: bool = False


def _torch_sum(**parts: Any) -> Candidate:
    parts = {"_written_out": on_a_cpu_too, "kernels_for": no_kernels, **parts}
    return Candidate(library, {f"SSL_Interface.products.{name}": p for name, p in parts.items()})


def _tiled(**sizes: int) -> Candidate:
    """Kernels that cut up their work in another way."""
    return Candidate(library, {"SSL_Interface.fusing.TILING": Tiling(**sizes)}, gpu_only=True)


NARROW = Candidate(
    library,
    {f"SSL_Interface.{module}.accumulate": narrow_output for module in ("windows", "products")},
)
AT_ONCE = Candidate(library, {"SSL_Interface.gating.small": all_at_once})
CANDIDATES: dict[str, dict[str, Candidate]] = {
    "hconv": {
        "library": Candidate(library),
        "narrow output": NARROW,
        "conv2d": Candidate(conv2d),
        "im2col": Candidate(im2col),
        "reshaped": Candidate(reshaped),
        "epilogue": Candidate(library, {"SSL_Interface.windows._WindowProducts": Epilogue}),
        "batched": Candidate(library, {"SSL_Interface.windows._WindowProducts": Batched}),
    },
    "concat": {
        "library": Candidate(library),
        "narrow output": NARROW,
        "batched": Candidate(library, {"SSL_Interface.products._LayerProducts": BatchedLayers}),
        "batched wide": Candidate(
            library, {"SSL_Interface.products._LayerProducts": WideBatchedLayers}, gpu_only=True
        ),
    },
    "pca_concat": {"library": Candidate(library), "centred after": Candidate(centred_after)},
    "weighted_sum": {
        "library": Candidate(library),
        "torch": _torch_sum(),
        "frame sums": _torch_sum(plain_sum=frame_sums),
        "utterance sums": _torch_sum(plain_sum=utterance_sums),
        "layer by layer": _torch_sum(plain_sum=layer_by_layer),
        "one product back": _torch_sum(_dots=one_product),
        "sum 512 by 2": _tiled(sum_block=512, sum_warps=2),
        "sum 1024 by 2": _tiled(sum_block=1024, sum_warps=2),
        "sum 2048 by 4": _tiled(sum_block=2048),
        "sum 2048 by 8": _tiled(sum_block=2048, sum_warps=8),
        "back 4096 by 4": _tiled(dots_tile=4096, programs=6),
        "back 8192 by 4, 8 each": _tiled(programs=8),
        "back 8192 by 8": _tiled(dots_warps=8, programs=3),
        "back 16384 by 4": _tiled(dots_tile=16384, programs=2),
        "back 16384 by 8": _tiled(dots_tile=16384, dots_warps=8, programs=2),
    },
    "cls_pooling": {
        "library": Candidate(library),
        "values first": Candidate(values_first),
        "frame by frame": Candidate(frame_by_frame),
    },
    "lap": {
        "library": Candidate(library),
        "all at once": AT_ONCE,
        "scattered": Candidate(library, {"SSL_Interface.gating._GatedMaximum": Scattered}),
    },
    "attm": {"library": Candidate(library), "all at once": AT_ONCE},
    "gumbel_selection": {"library": Candidate(library), "all at once": AT_ONCE},
}
