"""Linear interpolation along an axis, and along the valid frames of a padded batch."""

import torch
from torch import Tensor

from SSL_Interface.working import sum_type, traced


def stretch(states: Tensor, size: int, axis: int) -> Tensor:
    """Interpolate one axis to ``size`` points, as ``torch.nn.functional.interpolate`` does."""
    equal = states.shape[axis] == size
    # A traced program keeps both cases open where the sizes are not known to be the same.
    if _known(equal) if traced() else equal:
        return states
    points = torch.arange(size, device=states.device)
    below, above, share = _places(points, states.shape[axis], size, states.dtype)
    share = share.view([-1 if axis == other else 1 for other in range(states.ndim)])
    return torch.lerp(states.index_select(axis, below), states.index_select(axis, above), share)


def stretch_valid(states: Tensor, lengths: Tensor, targets: Tensor, size: int) -> Tensor:
    """Interpolate each utterance's valid frames: (N, B, T, D) → (N, B, size, D).

    Args:
        states: (N, B, T, D); what lies beyond ``lengths`` is not read.
        lengths: (B,) valid frames.
        targets: (B,) frames that they become; what lies beyond repeats the last one.
        size: frames of the result, at least the largest target.
    """
    points = torch.arange(size, device=states.device)
    lengths, targets = lengths.to(states.device)[:, None], targets.to(states.device)[:, None]
    below, above, share = _places(points, lengths, targets, states.dtype)  # each (B, size)
    rows = torch.arange(states.shape[1], device=states.device)[:, None]
    return torch.lerp(states[:, rows, below], states[:, rows, above], share[..., None])


def _known(equal: bool) -> bool:
    from torch.fx.experimental.symbolic_shapes import statically_known_true  # takes 0.4 s

    return statically_known_true(equal)


def _places(
    points: Tensor, sources: Tensor | int, targets: Tensor | int, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """Say where points 0, 1, … of n targets lie among m sources.

    Point t is at (2t + 1) · m / 2n − 1/2 (centres of equal cells), held between 0 and m − 1. Whole
    numbers keep that exact.

    Returns:
        The source below, the one above, and the share of the latter.
    """
    doubled = ((2 * points + 1) * sources - targets).clamp(min=0)
    below = (doubled // (2 * targets)).clamp(max=sources - 1)
    above = (below + 1).clamp(max=sources - 1)
    # Divided before it is narrowed: fp16 and bf16 do not hold all whole numbers.
    share = (doubled % (2 * targets)).to(sum_type(dtype)) / (2 * targets)
    return below, above, share.to(dtype)
