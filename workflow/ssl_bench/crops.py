"""Crops of waveforms: what training reads where a crop is cut before the encoder, not after it.

Their states have seen nothing of what is around them, as in s3prl, so they are not among those that
are computed once: each crop is encoded when it is read. Dev and test are whole, and read as ever.
"""

from dataclasses import dataclass

import numpy as np
import torch

from ssl_bench.device import upload
from ssl_bench.features import fill
from ssl_bench.heard import Encoded, Excerpts, Heard
from ssl_bench.sampling import Batch


@dataclass(kw_only=True)
class Crops(Heard):
    """Crops of one corpus, encoded each by itself."""

    def encoded(self, batch: Batch) -> Encoded:
        """See :meth:`Heard.encoded`; each crop is encoded once."""
        assert self.cropped is not None
        assert batch.starts is not None
        names = _names(batch.rows, batch.starts)
        unique, place = np.unique(names, return_inverse=True)
        own, first = unique >> _BITS, unique & (1 << _BITS) - 1
        parts = Excerpts(self.corpus, own, first, self.cropped.samples)
        every, last = np.arange(len(own)), None
        held = np.minimum(self.frames[own], self.cropped.frames)
        if self.kept is not None and self.cropped.kept is not None:
            last = np.minimum(self.kept[own], self.cropped.kept) - 1
        frames = held if last is None else last + 1
        flat, begins = fill(
            self.upstream, parts, every, frames, self.device, self.normalize, self.dtype, quiet=True
        )
        place = place.reshape(names.shape)
        begin = begins[upload(torch.from_numpy(place), self.device)]
        return Encoded(flat, begin, held[place], None if last is None else last[place])


_BITS = 32


def _names(rows: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Name each crop by one number: its row, then its first sample."""
    return rows.astype(np.int64) << _BITS | starts
