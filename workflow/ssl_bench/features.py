"""The stream of features: states of one upstream on one corpus, computed once, read many times.

States are kept as frames, each a contiguous L × D block in the study's ``state_dtype``, those of an
utterance side by side: a batch is a gather of them, and padding is zero. They lie in the memory of
the training device, or in shards on disk (``store.py``), or (``live``) are made anew for every
batch from the waveforms; the reader cannot tell which.

With ``normalize: true`` in the study every state is layer-normed (no affine) before it is stored,
so that no interface repeats it at every step; interfaces are then made with ``normalize=False``.
"""

import hashlib
import json
import os
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

import ssl_bench
from ssl_bench.audio import SAMPLE_RATE
from ssl_bench.corpus import Corpus
from ssl_bench.device import demand_bf16, slots, upload
from ssl_bench.encoding import (
    DTYPES,
    Recordings,
    encode,
    frames_of,
    groups,
    load_upstream,
    waveforms,
    weights_digest,
)
from ssl_bench.errors import StudyError
from ssl_bench.fitting import fitting
from ssl_bench.progress import amount, say, track
from ssl_bench.read_back import json_of
from ssl_bench.reading import Extended, Held, Host, Packed, fresh, pack, padded
from ssl_bench.sampling import Batch
from ssl_bench.store import ABOUT, Store, divide, room
from ssl_bench.study import Source, Study
from ssl_bench.upstreams.base import Upstream

__all__ = [
    "STORED",
    "Features",
    "choose",
    "compute",
    "load_upstream",
    "open_features",
    "waveforms",
    "weights_digest",
]

STORED = torch.bfloat16
"""The dtype of states where the study says nothing else."""
SHARE = 0.4
"""Of a job's part of a GPU's memory, that states may take."""
LIBRARIES = ("torch", "torchaudio", "transformers", "s3prl")
"""Whose versions are in the stamp of the disk cache."""


def choose(study: Study, size: int, device: str) -> Source:
    """Choose where ``size`` bytes of states are kept, unless the study says it.

    In the GPU's memory where they take at most 40 % of a job's part of it, else on disk within the
    study's ``cache_gb``, else nowhere: encoded for every batch.
    """
    if study.cache != "auto":
        return study.cache
    if device == "cuda" and size <= SHARE * gpu_memory():
        return "memory"
    return "disk" if size <= study.cache_gb * 1e9 else "live"


def gpu_memory() -> float:
    """Return a job's part of a GPU's memory, in bytes."""
    return torch.cuda.mem_get_info()[1] / slots()


def compute(study: Study, upstream: str, corpus: str, device: torch.device) -> None:
    """The features stage: probe the sizes, choose a source, and complete the disk cache if chosen.

    Writes ``features.json`` (L, D, frames of every utterance, source, bytes, a digest of labels,
    recordings and encoder) and, for ``disk``, the shards that are not there yet.

    Raises:
        StudyError: the disk is full, or a GPU has no bf16.
    """
    folder = study.features_dir(upstream, corpus)
    folder.mkdir(parents=True, exist_ok=True)
    data = Corpus(study.corpus_dir(corpus))
    dtype = _dtype(study, device)
    encoder = load_upstream(study, upstream, device)
    layers, dim = encoder.probe()
    frames = frames_of(encoder, data)
    size = (int(frames.sum()) + 1) * layers * dim * dtype.itemsize
    about: dict[str, Any] = {
        "layers": layers,
        "dim": dim,
        "stride": encoder.stride,
        "bytes": size,
        "digest": _digest(data, encoder),
        "frames": frames.tolist(),
    }
    samples = data.table["samples"].to_numpy()
    order = groups(samples, device)
    sizes = [int(frames[group].sum()) * layers * dim * dtype.itemsize for group in order]
    key, stamp = _identity(study, upstream, data, encoder, device)
    ends = np.cumsum(divide(sizes))
    rows = [np.concatenate(order[a:b]) for a, b in zip([0, *ends], ends, strict=False)]
    store = Store(study.states_dir(key), stamp, frames, rows, (layers, dim), dtype)

    source, why = _place(study, upstream, store, size, device)
    hours = samples.sum() / SAMPLE_RATE / 3600
    shape = f"{layers} × {dim} in {study.state_dtype}"
    say(f"{upstream} on {corpus}: {hours:.2f} h, {shape}, {amount(size)} → {source} ({why})")
    if source == "disk":
        _complete(store, encoder, data, device, study.normalize)
        (store.folder / ABOUT).write_text(
            json.dumps({"study": study.name, "upstream": upstream, "corpus": corpus, **stamp})
        )
        about["store"] = {"key": key, "stamp": stamp, "rows": [part.tolist() for part in rows]}
    (folder / "states.bin").unlink(missing_ok=True)  # what versions before shards kept
    partial = folder / f".features.{os.getpid()}"
    partial.write_text(json.dumps({**about, "source": source}) + "\n")
    partial.replace(folder / "features.json")


def _place(
    study: Study, upstream: str, store: Store, size: int, device: torch.device
) -> tuple[Source, str]:
    """Return where states are kept and, in a few words, why."""
    if study.fine_tune_of(upstream) is not None:
        return "live", "it is fine-tuned"
    source = choose(study, size, device.type)
    auto = study.cache == "auto"
    said = f"cache: {study.cache}"
    if source == "memory":
        limit = f"{SHARE:.0%} of a job's {amount(gpu_memory())}" if auto else said
        return source, f"of the {device.type}; {limit}; encoded when a job starts"
    if source == "live":
        limit = f"cache_gb: {study.cache_gb:g}" if auto else said
        return source, f"{limit}; encoded for every batch"
    absent = sum(store.shards[number].size for number in store.faults())
    free = room(store.folder)
    limit = f"cache_gb: {study.cache_gb:g}" if auto else said
    found = f"{amount(absent)} to write, {amount(free)} free"
    if absent > free and auto:
        return "live", f"{found}; encoded for every batch"
    return source, f"{store.folder}; {limit}; {found}"


def _dtype(study: Study, device: torch.device) -> torch.dtype:
    if study.state_dtype == "bf16":
        demand_bf16(device, "state_dtype: bf16", "fp16 or fp32")
    return DTYPES[study.state_dtype]


def _complete(
    store: Store, encoder: Upstream, data: Corpus, device: torch.device, normalize: bool
) -> None:
    samples = data.table["samples"].to_numpy()

    def split(rows: np.ndarray) -> list[np.ndarray]:
        return [rows[group] for group in groups(samples[rows], device)]

    def states(rows: np.ndarray) -> Tensor:
        return encode(encoder, data, rows, device, normalize, store.dtype)

    store.complete(split, states)


def _identity(
    study: Study, upstream: str, data: Corpus, encoder: Upstream, device: torch.device
) -> tuple[str, dict[str, Any]]:
    """Return the name of a disk cache, and its stamp: all that determines the states in it.

    The name has what a study asks for; what may change under it is in the stamp alone, so that a
    cache of another checkpoint or version is found, told and replaced, and not left behind.
    """
    heard = data.table[["samples", "crc32"]]
    asked = {
        "config": _hash(json.dumps(study.upstream_slice(upstream), sort_keys=True, default=str)),
        "recordings": _hash(pd.util.hash_pandas_object(heard, index=False).to_numpy().tobytes()),
        "normalize": study.normalize,
        "dtype": study.state_dtype,
        "computed": study.state_dtype if device.type == "cuda" else "fp32",
    }
    versions = {name: version(name) for name in LIBRARIES if find_spec(name)}
    stamp = {
        **asked,
        "weights": weights_digest(encoder),
        "ssl_bench": ssl_bench.__version__,
        **versions,
    }
    return _hash(json.dumps(asked, sort_keys=True)), stamp


def _hash(value: str | bytes) -> str:
    return hashlib.sha256(value.encode() if isinstance(value, str) else value).hexdigest()[:16]


@dataclass(frozen=True)
class Cropped:
    """Crops that are cut from waveforms: their ``samples``, and the ``frames`` that these make.

    ``lengths`` (N,) are the samples of all recordings. ``kept`` is as that of :class:`Features`.
    """

    samples: int
    frames: int
    lengths: np.ndarray
    kept: int | None = None


@dataclass
class Features:
    """States of one upstream on one corpus, read in batches by row of the corpus table."""

    layers: int
    dim: int
    stride: int
    frames: np.ndarray
    device: torch.device
    _starts: Tensor = field(default_factory=lambda: torch.empty(0))
    _flat: Tensor | None = None
    _live: tuple[Upstream, Corpus, bool] | None = None
    dtype: torch.dtype = field(default=STORED, kw_only=True)
    host: Host | None = field(default=None, kw_only=True)
    """What the host reads states from, where they are not in a GPU's memory."""
    cropped: Cropped | None = field(default=None, kw_only=True)
    """Crops begin at samples of the waveform, and are these; None: they are cut from states."""
    kept: np.ndarray | None = field(default=None, kw_only=True)
    """(N,) frames that the encoder gives, where ``frames`` are others (``lengths.py``); or None."""

    def __post_init__(self) -> None:
        """States in the host's memory are read as those on disk are."""
        if self._flat is not None and self._flat.device.type == "cpu":
            held = Held(self._flat, self._starts)
            self.host = held if self.kept is None else Extended(held, self.kept)

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
            states (L, B, T, D) or (R, L, B, T, D), in the study's ``state_dtype``,
            zero beyond each utterance, and lengths of the shape of ``rows``, both on the device.

        Raises:
            StudyError: they do not fit in memory; says what would.
        """
        held = self.held(rows, width, starts)
        with fitting(self, rows.shape, width, layer):
            if self.host is not None and self.device.type == "cpu":
                depth = self.layers if layer is None else 1
                out = fresh((*rows.shape, width, depth, self.dim), self.dtype)
                padded(self.host, rows, held, starts, layer, out)
                return out.movedim(-2, -4), torch.from_numpy(held)
            if self.host is not None:
                wanted = pack(rows, held, starts, layer)
                flat = self.staging(wanted)
                wanted.read(self.host, flat)
                return self.unpack(wanted, flat.to(self.device), held, width, layer)
            if self._live:
                flat, begins, unique = self._encode(rows)
                lookup = np.searchsorted(unique, rows)
            else:
                assert self._flat is not None
                flat, begins, lookup = self._flat, self._starts, rows
            begin = begins[upload(torch.from_numpy(np.ascontiguousarray(lookup)), self.device)]
            last = self.last(rows)
            if starts is not None:
                begin = begin + upload(torch.from_numpy(starts), self.device)
                last = None if last is None else last - starts
            return self._gather(flat, begin, held, width, layer, last)

    def held(self, rows: np.ndarray, width: int, starts: np.ndarray | None) -> np.ndarray:
        """Return how many frames of each row a batch holds, in the shape of ``rows``."""
        frames = self.frames[rows]
        return frames if starts is None else np.minimum(frames - starts, width)

    def last(self, rows: np.ndarray) -> np.ndarray | None:
        """Return each row's last frame, which is repeated, in the shape of ``rows``; None: none."""
        return None if self.kept is None else self.kept[rows] - 1

    def staging(self, wanted: Packed, pinned: bool = False) -> Tensor:
        """Return the host's memory for what a batch wants, zero at its end: (frames + 1, k, D)."""
        depth = self.layers if wanted.layers is None else len(wanted.layers)
        shape = (wanted.frames + 1, depth, self.dim)
        flat = torch.empty(shape, dtype=self.dtype, pin_memory=pinned)
        flat[-1] = 0
        return flat

    def unpack(
        self,
        wanted: Packed,
        flat: Tensor,
        held: np.ndarray,
        width: int,
        layer: np.ndarray | None,
    ) -> tuple[Tensor, Tensor]:
        """Return the batch whose packed states, as :meth:`staging` has them, are on the device."""
        if layer is not None and wanted.layers is not None:
            layer = np.searchsorted(wanted.layers, layer)
        begin = upload(torch.from_numpy(wanted.begins), self.device)
        return self._gather(flat, begin, held, width, layer)

    def _gather(
        self,
        flat: Tensor,
        begin: Tensor,
        held: np.ndarray,
        width: int,
        layer: np.ndarray | None,
        last: np.ndarray | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Gather on the device; the last frame of ``flat`` is zero and stands for padding."""
        home = flat.device
        lengths = upload(torch.from_numpy(np.ascontiguousarray(held)), home)
        offsets = torch.arange(width, device=home)
        kept = offsets
        if last is not None:
            kept = offsets.minimum(upload(torch.from_numpy(last), home).unsqueeze(-1))
        place = begin.unsqueeze(-1) + kept
        place = place.where(offsets < lengths.unsqueeze(-1), flat.shape[0] - 1)
        if layer is None:
            return flat[place].movedim(-2, -4), lengths
        chosen = upload(torch.from_numpy(layer), home).view(-1, 1, 1)
        return flat[place, chosen].unsqueeze(1), lengths

    @property
    def live(self) -> bool:
        """Whether states are made anew whenever they are read."""
        return self._live is not None

    def page(self, batch: Batch) -> "Features":
        """Return a stream that holds a batch at least: this one, if nothing must be encoded."""
        if self._live is None:
            return self
        with fitting(self, batch.rows.shape, batch.width, None):
            flat, begins, unique = self._encode(batch.rows)
        starts = torch.zeros(len(self.frames), dtype=begins.dtype, device=begins.device)
        starts[upload(torch.from_numpy(unique), begins.device)] = begins
        return replace(self, _starts=starts, _flat=flat, _live=None)

    def _encode(self, rows: np.ndarray) -> tuple[Tensor, Tensor, np.ndarray]:
        assert self._live is not None
        upstream, corpus, normalize = self._live
        unique = np.unique(rows)
        frames = self.frames if self.kept is None else self.kept
        flat, starts = fill(
            upstream, corpus, unique, frames, self.device, normalize, self.dtype, quiet=True
        )
        return flat, starts, unique


def open_features(study: Study, upstream: str, corpus: str, device: torch.device) -> Features:
    """Open the stream that :func:`compute` prepared; for ``memory``, fill it now.

    A shard that is not whole, or of another stamp, is told and encoded anew.

    Raises:
        StudyError: shards are to be encoded anew, and the disk is full or the encoder another one.
    """
    dtype = _dtype(study, device)
    about = json_of(study.features_dir(upstream, corpus) / "features.json")
    if about["source"] == "disk" and "store" not in about:
        say(f"{upstream} on {corpus}: the disk cache is of a version before shards; encoded anew")
        compute(study, upstream, corpus, device)
        return open_features(study, upstream, corpus, device)
    frames = np.asarray(about["frames"])
    size, source = (about["layers"], about["dim"]), about["source"]
    starts, flat, live, host = torch.empty(0), None, None, None
    if source == "disk":
        store = open_store(study, about)
        said = {"dtype": study.state_dtype, "normalize": study.normalize}
        if said != (made := {key: about["store"]["stamp"][key] for key in said}):
            raise StudyError(
                f"{study.features_dir(upstream, corpus)}: states of {made}, expected {said}; run "
                "the features stage again"
            )
        if store.faults():
            _mend(study, upstream, corpus, device, store)
        if device.type == "cuda" and choose(study, about["bytes"], device.type) == "memory":
            flat, starts = store.lift(device), torch.from_numpy(store.starts).to(device)
        else:
            host = store.open()
        where = "read from" if flat is None else "lifted onto the GPU from"
        say(f"{upstream} on {corpus}: {amount(store.size)} of states {where} {store.folder}")
    else:
        data = Corpus(study.corpus_dir(corpus))
        encoder = load_upstream(study, upstream, device)
        if source == "live":
            live = (encoder, data, study.normalize)
        else:
            rows = np.arange(len(frames))
            flat, starts = fill(encoder, data, rows, frames, device, study.normalize, dtype)
    return Features(
        *size, about["stride"], frames, device, starts, flat, live, dtype=dtype, host=host
    )


def open_store(study: Study, about: dict[str, Any]) -> Store:
    """Return the disk cache that a ``features.json`` names."""
    named = about["store"]
    return Store(
        study.states_dir(named["key"]),
        named["stamp"],
        np.asarray(about["frames"]),
        [np.asarray(rows) for rows in named["rows"]],
        (about["layers"], about["dim"]),
        DTYPES[named["stamp"]["dtype"]],
    )


def _mend(study: Study, upstream: str, corpus: str, device: torch.device, store: Store) -> None:
    """Encode anew what is not whole, if the encoder is the one of the other shards."""
    data = Corpus(study.corpus_dir(corpus))
    encoder = load_upstream(study, upstream, device)
    now = _identity(study, upstream, data, encoder, device)[1]
    then = store.shards[0].stamp
    other = [key for key in now if key != "computed" and now[key] != then.get(key)]
    if other:
        about = study.features_dir(upstream, corpus) / "features.json"
        number, problem = next(iter(store.faults().items()))
        raise StudyError(
            f"{store.shards[number].path}: {problem}; not encoded anew, for {', '.join(other)} are "
            f"not those of {about} any more; remove that file and start again"
        )
    _complete(store, encoder, data, device, study.normalize)


def fill(
    encoder: Upstream,
    data: Recordings,
    rows: np.ndarray,
    frames: np.ndarray,
    device: torch.device,
    normalize: bool,
    dtype: torch.dtype,
    quiet: bool = False,
) -> tuple[Tensor, Tensor]:
    """Encode utterances (N,) → their states and a row of zeros (frames + 1, L, D), starts (N,)."""
    order = groups(data.table["samples"].to_numpy()[rows], device)
    starts = np.empty(len(rows), dtype=np.int64)
    flat: Tensor | None = None
    at = 0
    for group in order if quiet else track(order, "encoding"):
        own = rows[group]
        states = encode(encoder, data, own, device, normalize, dtype)
        if flat is None:
            total = int(frames[rows].sum())
            flat = torch.empty(total + 1, *states.shape[1:], dtype=dtype, device=device)
            flat[-1] = 0
        flat[at : at + len(states)] = states
        starts[group] = at + np.cumsum([0, *frames[own][:-1]])
        at += len(states)
    assert flat is not None
    return flat, upload(torch.from_numpy(starts), device)


def _digest(data: Corpus, encoder: Upstream) -> str:
    """Name what a cell is trained on: the table, its checksums of the recordings, the weights."""
    rows = pd.util.hash_pandas_object(data.table, index=False).to_numpy()
    return hashlib.sha256(rows.tobytes() + weights_digest(encoder).encode()).hexdigest()[:16]
