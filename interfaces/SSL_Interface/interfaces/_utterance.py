"""One number for each layer of an utterance, which only its valid frames have a say in."""

from torch import Tensor
from torch.nn import functional as F


def utterance_scores(
    states: Tensor, weight: Tensor, bias: Tensor | None, frames: Tensor | None
) -> Tensor:
    """Return w · mean_t h_l + b: (N, B) from states (N, B, T, D) and weight (1, D).

    ``frames`` (B, T) says which frames are valid; None: all. The product comes before the mean,
    which is the same and leaves no (N, B, D) means to compute and keep.
    """
    scores = F.linear(states, weight, bias).squeeze(-1)  # (N, B, T)
    if frames is None:
        return scores.mean(-1)
    return scores.masked_fill(~frames, 0.0).sum(-1) / frames.sum(-1)
