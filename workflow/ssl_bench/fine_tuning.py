"""End-to-end fine-tuning: an encoder that is trained along with its interface and head.

The loop, the scoring, the selection and the cells are those of frozen upstreams. Two things differ:

* a batch holds :class:`Utterances`, from :class:`Waveforms`, in place of states, and the model
  encodes them itself, so that gradients reach the encoder;
* a run has an encoder of its own, which is too large to stack: :class:`TunedRuns` is one run.

LayerDrop and the masking of pre-training are around an encoder's blocks, and what is around them
stays in evaluation mode, but for dropout where ``input_dropout`` asks for it: neither ever acts,
whatever a checkpoint says.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ssl_bench import registry
from ssl_bench.audio import SAMPLE_RATE
from ssl_bench.corpus import Corpus
from ssl_bench.features import Features, load_upstream, waveforms
from ssl_bench.heard import Excerpts, cropped
from ssl_bench.read_back import json_of
from ssl_bench.recipe import FineTune
from ssl_bench.runs import Joined, Run, Runs
from ssl_bench.study import Study
from ssl_bench.upstreams.base import Parts, Upstream

ENCODER = "encoder."
"""Beginning of the names of an encoder's parameters."""


@dataclass(frozen=True)
class Utterances:
    """A batch before it is encoded: B recordings, and which of their states are wanted."""

    waveforms: list[Tensor]
    width: int
    """Frames, T."""
    starts: Tensor | None
    """(B,) first frame of each crop; None: there are none."""
    layer: int | None
    """The one layer that is wanted; None: all."""
    repeated: bool = False
    """Whether the encoder's last frames stand for those that are wanted beyond them."""


class Encoder:
    """An upstream made ready for training, and its weights of before.

    Args:
        upstream: changed in place.
        parts: what it consists of.
        settings: the study's key ``fine_tune``.
        normalize: whether every state is layer-normed, without affine, as frozen ones are.
    """

    def __init__(
        self, upstream: Upstream, parts: Parts, settings: FineTune, normalize: bool
    ) -> None:
        self.upstream, self.settings, self.normalize = upstream, settings, normalize
        self.blocks = parts.blocks
        self.dropouts = parts.dropouts if settings.input_dropout else ()
        fixed = parts.constant + (parts.convolutions if settings.freeze_convolutions else ())
        upstream.requires_grad_(True)
        for module in fixed:
            module.requires_grad_(False)
        for parameter in set(upstream.parameters()) - reached(upstream):
            parameter.requires_grad_(False)
        if settings.checkpointing:
            for module in parts.blocks if settings.freeze_convolutions else sum(parts[:2], ()):
                forward: Any = partial(checkpoint, module.forward, use_reentrant=False)
                module.forward = forward
        self._before = {
            name: parameter.detach().cpu().clone()
            for name, parameter in upstream.named_parameters()
            if parameter.requires_grad
        }

    def reset(self) -> None:
        """Give every trained parameter the value, and memory of its own, that it began with."""
        for name, parameter in self.upstream.named_parameters():
            if name in self._before:
                parameter.data = self._before[name].to(parameter.device, copy=True)


def reached(upstream: Upstream) -> set[nn.Parameter]:
    """Return the parameters that the states of one second of low noise depend on.

    Heads of pre-training and mask embeddings are not among them.
    """
    asked = [parameter for parameter in upstream.parameters() if parameter.requires_grad]
    noise = torch.randn(SAMPLE_RATE, generator=torch.Generator().manual_seed(0)) * 0.01
    upstream.eval()
    states, _ = upstream.encode([noise.to(asked[0].device)])
    gradients = torch.autograd.grad(states.sum(), asked, allow_unused=True)
    return {p for p, gradient in zip(asked, gradients, strict=True) if gradient is not None}


class Tuned(Joined):
    """An encoder, an interface and a head; its batches are :class:`Utterances`."""

    def __init__(self, joined: Joined, encoder: Encoder) -> None:
        super().__init__(joined.interface, joined.head)
        self.encoder = encoder.upstream
        self._blocks, self._normalize = encoder.blocks, encoder.normalize
        self._ahead = encoder.dropouts
        self._dropout = encoder.settings.dropout

    def train(self, mode: bool = True) -> "Tuned":
        """Set the mode of interface, head and blocks; the rest of the encoder only evaluates.

        Unless what drops before the blocks is to do so as well.
        """
        super().train(mode)
        self.encoder.eval()
        for block in self._blocks:
            block.train(mode and self._dropout)
        for module in self._ahead:
            module.training = mode
        return self

    def states(self, batch: Utterances, lengths: Tensor) -> Tensor:
        """Return the states (L, B, T, D) of a batch, zero beyond ``lengths`` (B,)."""
        states, kept = self.encoder.encode(batch.waveforms)
        if self._normalize:
            states = F.layer_norm(states.float(), states.shape[-1:])
        if batch.layer is not None:
            states = states[batch.layer : batch.layer + 1]
        if batch.starts is None and not batch.repeated:
            return F.pad(states, (0, 0, 0, batch.width - states.shape[2]))
        offsets = torch.arange(batch.width, device=lengths.device)
        place = offsets if batch.starts is None else batch.starts[:, None] + offsets
        place = place.minimum(kept[:, None] - 1)
        own = torch.arange(len(place), device=lengths.device)[:, None]
        return states[:, own, place] * (offsets < lengths[:, None])[:, :, None]

    def forward(self, states: Any, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Utterances (B), lengths (B,) in frames → the head's outputs and their lengths."""
        return super().forward(self.states(states, lengths), lengths)


class TunedRuns(Runs):
    """One run whose row of parameters holds the encoder's as well.

    The module's own parameters are views of that row: what a checkpointed block computes a second
    time in the backward pass has to be computed with the same ones.

    Args:
        runs: one run.
        make: makes its interface and head.
        source: where its utterances come from, and the encoder, which is set back first.
        options: see :class:`Runs`.
    """

    skeleton: Tuned
    recordable = False

    def __init__(
        self, runs: list[Run], make: Callable[[], Joined], source: "Waveforms", **options: Any
    ) -> None:
        (self._run,) = runs
        self._encoder_rate = source.encoder.settings.learning_rate
        source.encoder.reset()

        def tuned() -> Joined:
            return Tuned(make(), source.encoder)

        super().__init__(runs, tuned, source.device, stackable=False, **options)
        named = dict(self.skeleton.named_parameters())
        self._own: dict[str, Tensor] = {name: named[name] for name in self.params}
        for leaf, row in zip(self._own.values(), self.params.values(), strict=True):
            leaf.data = row.detach()[0]

    def cast_once(self) -> None:
        """See :meth:`Runs.cast_once`: autocast does, for a module's own parameters."""

    def lent(self, stacked: bool) -> dict[str, Tensor]:
        """See :meth:`Runs.lent`: the module's own parameters."""
        return self._own

    def scale(self, name: str) -> float:
        """See :meth:`Runs.scale`; the encoder's rate is its own, whatever the run's is."""
        if name.startswith(ENCODER):
            return self._encoder_rate / self._run.learning_rate
        return super().scale(name)

    @torch.no_grad()
    def states(self, batch: Any, lengths: Tensor) -> Tensor:
        """See :meth:`Runs.states`: those of the encoder as it is now."""
        self.skeleton.eval()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            return self.skeleton.states(batch, lengths)

    def state(self) -> dict[str, Tensor]:
        """See :meth:`Runs.state`; the module's own buffers are those in use."""
        own = {f"buffer.{name}": value[None] for name, value in self.skeleton.named_buffers()}
        return {**super().state(), **own}

    def _one(self, params: Any, buffers: Any, states: Any, lengths: Tensor) -> Any:
        return self.skeleton(states, lengths)

    def stored(self) -> dict[str, Tensor]:
        """See :meth:`Runs.stored`; on the host, the encoder's in half precision."""
        return {
            name: (value.half() if name.startswith(ENCODER) else value).cpu()
            for name, value in self.snapshot().items()
        }

    def module(self, r: int) -> Joined:
        """See :meth:`Runs.module`."""
        return self.skeleton


@dataclass(kw_only=True)
class Waveforms(Features):
    """Recordings of one corpus in place of states, and the encoder that reads them."""

    corpus: Corpus
    encoder: Encoder

    def cropping(self, seconds: float) -> "Waveforms":
        """Return the same recordings, of which crops are cut before they are encoded."""
        return replace(self, cropped=cropped(self.encoder.upstream, self.corpus, seconds))

    def batch(  # type: ignore[override]
        self,
        rows: np.ndarray,
        width: int,
        layer: np.ndarray | None = None,
        starts: np.ndarray | None = None,
    ) -> tuple[Utterances | list[Utterances], Tensor]:
        """Gather recordings; arguments and lengths as in :meth:`Features.batch`, with R = 1.

        Returns:
            the utterances of rows (B,), or a list of one such batch for rows (1, B), and lengths.
        """
        if rows.ndim == 2:
            (own,) = rows
            one = None if layer is None else int(layer[0])
            batch, lengths = self._batch(own, width, one, None if starts is None else starts[0])
            return [batch], lengths[None]
        return self._batch(rows, width, None, starts)

    def _batch(
        self, rows: np.ndarray, width: int, layer: int | None, starts: np.ndarray | None
    ) -> tuple[Utterances, Tensor]:
        held, begin, repeated = self.frames[rows], None, self.kept is not None
        if starts is not None and self.cropped is not None:
            held = np.minimum(held, self.cropped.frames)
            parts = Excerpts(self.corpus, rows, starts, self.cropped.samples)
            read = waveforms(parts, np.arange(len(rows)), self.device)
            batch = Utterances(read, width, None, layer, repeated)
            return batch, torch.from_numpy(held).to(self.device)
        if starts is not None:
            held = np.minimum(held - starts, width)
            begin = torch.from_numpy(starts).to(self.device)
        read = waveforms(self.corpus, rows, self.device)
        batch = Utterances(read, width, begin, layer, repeated)
        return batch, torch.from_numpy(held).to(self.device)


def open_waveforms(study: Study, upstream: str, corpus: str, device: torch.device) -> Waveforms:
    """Open the recordings that the features stage counted, and the encoder to fine-tune on them.

    Raises:
        StudyError: an s3prl upstream whose parts are not known.
    """
    settings = study.fine_tune_of(upstream)
    assert settings is not None
    about = json_of(study.features_dir(upstream, corpus) / "features.json")
    loaded = load_upstream(study, upstream, device)
    parts = parts_of(study, upstream, loaded)
    return Waveforms(
        layers=about["layers"],
        dim=about["dim"],
        stride=about["stride"],
        frames=np.asarray(about["frames"]),
        device=device,
        corpus=Corpus(study.corpus_dir(corpus)),
        encoder=Encoder(loaded, parts, settings, study.normalize),
    )


def parts_of(study: Study, name: str, upstream: Upstream) -> Parts:
    """Return what a study's upstream, once loaded, consists of.

    Raises:
        StudyError: an s3prl upstream whose parts are not known.
    """
    kind = registry.load("upstreams", study.upstream_config(name).kind)
    parts: Parts = kind.parts(upstream)
    return parts
