"""What is encoded when it is read, and kept nowhere.

Such are crops of waveforms (``crops.py``) and batches that are encoded together (``company.py``).
Dev and test are read from where the states are, unless they are encoded together, too.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ssl_bench.audio import SAMPLE_RATE
from ssl_bench.corpus import Corpus
from ssl_bench.device import upload
from ssl_bench.encoding import load_upstream
from ssl_bench.errors import StudyError
from ssl_bench.features import Cropped, Features
from ssl_bench.fitting import fitting
from ssl_bench.sampling import Batch
from ssl_bench.study import Study
from ssl_bench.upstreams.base import Upstream


class Excerpts:
    """Parts of recordings (K), read as a corpus of their own.

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
        """Return one part, (samples,) int16 at 16 kHz."""
        start = self.starts[place]
        return self.corpus.waveform(self.rows[place])[start : start + self.samples]


@dataclass(frozen=True)
class Encoded:
    """A batch that is encoded, for S seeds."""

    flat: Tensor
    """(frames + 1, L, D), the last of them zero."""
    begins: Tensor
    """(S, B) where in ``flat`` the states of each row begin, on the device."""
    held: np.ndarray
    """(S, B) how many frames they are."""
    last: np.ndarray | None = None
    """(S, B) the last frame that is there, repeated beyond it; None: all of ``held`` are there."""

    def of(self, seed: int | np.ndarray) -> tuple[Tensor, np.ndarray, np.ndarray | None]:
        """Return begins, held and last of one seed, (B,), or of R runs' seeds, (R, B)."""
        last = None if self.last is None else self.last[seed]
        if isinstance(seed, int):
            return self.begins[seed], self.held[seed], last
        which = upload(torch.from_numpy(seed), self.begins.device)
        return self.begins[which], self.held[seed], last


@dataclass(frozen=True)
class Page:
    """A batch that is encoded, and which of its seeds reads which rows."""

    encoded: Encoded
    seeds: dict[bytes, int]

    def of(
        self, rows: np.ndarray, starts: np.ndarray | None
    ) -> tuple[Tensor, np.ndarray, np.ndarray | None]:
        """Return what :meth:`Encoded.of` does of rows (R, B) or (B,), each those of a seed."""
        if rows.ndim == 1:
            return self.encoded.of(self.seeds[_named(rows, starts)])
        return self.encoded.of(np.array([self.seeds[name] for name in _names(rows, starts)]))


@dataclass(kw_only=True)
class Heard(Features, ABC):
    """Batches of one corpus that a frozen upstream encodes when they are read."""

    corpus: Corpus
    upstream: Upstream
    normalize: bool
    now: Page | None = None

    @classmethod
    def open(
        cls, study: Study, upstream: str, corpus: str, features: Features, seconds: float | None
    ) -> Self:
        """Open the recordings that a stream has states of, or crops of so many seconds of them.

        Raises:
            StudyError: crops are too short to be encoded.
        """
        data = Corpus(study.corpus_dir(corpus))
        encoder = load_upstream(study, upstream, features.device)
        return cls(
            layers=features.layers,
            dim=features.dim,
            stride=features.stride,
            frames=features.frames,
            device=features.device,
            dtype=features.dtype,
            cropped=None if seconds is None else cropped(encoder, data, seconds),
            corpus=data,
            upstream=encoder,
            normalize=study.normalize,
        )

    @abstractmethod
    def encoded(self, batch: Batch) -> Encoded:
        """Encode a batch, rows (S, B)."""

    def batch(
        self,
        rows: np.ndarray,
        width: int,
        layer: np.ndarray | None = None,
        starts: np.ndarray | None = None,
    ) -> tuple[Tensor, Tensor]:
        """See :meth:`Features.batch`; ``starts`` are samples."""
        if self.now is None:
            return self.page(Batch(rows, width, starts)).batch(rows, width, layer, starts)
        with fitting(self, rows.shape, width, layer):
            begins, held, last = self.now.of(rows, starts)
            return self._gather(self.now.encoded.flat, begins, held, width, layer, last)

    def page(self, batch: Batch) -> Self:
        """See :meth:`Features.page`."""
        rows, starts, weights = (
            None if part is None else np.atleast_2d(part)
            for part in (batch.rows, batch.starts, batch.weights)
        )
        assert rows is not None
        with fitting(self, batch.rows.shape, batch.width, None):
            found = self.encoded(Batch(rows, batch.width, starts, weights, batch.groups))
        seeds = {name: seed for seed, name in enumerate(_names(rows, starts))}
        return replace(self, now=Page(found, seeds))


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


def _names(rows: np.ndarray, starts: np.ndarray | None) -> list[bytes]:
    return [_named(own, None if starts is None else starts[r]) for r, own in enumerate(rows)]


def _named(rows: np.ndarray, starts: np.ndarray | None) -> bytes:
    """Name what a seed reads, rows (B,) and where their crops begin."""
    return rows.tobytes() if starts is None else rows.tobytes() + starts.tobytes()
