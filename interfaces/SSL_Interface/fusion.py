"""Several upstreams at once (Shih & Harwath, arXiv 2511.08389, section III).

N upstreams read the same audio and give states of their own shapes (L_i, B, T_i, D_i). They are
brought to the largest number of frames and layers by linear interpolation, then merged:

* ``weighted_sum``: Σ_i Σ_l softmax(w)_il · P_i h_il, one softmax over the layers of all upstreams
* ``hconv``: HConv of Σ_i P_i h_i, the paper's "HConv" on several upstreams
* ``chconv``: HConv of P [h_1; …; h_N], channels side by side, the paper's "CHConv"

P_i (D, D_i) is the identity where D_i = D; D is the largest D_i.

What the paper leaves open, and the choice here. *Widths*: to add, it wants equal ones "or
interpolation is applied"; a learned linear projection is the default, since neighbouring channels
of an upstream have no order to interpolate along, and ``resize="interpolate"`` is the paper's.
*CHConv*: HConv runs on the N·D channels in its text, while elsewhere it speaks of a projection back
to D; P (D, Σ_i D_i) is that, and ``dim`` = Σ_i D_i leaves it out. *Weighted sum*: not defined for
several upstreams; a sum needs no equal numbers of layers, so none is interpolated for it.
*Interpolation*: as ``torch.nn.functional.interpolate`` does it (``align_corners=False``), along
layers too. *Normalisation*: each upstream's states are layer-normed before they meet
(``normalize``), not after.

Interpolation knows lengths: the valid frames of an utterance go onto its largest number of valid
frames among the upstreams, so padding has no part in it. States (L_i, B, T_i, D_i) →
(B, max T_i, output_dim). Parameters of two upstreams of 13×768 and of 25×1024: weighted sum 26 and
50, HConv as on one upstream, CHConv 5,605,248 and 9,088,341.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import override

from SSL_Interface.base import Interface, InterfaceConfig, States, valid
from SSL_Interface.errors import InterfaceError
from SSL_Interface.fusion_config import (
    KINDS,
    FusionConfig,
    check,
    interface_behind,
    own_options,
)
from SSL_Interface.interpolation import stretch, stretch_valid
from SSL_Interface.profiles import shares
from SSL_Interface.registry import create
from SSL_Interface.sharing import Shareable
from SSL_Interface.working import traced

__all__ = ["KINDS", "Fusion", "FusionConfig", "fuse"]

Lengths = Tensor | Sequence[Tensor] | None
"""Valid frames (B,) of each upstream's states, one tensor if they are the same for all."""


def fuse(kind: str, upstreams: Sequence[tuple[int, int]], **options: Any) -> "Fusion":
    """Make an interface for several upstreams at once.

    Args:
        kind: one of ``weighted_sum``, ``hconv``, ``chconv``.
        upstreams: (L_i, D_i) of each, numbers and widths of its states.
        options: fields of :class:`FusionConfig`; others go to the interface behind the merging,
            such as ``output_dim``, ``kernel_size`` and ``stride`` of ``hconv`` and ``chconv``.

    Raises:
        InterfaceError: unknown kind or option, or one whose value does not fit.
    """
    own = {name: options.pop(name) for name in own_options() if name in options}
    return Fusion(FusionConfig(kind, upstreams, **own, interface_options=options))


class Fusion(Shareable):
    """Join the layers of several upstreams.

    Under ``torch.export`` the batch may be dynamic, and so may T_i: one for all upstreams, or one
    for each.

    Args:
        config: which upstreams, and how they are joined.

    Raises:
        InterfaceError: an option does not fit.
    """

    Config: ClassVar[type[FusionConfig]] = FusionConfig
    profile_kind = "gradient × input"
    """What :meth:`layer_profile` measures."""

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        check(config)
        self.config = config
        self.kind, self.resize = config.kind, config.resize
        chosen = [None] * len(config.upstreams) if config.layers is None else config.layers
        self.upstreams = nn.ModuleList(
            _Upstream(number, InterfaceConfig(*pair, layers, config.normalize, config.check_finite))
            for number, (pair, layers) in enumerate(zip(config.upstreams, chosen, strict=True))
        )
        widths = [upstream.dim for upstream in self._each()]
        counts = [len(upstream.layers) for upstream in self._each()]
        self.dim = max(widths) if config.dim is None else config.dim

        sources = [sum(widths)] if self.kind == "chconv" else widths
        self.projections = nn.ModuleList(
            nn.Identity()
            if source == self.dim or (self.resize == "interpolate" and self.kind != "chconv")
            else nn.Linear(source, self.dim)
            for source in sources
        )
        count = sum(counts) if self.kind == "weighted_sum" else max(counts)
        options = config.interface_options
        self.interface = create(
            interface_behind(self.kind), count, self.dim, normalize=False, **options
        )

    @property
    def output_dim(self) -> int:
        """Width of the features."""
        return self.interface.output_dim

    def forward(self, states: Sequence[States], lengths: Lengths = None) -> Tensor:
        """Join the layers of a batch.

        Args:
            states: for each upstream (L_i, B, T_i, D_i), or a sequence of L_i tensors.
            lengths: for each upstream (B,) integers; one tensor if they are the same for all (then
                so is T_i); None takes all T_i as valid.

        Returns:
            (B, max T_i, output_dim), zero from each utterance's largest length on.

        Raises:
            InterfaceError: the number of upstreams, a shape or lengths do not fit.
        """
        prepared, frames = self._prepare(states, lengths)
        features = self._join(prepared, frames)
        if frames is None:
            return features
        longest = torch.stack(frames).amax(0)
        return features.masked_fill(~valid(longest, features)[..., None], 0.0)

    def macs_per_frame(self) -> int:
        """Multiply-accumulates of one frame, counted as for an interface.

        Every upstream is taken to have the largest frame rate. Interpolating and adding the
        upstreams is not counted.
        """
        counts = [len(upstream.layers) for upstream in self._each()]
        if self.kind == "chconv":
            counts = [max(counts)]
        projected = sum(
            count * projection.weight.numel()
            for count, projection in zip(counts, self.projections, strict=True)
            if isinstance(projection, nn.Linear)
        )
        return projected + self.interface.macs_per_frame()

    def layer_profile(self, states: Sequence[States], lengths: Lengths = None) -> list[Tensor]:
        """Say how much each layer of each upstream counts on these states.

        |Σ_d s_d · ∂‖y‖₂/∂s_d| for state s, behind the normalisation, and all feature vectors y of
        its utterance, added up over the upstream's own valid frames. Arguments and errors as
        :meth:`forward`.

        Returns:
            (L_i,) for each upstream, on CPU in fp32; all together sum to one. Zero for layers that
            are not selected.
        """
        training = self.training
        self.eval()
        try:
            with torch.no_grad():
                prepared, frames = self._prepare(states, lengths)
            leaves = [part.detach().requires_grad_() for part in prepared]
            with torch.enable_grad():
                norms = torch.linalg.vector_norm(self._join(leaves, frames), dim=-1)
                if frames is not None:
                    norms = norms[valid(torch.stack(frames).amax(0), norms)]
                gradients = torch.autograd.grad(norms.sum(), leaves)
        finally:
            self.train(training)
        totals = []
        for number, (leaf, gradient) in enumerate(zip(leaves, gradients, strict=True)):
            products = (leaf.detach().float() * gradient.float()).sum(-1).abs()  # (N_i, B, T_i)
            if frames is not None:
                products = products.where(valid(frames[number], leaf[0]), 0.0)
            totals.append(products.sum((1, 2)).cpu())
        parts = shares(torch.cat(totals)).split([len(total) for total in totals])
        pairs = zip(self._each(), parts, strict=True)
        return [upstream._spread(part) for upstream, part in pairs]

    @override
    def card_rows(self) -> dict[str, str]:
        rows = {
            "upstreams (states and lengths are lists, one entry for each)": str(
                len(self.upstreams)
            ),
            "merged by": self.kind,
            "width in which they meet": str(self.dim),
        }
        for upstream in self._each():
            for what, value in upstream.card_rows().items():
                rows[f"upstream {upstream.number}: {what}"] = value
        return rows

    @override
    def extra_repr(self) -> str:
        return f"{self.kind}, dim={self.dim}, output_dim={self.output_dim}"

    def _each(self) -> list["_Upstream"]:
        return [upstream for upstream in self.upstreams if isinstance(upstream, _Upstream)]

    def _prepare(
        self, states: Sequence[States], lengths: Lengths
    ) -> tuple[list[Tensor], list[Tensor] | None]:
        """Check, select, normalise: (N_i, B, T_i, D_i) of each upstream, and lengths of each."""
        upstreams = self._each()
        expected = f"a sequence of {len(upstreams)}, one for each upstream"
        _of_length(states, len(upstreams), "states", expected)
        each = [lengths] * len(upstreams) if isinstance(lengths, Tensor) else lengths
        if each is not None:
            expected = f"one tensor for each of {len(upstreams)} upstreams"
            _of_length(each, len(upstreams), "lengths", expected)
            if any(own is None for own in each):
                raise InterfaceError("fusion: lengths", expected, "None for some")
        prepared = [
            upstream.prepare(states[number], None if each is None else each[number])
            for number, upstream in enumerate(upstreams)
        ]
        batches = [part.shape[1] for part in prepared]
        if any(batch != batches[0] for batch in batches):
            raise InterfaceError("fusion: states", "one batch size", batches)
        one_type = any(isinstance(part, nn.Linear) for part in self.projections)
        for upstream, part in zip(upstreams, prepared, strict=True):
            upstream.check_place(part, self, one_type or self.interface.one_type)
        times = [part.shape[2] for part in prepared]
        if not traced() and 0 in times and any(times):
            raise InterfaceError("fusion: states", "frames of every upstream or of none", times)
        if isinstance(lengths, Tensor) and any(time != times[0] for time in times):
            expected = f"one tensor for each upstream, as they have {times} frames"
            raise InterfaceError("fusion: lengths", expected, "one for all")
        return prepared, None if each is None else list(each)

    def _join(self, states: list[Tensor], lengths: list[Tensor] | None) -> Tensor:
        """Prepared states (N_i, B, T_i, D_i), lengths (B,) of each → (B, max T_i, output_dim)."""
        aligned = self._align_frames(states, lengths)
        if self.kind != "chconv":
            pairs = zip(self.projections, aligned, strict=True)
            aligned = [stretch(projection(part), self.dim, 3) for projection, part in pairs]
        if self.kind == "weighted_sum":
            return self.interface.join(torch.cat(aligned))
        most = max(len(part) for part in aligned)
        aligned = [stretch(part, most, 0) for part in aligned]
        if self.kind == "hconv":
            return self.interface.join(torch.stack(aligned).sum(0))
        return self.interface.join(self.projections[0](torch.cat(aligned, -1)))

    def _align_frames(self, states: list[Tensor], lengths: list[Tensor] | None) -> list[Tensor]:
        """Interpolate (N_i, B, T_i, D_i) to the largest T and each utterance's largest length."""
        time = max(part.shape[2] for part in states)
        if lengths is None:
            return [stretch(part, time, 2) for part in states]
        if all(own is lengths[0] for own in lengths):
            return states
        longest = torch.stack(lengths).amax(0)
        pairs = zip(states, lengths, strict=True)
        return [stretch_valid(part, own, longest, time) for part, own in pairs]


def _of_length(given: object, count: int, argument: str, expected: str) -> None:
    if not isinstance(given, Sequence | Tensor):
        raise InterfaceError(f"fusion: {argument}", expected, type(given).__name__)
    if len(given) != count:
        raise InterfaceError(f"fusion: {argument}", expected, len(given))


class _Upstream(Interface):
    """One upstream's checks, selection and normalisation; it joins nothing."""

    def __init__(self, number: int, config: InterfaceConfig) -> None:
        self.number = number
        super().__init__(config)

    @property
    @override
    def name(self) -> str:
        return f"fusion: upstream {self.number}"
