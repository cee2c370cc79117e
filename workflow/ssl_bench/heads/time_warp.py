"""SpecAugment's time warp, as a gather: shapes do not depend on what is drawn.

s3prl (``downstream/specaug.py``) and ESPnet (``espnet2/layers/time_warp.py``) cut an utterance of T
frames at a drawn centre and resize the two parts, by bicubic interpolation, so that the cut comes
to lie at another drawn place and the length stays T. Every output frame is thus a weighted sum of
four input frames, whose places and weights follow from the two draws by arithmetic.
"""

import torch
from torch import Tensor

SHARPNESS = -0.75
"""The free parameter of torch's bicubic kernel."""


def draw_warp(lengths: Tensor, window: int, groups: int | None = None) -> tuple[Tensor, Tensor]:
    """Draw where each utterance is cut, and where the cut is moved to; (B,) both.

    The centre is uniform in [window, T - window), its new place in (centre - window,
    centre + window]. Both are zero, which is no warp, where T ≤ 2 · window.

    Args:
        lengths: (B,), T of each.
        window: most frames that a cut is moved by.
        groups: of as many rows each: one whose lengths are all equal has one draw, as a batch of
            ESPnet's has. None: each utterance has its own.
    """
    draw = torch.rand(2, *lengths.shape, device=lengths.device)
    if groups is not None:
        own, each = draw.reshape(2, groups, -1), lengths.reshape(groups, -1)
        equal = (each == each[:, :1]).all(1, keepdim=True)
        draw = torch.where(equal, own[..., :1], own).flatten(1)
    room = lengths - 2 * window
    centre = window + (draw[0] * room).long().minimum(room - 1)
    moved = centre - window + 1 + (draw[1] * 2 * window).long().clamp(max=2 * window - 1)
    short = room <= 0
    return centre.masked_fill(short, 0), moved.masked_fill(short, 0)


def warp(x: Tensor, lengths: Tensor, centre: Tensor, moved: Tensor) -> Tensor:
    """Resize the frames before ``centre`` to ``moved`` frames and the others to the rest.

    Args:
        x: (B, T, D).
        lengths: (B,) valid frames; what lies beyond is returned as it is.
        centre, moved: (B,), from :func:`draw_warp`.
    """
    at = torch.arange(x.shape[1], device=x.device)[None]  # (1, T)
    centre, moved, ends = centre[:, None], moved[:, None], lengths[:, None]
    left = at < moved
    first = torch.where(left, 0, centre)  # of the part that an output frame is in
    last = torch.where(left, centre, ends) - 1
    shift = torch.where(left, 0, moved)
    long = (last - first + 1).to(torch.float32)
    short = torch.where(left, moved, ends - moved).clamp(min=1)
    source = (at - shift + 0.5) * (long / short) - 0.5  # relative to ``first``
    base = source.floor()
    beyond = at >= ends
    warped = torch.zeros_like(x)
    for tap, weight in enumerate(_cubic(source - base)):
        place = (first + base.long() + tap - 1).maximum(first).minimum(last)
        place = torch.where(beyond, at, place)
        weight = torch.where(beyond, float(tap == 1), weight).to(x.dtype)
        frames = x.gather(1, place[..., None].expand(x.shape))
        warped = warped + weight[..., None] * frames
    return warped


def _cubic(t: Tensor) -> tuple[Tensor, ...]:
    """Return the weights of the frames at -1, 0, 1 and 2 for a place t in [0, 1) after frame 0."""

    def near(d: Tensor) -> Tensor:  # d ≤ 1
        return ((SHARPNESS + 2) * d - (SHARPNESS + 3)) * d * d + 1

    def far(d: Tensor) -> Tensor:  # 1 ≤ d ≤ 2
        return ((SHARPNESS * d - 5 * SHARPNESS) * d + 8 * SHARPNESS) * d - 4 * SHARPNESS

    return far(t + 1), near(t), near(1 - t), far(2 - t)
