"""Crops of waveforms: what training reads where a crop is cut before the encoder, not after it.

Their states have seen nothing of what is around them, as in s3prl, so they are not among those that
are computed once: each crop is encoded when it is read. Dev and test are whole, and read as ever.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ssl_bench.device import upload
from ssl_bench.features import fill
from ssl_bench.heard import Excerpts, Heard
from ssl_bench.sampling import Batch


@dataclass(kw_only=True)
class Crops(Heard):
    """Crops of one corpus, encoded each by itself."""

    def encoded(self, batch: Batch) -> tuple[Tensor, Tensor, np.ndarray]:
        """See :meth:`Heard.encoded`; each crop is encoded once."""
        assert self.cropped is not None
        assert batch.starts is not None
        names = _names(batch.rows, batch.starts)
        unique, place = np.unique(names, return_inverse=True)
        own, first = unique >> _BITS, unique & (1 << _BITS) - 1
        parts = Excerpts(self.corpus, own, first, self.cropped.samples)
        frames, every = np.minimum(self.frames[own], self.cropped.frames), np.arange(len(own))
        flat, begins = fill(
            self.upstream, parts, every, frames, self.device, self.normalize, self.dtype, quiet=True
        )
        place = place.reshape(names.shape)
        return flat, begins[upload(torch.from_numpy(place), self.device)], frames[place]


_BITS = 32


def _names(rows: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Name each crop by one number: its row, then its first sample."""
    return rows.astype(np.int64) << _BITS | starts
