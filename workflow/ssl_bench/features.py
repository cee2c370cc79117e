"""The stream of features: states of one upstream on one corpus, computed once, read many times.

States are kept as one tensor of frames, ``(frames + 1, L, D)`` in bfloat16, whose last row is zero:
a batch is one gather of rows, each a contiguous L × D block, and padding is the zero row. The
tensor lives in the memory of the training device, or is memory-mapped from disk, or (``live``) is
made anew for every batch from the waveforms; the reader cannot tell which.

With ``normalize: true`` in the study every state is layer-normed (no affine) before it is stored,
so that no interface repeats it at every step; interfaces are then made with ``normalize=False``.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ssl_bench import registry
from ssl_bench.corpus import Corpus
from ssl_bench.device import slots
from ssl_bench.progress import say, track
from ssl_bench.read_back import demand_size, json_of
from ssl_bench.study import Study
from ssl_bench.upstreams.base import SAMPLE_RATE, Upstream

STORED = torch.bfloat16
Source = Literal["memory", "disk", "live"]


def load_upstream(study: Study, name: str, device: torch.device | str) -> Upstream:
    """Load an upstream of a study onto a device."""
    config = study.upstream_config(name)
    return registry.load("upstreams", config.kind).load(config).to(device)


def choose(study: Study, size: int, device: str) -> Source:
    """Choose where ``size`` bytes of states are kept, unless the study says it.

    In the GPU's memory where they take at most 40 % of a job's part of it, else on disk within the
    study's ``cache_gb``, else nowhere: encoded for every batch.
    """
    if study.cache != "auto":
        return study.cache
    if device == "cuda" and size <= 0.4 * torch.cuda.mem_get_info()[1] / slots():
        return "memory"
    return "disk" if size <= study.cache_gb * 1e9 else "live"


def compute(study: Study, upstream: str, corpus: str, device: torch.device) -> None:
    """The features stage: probe the sizes, choose a source, and write the disk cache if chosen.

    Writes ``features.json`` (L, D, frames of every utterance, source, bytes, a digest of labels,
    recordings and encoder) and, for ``disk``, ``states.bin``.
    """
    folder = study.features_dir(upstream, corpus)
    folder.mkdir(parents=True, exist_ok=True)
    data = Corpus(study.corpus_dir(corpus))
    encoder = load_upstream(study, upstream, device)
    layers, dim = encoder.probe()
    frames = _frames(encoder, data)
    size = (int(frames.sum()) + 1) * layers * dim * STORED.itemsize
    live = study.fine_tune_of(upstream) is not None
    source = "live" if live else choose(study, size, device.type)
    hours = data.table["samples"].sum() / SAMPLE_RATE / 3600
    say(f"{upstream} on {corpus}: {hours:.2f} h, {layers} × {dim}, {size / 1e9:.2f} GB → {source}")
    if source == "disk":
        partial = folder / ".states.partial"
        partial.unlink(missing_ok=True)  # what was written there would not be zero
        flat = torch.from_file(
            str(partial), shared=True, size=size // STORED.itemsize, dtype=STORED
        ).view(-1, layers, dim)
        rows = np.arange(len(frames))
        _fill(flat, encoder, data, rows, frames, device, study.normalize)
        partial.rename(folder / "states.bin")
    about = {
        "layers": layers,
        "dim": dim,
        "stride": encoder.stride,
        "source": source,
        "bytes": size,
        "digest": _digest(data, encoder),
        "frames": frames.tolist(),
    }
    (folder / "features.json").write_text(json.dumps(about) + "\n")


@dataclass
class Features:
    """States of one upstream on one corpus, read in batches by row of the corpus table."""

    layers: int
    dim: int
    stride: int
    frames: np.ndarray
    device: torch.device
    _starts: Tensor
    _flat: Tensor | None
    _live: tuple[Upstream, Corpus, bool] | None

    @property
    def seconds_per_frame(self) -> float:
        """Seconds between two frames."""
        return self.stride / SAMPLE_RATE

    def batch(
        self,
        rows: np.ndarray,
        width: int,
        layer: np.ndarray | None = None,
        starts: np.ndarray | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Gather a batch of states.

        Args:
            rows: (B,) rows of the corpus table, or (R, B) for R runs with a batch each.
            width: T, at least the longest of the rows in frames, unless they are cropped.
            layer: (R,) a layer for each run; the states then have L = 1.
            starts: of the shape of ``rows``, first frame of each; at most ``width`` frames follow.
                The states of a crop are those of the whole utterance.

        Returns:
            states (L, B, T, D) or (R, L, B, T, D), bfloat16, zero beyond each utterance, and
            lengths of the shape of ``rows``, both on the device.
        """
        if self._live:
            flat, begins, unique = self._encode(rows)
            lookup = np.searchsorted(unique, rows)
        else:
            assert self._flat is not None
            flat, begins, lookup = self._flat, self._starts, rows
        home = flat.device
        index = torch.from_numpy(np.ascontiguousarray(lookup)).to(home)
        held, begin = self.frames[rows], begins[index]
        if starts is not None:
            held = np.minimum(held - starts, width)
            begin = begin + torch.from_numpy(starts).to(home)
        lengths = torch.from_numpy(np.ascontiguousarray(held)).to(home)
        offsets = torch.arange(width, device=home)
        place = begin.unsqueeze(-1) + offsets
        place = place.where(offsets < lengths.unsqueeze(-1), flat.shape[0] - 1)
        if layer is None:
            states = flat[place].movedim(-2, -4)
        else:
            chosen = torch.from_numpy(layer).to(home).view(-1, 1, 1)
            states = flat[place, chosen].unsqueeze(1)
        return states.to(self.device), lengths.to(self.device)

    def _encode(self, rows: np.ndarray) -> tuple[Tensor, Tensor, np.ndarray]:
        assert self._live is not None
        upstream, corpus, normalize = self._live
        unique = np.unique(rows)
        frames = self.frames[unique]
        flat = torch.zeros(
            int(frames.sum()) + 1, self.layers, self.dim, dtype=STORED, device=self.device
        )
        _fill(flat, upstream, corpus, unique, frames, self.device, normalize, quiet=True)
        return flat, _begin(frames, self.device), unique


def open_features(study: Study, upstream: str, corpus: str, device: torch.device) -> Features:
    """Open the stream that :func:`compute` prepared; for ``memory``, fill it now.

    Raises:
        StudyError: a file of the features or of the corpus is not there, or not whole.
    """
    folder = study.features_dir(upstream, corpus)
    about = json_of(folder / "features.json")
    frames = np.asarray(about["frames"])
    layers, dim, source = about["layers"], about["dim"], about["source"]
    shape = (int(frames.sum()) + 1, layers, dim)
    flat, live = None, None
    if source == "disk":
        count = shape[0] * layers * dim
        demand_size(folder / "states.bin", count * STORED.itemsize)
        flat = torch.from_file(str(folder / "states.bin"), size=count, dtype=STORED).view(shape)
        if choose(study, about["bytes"], device.type) == "memory":
            flat = flat.to(device)
    else:
        data = Corpus(study.corpus_dir(corpus))
        encoder = load_upstream(study, upstream, device)
        if source == "live":
            live = (encoder, data, study.normalize)
        else:
            flat = torch.zeros(shape, dtype=STORED, device=device)
            rows = np.arange(len(frames))
            _fill(flat, encoder, data, rows, frames, device, study.normalize)
    home = flat.device if flat is not None else device
    return Features(layers, dim, about["stride"], frames, device, _begin(frames, home), flat, live)


def _begin(frames: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(np.cumsum([0, *frames[:-1]])).to(device)


def _fill(
    flat: Tensor,
    encoder: Upstream,
    data: Corpus,
    rows: np.ndarray,
    frames: np.ndarray,
    device: torch.device,
    normalize: bool,
    quiet: bool = False,
) -> None:
    """Encode utterances, longest first in batches of equal audio, into ``flat``."""
    starts = np.cumsum([0, *frames[:-1]])
    budget = (800 if device.type == "cuda" else 40) * SAMPLE_RATE
    samples = data.table["samples"].to_numpy()[rows]
    batches: list[list[int]] = []
    width = 0
    for position in np.argsort(-samples, kind="stable"):
        if not batches or (len(batches[-1]) + 1) * width > budget:
            batches.append([])
            width = samples[position]
        batches[-1].append(int(position))
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        for positions in batches if quiet else track(batches, "encoding"):
            states, _ = encoder(waveforms(data, rows[positions], device))
            if normalize:
                states = torch.nn.functional.layer_norm(states.float(), states.shape[-1:])
            stored = states.to(STORED).permute(1, 2, 0, 3)
            for b, p in enumerate(positions):
                count = int(frames[p])
                flat[starts[p] : starts[p] + count] = stored[b, :count].to(flat.device)


def waveforms(data: Corpus, rows: np.ndarray, device: torch.device) -> list[Tensor]:
    """Return recordings as an encoder takes them, (samples,) float32 each."""
    return [
        torch.from_numpy(data.waveform(int(row)).astype(np.float32) / 32767).to(device)
        for row in rows
    ]


def weights_digest(encoder: Upstream) -> str:
    """Return the SHA-256 of an encoder's weights."""
    digest = hashlib.sha256()
    for key, value in sorted(encoder.state_dict().items()):
        digest.update(key.encode())
        digest.update(value.cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _digest(data: Corpus, encoder: Upstream) -> str:
    """Name what a cell is trained on: the table, its checksums of the recordings, the weights."""
    rows = pd.util.hash_pandas_object(data.table, index=False).to_numpy()
    return hashlib.sha256(rows.tobytes() + weights_digest(encoder).encode()).hexdigest()[:16]


def _frames(encoder: Upstream, data: Corpus) -> np.ndarray:
    """Return every utterance's length in frames, by the encoder's own count."""
    samples = data.table["samples"].to_numpy()
    return np.asarray([encoder.frames(int(n)) for n in samples])
