"""PCA + concatenation: each layer to its principal components, side by side (arXiv 2406.12209).

    y = [C_0 (h_0 − m_0); …; C_{L−1} (h_{L−1} − m_{L−1})],   C_l (K, D), m_l (D,)

K = ⌊D / L⌋ components a layer by default (the paper: about D/L), so that the width L·K is about D
(767 at 13×768, 1000 at 25×1024). No whitening. States (L, B, T, D) → (B, T, L·K).
Trainable parameters: 0; means and components are buffers and are saved with the state dict.

They are fitted on a stream of batches, in fp64, by merging means and scatter matrices (Chan, Golub
& LeVeque 1983), and do not depend on how the stream is cut. The sign of a component is open; its
largest entry is made positive.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from SSL_Interface.base import Interface, InterfaceConfig, States, valid
from SSL_Interface.working import casts, sum_type, traced


@dataclass
class PCAConcatConfig(InterfaceConfig):
    """``components``: K, from each layer; None takes ⌊D / L⌋, at least 1."""

    components: int | None = None


class PCAConcat(Interface):
    """Project each layer on its principal components and concatenate."""

    Config = PCAConcatConfig
    needs_fit = True

    mean: Tensor
    components: Tensor
    frames: Tensor

    def __init__(self, config: PCAConcatConfig) -> None:
        super().__init__(config)
        count = len(self.layers)
        kept = max(1, self.dim // count) if config.components is None else config.components
        self.kept = self.positive("components", kept)
        if self.kept > self.dim:
            raise self.error("components", f"at most {self.dim}", self.kept)
        self._output_dim = count * self.kept
        self.register_buffer("mean", torch.zeros(count, self.dim))
        self.register_buffer("components", torch.zeros(count, self.kept, self.dim))
        # How many frames were seen; zero means unfitted, also in a saved state dict.
        self.register_buffer("frames", torch.zeros((), dtype=torch.int64))
        # Known without reading a tensor, which vmap and compilation forbid.
        self.fitted = False
        self._seen = 0
        self._means: Tensor | None = None
        self._scatters: Tensor | None = None

    @override
    def join(self, states: Tensor) -> Tensor:
        if not self.fitted:
            raise self.error("forward", "fit_batch and fit_finish first", "no fitted components")
        dtype = torch.promote_types(states.dtype, self.mean.dtype)
        mean, components = self.mean.to(dtype), self.components.to(dtype)
        exact = not states.is_cuda and states.dtype == dtype == sum_type(dtype)
        if traced() or casts(states) or not exact:
            # Centred first: in bf16 or TF32 the difference of two projections would be lost.
            layers = zip(states, mean, components, strict=True)
            return torch.cat([(state - centre) @ rows.t() for state, centre, rows in layers], -1)
        # One product for all layers, no centred copy; K is small, so frames are its long side.
        centres = (components * mean[:, None]).sum(-1, keepdim=True)  # (N, K, 1)
        each = torch.baddbmm(centres, components, states.flatten(1, 2).mT, beta=-1)
        return each.permute(2, 0, 1).flatten(1).unflatten(0, states.shape[1:3])

    @torch.no_grad()
    def fit_batch(self, states: States, lengths: Tensor | None = None) -> None:
        """Take in one batch; arguments and errors as ``forward``. Padding is left out."""
        prepared = self.prepare(states, lengths)
        if lengths is not None:
            rows = prepared[:, valid(lengths, prepared[0])]
        else:
            rows = prepared.flatten(1, 2)
        if self._means is None or self._scatters is None:
            self._seen = 0
            self._means = rows.new_zeros(len(rows), self.dim, dtype=torch.float64)
            self._scatters = self._means.new_zeros(len(rows), self.dim, self.dim)
        new = rows.shape[1]
        if new == 0:
            return
        total = self._seen + new
        for layer, layer_rows in enumerate(rows):
            values = layer_rows.double()
            mean = values.mean(0)
            centred = values - mean
            shift = mean - self._means[layer]
            self._scatters[layer] += centred.T @ centred
            self._scatters[layer] += (self._seen * new / total) * torch.outer(shift, shift)
            self._means[layer] += shift * (new / total)
        self._seen = total

    @torch.no_grad()
    def fit_finish(self) -> None:
        """Compute the components from all batches since the last fit.

        Raises:
            InterfaceError: fewer frames were seen than components are wanted, or some of their
                values were not finite (then the next ``fit_batch`` begins anew).
        """
        if self._means is None or self._scatters is None or self._seen < self.kept:
            raise self.error("fit", f"at least {self.kept} frames", self._seen)
        finite = self._scatters.isfinite().flatten(1).all(1).tolist()
        if not all(finite):
            self._means = self._scatters = None
            found = f"NaN or infinity in layer {self.layers[finite.index(False)]}"
            raise self.error("fit", "finite states", found)
        for layer, scatter in enumerate(self._scatters):
            _, vectors = torch.linalg.eigh(scatter)  # ascending eigenvalues
            rows = vectors.T.flip(0)[: self.kept]
            largest = rows.gather(1, rows.abs().argmax(1, keepdim=True))
            self.components[layer] = (rows * largest.sign()).to(self.components)
        self.mean.copy_(self._means)
        self.frames.fill_(self._seen)
        self.fitted = True
        self._means = self._scatters = None

    @override
    def macs_per_frame(self) -> int:
        return len(self.layers) * self.dim * self.kept

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *rest: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *rest)
        frames = state_dict.get(f"{prefix}frames")
        if frames is not None:
            self.fitted = bool((frames > 0).all())
