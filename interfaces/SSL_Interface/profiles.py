"""Three ways to say how much a layer counts; see ``Interface.layer_profile``."""

from collections.abc import Callable

import torch
from torch import Tensor


def weighted_norms(weights: Tensor, states: Tensor, frames: Tensor) -> Tensor:
    """Weight each layer's mean norm: (N,), (N, B, T, D), valid frames (B, T) → (N,)."""
    norms = torch.stack([state[frames].float().norm(dim=-1).mean() for state in states])
    return weights.float().to(norms.device) * norms


def attribution(join: Callable[[Tensor], Tensor], states: Tensor, frames: Tensor) -> Tensor:
    """Gradient × input of the features' L2 norm: states (N, B, T, D), frames (B, T) → (N,).

    By Euler's theorem the signed attributions of a bias-free, piecewise linear join add up to the
    norm itself. Behind a normalisation they would vanish, so ``states`` are the normalised ones.
    """
    with torch.enable_grad():
        states = states.detach().requires_grad_()
        norms = torch.linalg.vector_norm(join(states), dim=-1)
        (gradient,) = torch.autograd.grad(norms[frames].sum(), states)
    products = states.detach().float() * gradient.float()
    return products.sum(-1).abs()[:, frames].mean(1)


def shares(profile: Tensor) -> Tensor:
    """Scale a non-negative profile (N,) to sum to one; all zero stays all zero."""
    return profile / profile.sum().clamp_min(torch.finfo(profile.dtype).tiny)
