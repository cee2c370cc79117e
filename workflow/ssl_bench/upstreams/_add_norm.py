"""Add, normalise and write, in one pass over memory: what lies between the products of a block."""

import triton  # type: ignore[import-untyped]
import triton.language as tl  # type: ignore[import-untyped]
from torch import Tensor


def add_norm(
    total: Tensor,
    change: Tensor | None,
    norm: tuple[Tensor, Tensor],
    eps: float,
    out: Tensor,
    *,
    raw: Tensor | None = None,
    keep: bool = False,
) -> Tensor:
    """Add ``change`` to ``total`` in place, write the LayerNorm of the sum to ``out``, return it.

    Args:
        total: (N, D) float32, contiguous; becomes the sum or, with ``keep``, its LayerNorm.
        change: (N, D), contiguous, or None for nothing.
        norm: gain and offset (D,).
        eps: of the LayerNorm.
        out: (N, D), rows anywhere; the LayerNorm is written there.
        raw: (N, D), rows anywhere; the sum is written there.
        keep: whether ``total`` becomes the LayerNorm (post-LN) instead of the sum (pre-LN).
    """
    assert total.is_contiguous()
    count, width = total.shape
    if change is not None:
        assert change.is_contiguous()
    gain, offset = norm
    _kernel[(count,)](
        total,
        total if change is None else change,
        gain,
        offset,
        out,
        out if raw is None else raw,
        out.stride(0),
        0 if raw is None else raw.stride(0),
        width,
        eps,
        ADD=change is not None,
        RAW=raw is not None,
        KEEP=keep,
        BLOCK=triton.next_power_of_2(width),
        num_warps=4 if width <= 1024 else 8,
    )
    return out


@triton.jit
def _kernel(  # type: ignore[no-untyped-def]
    total,
    change,
    gain,
    offset,
    out,
    raw,
    out_stride,
    raw_stride,
    width,
    eps,
    ADD: tl.constexpr,
    RAW: tl.constexpr,
    KEEP: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < width
    place = row * width + column
    x = tl.load(total + place, inside, 0.0)
    if ADD:
        x += tl.load(change + place, inside, 0.0).to(tl.float32)
    mean = tl.sum(x, 0) / width
    apart = tl.where(inside, x - mean, 0.0)
    scale = tl.rsqrt(tl.sum(apart * apart, 0) / width + eps)
    g = tl.load(gain + column, inside, 0.0).to(tl.float32)
    b = tl.load(offset + column, inside, 0.0).to(tl.float32)
    normal = apart * scale * g + b
    tl.store(out + row * out_stride + column, normal.to(out.dtype.element_ty), inside)
    if RAW:
        tl.store(raw + row * raw_stride + column, x.to(raw.dtype.element_ty), inside)
    if KEEP:
        tl.store(total + place, normal, inside)
    else:
        tl.store(total + place, x, inside)
