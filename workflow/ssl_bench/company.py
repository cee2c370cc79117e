"""Utterances that are encoded in company: a published batch at once, padded, as s3prl's loop does.

Its runner hands the waveforms of a batch to the upstream, whose expert pads them; then its
Featurizer cuts what comes back to round(n / stride) frames of an utterance of n samples
(``s3prl/upstream/interfaces.py``, ``tolist``). ESPnet reads through ``s3prl.nn.S3PRLUpstream``,
which repeats or cuts the padded batch's last frame to ⌈n / stride⌉ of its longest utterance, and
keeps as many of each (``frames: ceil``). Padding enters the statistics of a GroupNorm, and a
frame or so of it is attended to. So the states of an utterance depend on the others, and a batch is
encoded when it is read. Dev and test are so, too, where s3prl scores several at once
(``scored_utterances``); else they are read as ever, each utterance alone.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ssl_bench.device import upload
from ssl_bench.encoding import encode
from ssl_bench.errors import StudyError
from ssl_bench.heard import Encoded, Excerpts, Heard
from ssl_bench.sampling import Batch
from ssl_bench.upstreams.base import Upstream

if TYPE_CHECKING:
    from ssl_bench.upstreams.s3prl import S3PRLUpstream


class Together(Upstream):
    """s3prl's expert and what is kept of a batch: waveforms of any lengths go through at once.

    Args:
        upstream: holds the expert.
        ceil: whether that is what ``s3prl.nn`` keeps; else what the runner's Featurizer does.
    """

    def __init__(self, upstream: "S3PRLUpstream", ceil: bool = False) -> None:
        super().__init__()
        self.upstream, self.stride, self.ceil = upstream, upstream.stride, ceil

    def encode(self, waveforms: list[Tensor]) -> tuple[Tensor, Tensor]:
        """See :meth:`Upstream.encode`; states depend on what else is encoded.

        Raises:
            StudyError: the expert counts the frames of a batch otherwise than those of its longest.
        """
        states = self.upstream.together(waveforms)
        samples = np.array([len(wave) for wave in waveforms])
        frames = self.upstream.frames(int(samples.max()))
        if states.shape[2] != frames:
            raise StudyError(
                f"encode: 'group': s3prl's {self.upstream.name!r} gives {states.shape[2]} frames "
                f"of a padded batch, expected the {frames} of its longest utterance"
            )
        lengths = torch.from_numpy(self.kept(samples)).to(states.device)
        place = torch.arange(int(self.kept(samples).max()), device=states.device)
        beyond = place >= lengths[:, None]
        states = states[:, :, place.clamp(max=frames - 1)]
        return states.masked_fill(beyond[:, :, None], 0.0), lengths

    def frames(self, samples: int) -> int:
        """See :meth:`Upstream.frames`: of an utterance alone."""
        return int(self.kept(np.array([samples]))[0])

    def kept(self, samples: np.ndarray) -> np.ndarray:
        """Return how many of a padded batch's frames are each utterance's, (B,)."""
        if self.ceil:
            return -(-samples // self.stride)
        rounded = [round(int(n) / self.stride) for n in samples]
        return np.minimum(rounded, self.upstream.frames(int(samples.max())))


@dataclass(kw_only=True)
class Company(Heard):
    """Recordings of one corpus, or crops of them, of which each published batch is encoded at once.

    No utterance has more frames than the longest of its batch alone, so a batch's width holds them.
    """

    upstream: "S3PRLUpstream"

    def encoded(self, batch: Batch) -> Encoded:
        """See :meth:`Heard.encoded`; equal groups are encoded once, rows of no weight never."""
        seeds, count = batch.rows.shape
        size = -(-count // batch.groups)
        together = Together(self.upstream, ceil=self.kept is not None)
        groups: dict[tuple[bytes, bytes], _Group] = {}
        begins, held = (np.empty(batch.rows.shape, dtype=np.int64) for _ in range(2))
        total = 0
        for seed, first in np.ndindex(seeds, -(-count // size)):
            place = seed, slice(first * size, (first + 1) * size)
            counted = slice(None) if batch.weights is None else batch.weights[place] > 0
            rows = batch.rows[place][counted]
            starts = np.zeros_like(rows) if batch.starts is None else batch.starts[place][counted]
            name = rows.tobytes(), starts.tobytes()
            if name not in groups:
                groups[name] = self._group(together, rows, starts, total)
                total += groups[name].frames.sum()
            own = groups[name]
            # a row of no weight repeats the last of those that count
            member = np.minimum(np.arange(len(batch.rows[place])), len(rows) - 1)
            begins[place], held[place] = own.begins[member], own.frames[member]
        flat = torch.zeros(total + 1, self.layers, self.dim, dtype=self.dtype, device=self.device)
        for own in groups.values():
            every = np.arange(len(own.frames))
            flat[own.begins[0] : own.begins[-1] + own.frames[-1]] = encode(
                together, own.parts, every, self.device, self.normalize, self.dtype
            )
        return Encoded(flat, upload(torch.from_numpy(begins), self.device), held)

    def _group(
        self, together: Together, rows: np.ndarray, starts: np.ndarray, begin: int
    ) -> "_Group":
        most = self.corpus.table["samples"].max() if self.cropped is None else self.cropped.samples
        parts = Excerpts(self.corpus, rows, starts, int(most))
        frames = together.kept(parts.table["samples"].to_numpy())
        return _Group(parts, frames, begin + np.cumsum([0, *frames[:-1]]))


@dataclass(frozen=True)
class _Group:
    """What is encoded at once, the frames (n,) of each of it, and where they begin (n,)."""

    parts: Excerpts
    frames: np.ndarray
    begins: np.ndarray
