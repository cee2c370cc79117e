"""Crops of waveforms: what training reads where a crop is cut before the encoder, not after it.

Their states have seen nothing of what is around them, as in s3prl, so they are not among those that
are computed once: each crop is encoded when it is read. Dev and test are whole, and read as ever.
"""

from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ssl_bench.audio import SAMPLE_RATE
from ssl_bench.corpus import Corpus
from ssl_bench.device import upload
from ssl_bench.encoding import load_upstream
from ssl_bench.errors import StudyError
from ssl_bench.features import Cropped, Features, fill
from ssl_bench.fitting import fitting
from ssl_bench.sampling import Batch
from ssl_bench.study import Study
from ssl_bench.upstreams.base import Upstream


class Excerpts:
    """Crops of recordings (K), read as a corpus of their own.

    Args:
        corpus: has the recordings.
        rows: (K,) rows of its table.
        starts: (K,) first sample of each.
        samples: how many follow at most.
    """

    def __init__(self, corpus: Corpus, rows: np.ndarray, starts: np.ndarray, samples: int) -> None:
        self.corpus, self.rows, self.starts, self.samples = corpus, rows, starts, samples
        named = corpus.table.iloc[rows]
        lengths = np.minimum(named["samples"].to_numpy() - starts, samples)
        self.table = pd.DataFrame({"id": named["id"].to_numpy(), "samples": lengths})

    def waveform(self, place: int) -> np.ndarray:
        """Return one crop, (samples,) int16 at 16 kHz."""
        start = self.starts[place]
        return self.corpus.waveform(self.rows[place])[start : start + self.samples]


@dataclass
class Encoded:
    """Crops of a batch that are encoded: their names, rising, and where their states begin."""

    names: np.ndarray
    begins: Tensor
    flat: Tensor


@dataclass
class Crops(Features):
    """Crops of one corpus, encoded by a frozen upstream whenever they are read."""

    corpus: Corpus
    upstream: Upstream
    normalize: bool
    held_now: Encoded | None = field(default=None, kw_only=True)

    def batch(
        self,
        rows: np.ndarray,
        width: int,
        layer: np.ndarray | None = None,
        starts: np.ndarray | None = None,
    ) -> tuple[Tensor, Tensor]:
        """See :meth:`Features.batch`; ``starts`` are samples."""
        assert starts is not None
        with fitting(self, rows.shape, width, layer):
            now = self.held_now or self._encoded(rows, starts)
            place = np.searchsorted(now.names, _names(rows, starts))
            begin = now.begins[upload(torch.from_numpy(place), self.device)]
            held = self.held(rows, width, starts)
            return self._gather(now.flat, begin, held, width, layer, self.last(rows))

    def held(self, rows: np.ndarray, width: int, starts: np.ndarray | None) -> np.ndarray:
        """See :meth:`Features.held`."""
        assert self.cropped is not None
        return np.minimum(self.frames[rows], self.cropped.frames)

    def last(self, rows: np.ndarray) -> np.ndarray | None:
        """See :meth:`Features.last`."""
        assert self.cropped is not None
        if self.kept is None or self.cropped.kept is None:
            return None
        return np.minimum(self.kept[rows], self.cropped.kept) - 1

    def page(self, batch: Batch) -> "Crops":
        """See :meth:`Features.page`."""
        assert batch.starts is not None
        return replace(self, held_now=self._encoded(batch.rows, batch.starts))

    def _encoded(self, rows: np.ndarray, starts: np.ndarray) -> Encoded:
        """Encode crops, each once."""
        assert self.cropped is not None
        names = np.unique(_names(rows, starts))
        own, first = names >> _BITS, names & (1 << _BITS) - 1
        parts = Excerpts(self.corpus, own, first, self.cropped.samples)
        last, every = self.last(own), np.arange(len(own))
        frames = self.held(own, 0, None) if last is None else last + 1
        flat, begins = fill(
            self.upstream, parts, every, frames, self.device, self.normalize, self.dtype, quiet=True
        )
        return Encoded(names, begins, flat)


_BITS = 32


def _names(rows: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Name each crop by one number: its row, then its first sample."""
    return rows.astype(np.int64) << _BITS | starts


def open_crops(
    study: Study, upstream: str, corpus: str, features: Features, seconds: float
) -> Crops:
    """Open crops of so many seconds of the recordings that a stream has states of.

    Raises:
        StudyError: they are too short to be encoded.
    """
    encoder, data = (
        load_upstream(study, upstream, features.device),
        Corpus(study.corpus_dir(corpus)),
    )
    return Crops(
        features.layers,
        features.dim,
        features.stride,
        features.frames,
        features.device,
        features._starts,
        None,
        (encoder, data, study.normalize),
        dtype=features.dtype,
        cropped=cropped(encoder, data, seconds),
        corpus=data,
        upstream=encoder,
        normalize=study.normalize,
    )


def cropped(encoder: Upstream, corpus: Corpus, seconds: float) -> Cropped:
    """Return what crops of so many seconds are.

    Raises:
        StudyError: they are too short to be encoded.
    """
    samples = round(seconds * SAMPLE_RATE)
    frames = encoder.frames(samples)
    if frames < 1:
        raise StudyError(f"training: crop_seconds: {seconds:g} s are too short to be encoded")
    return Cropped(samples, frames, corpus.table["samples"].to_numpy())
