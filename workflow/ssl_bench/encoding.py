"""Waveforms → states: which utterances are encoded together, and one such group at a time.

Groups are the same whatever keeps the states and whenever they are encoded, so that states that are
encoded anew are, on the same kind of device, the same to the last bit.
"""

import hashlib
from typing import Protocol

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ssl_bench import registry
from ssl_bench.audio import SAMPLE_RATE
from ssl_bench.corpus import Corpus
from ssl_bench.device import upload
from ssl_bench.errors import StudyError
from ssl_bench.study import Study
from ssl_bench.upstreams._checkpoints import demand
from ssl_bench.upstreams.base import Upstream

SECONDS = {"cuda": 800, "cpu": 40}
"""Of audio that are encoded at once, padding included."""
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
"""What a study's ``state_dtype`` names."""


class Recordings(Protocol):
    """What can be encoded: a corpus, or crops of one."""

    table: pd.DataFrame
    """``id`` and ``samples`` of each."""

    def waveform(self, row: int) -> np.ndarray:
        """Return one of them, (samples,) int16 at 16 kHz."""


def load_upstream(study: Study, name: str, device: torch.device | str) -> Upstream:
    """Load an upstream of a study onto a device.

    Raises:
        StudyError: it cannot be loaded, or its files have other sums than the study gives.
    """
    config = study.upstream_config(name)
    upstream: Upstream = registry.load("upstreams", config.kind).load(config)
    if config.sha256 is not None:
        demand(f"upstreams.{name}", config.sha256, upstream.files)
    return upstream.to(device)


def waveforms(data: Recordings, rows: np.ndarray, device: torch.device) -> list[Tensor]:
    """Return recordings as an encoder takes them, (samples,) float32 each; uploaded as one."""
    read = [data.waveform(int(row)) for row in rows]
    joined = upload(torch.from_numpy(np.concatenate(read)), device)
    return list((joined.float() / 32767).split([len(wave) for wave in read]))


def weights_digest(encoder: Upstream) -> str:
    """Return the SHA-256 of an encoder's weights."""
    digest = hashlib.sha256()
    for key, value in sorted(encoder.state_dict().items()):
        digest.update(key.encode())
        digest.update(value.cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def frames_of(encoder: Upstream, data: Corpus) -> np.ndarray:
    """Return every utterance's length in frames, by the encoder's own count."""
    samples = data.table["samples"].to_numpy()
    return np.asarray([encoder.frames(int(n)) for n in samples])


def groups(samples: np.ndarray, device: torch.device) -> list[np.ndarray]:
    """Return the places of utterances in groups of equal audio, longest first.

    Groups of what begins with the first utterance of a group are those from that group on.
    """
    budget = SECONDS[device.type] * SAMPLE_RATE
    made: list[list[int]] = []
    width = 0
    for place in np.argsort(-samples, kind="stable"):
        if not made or (len(made[-1]) + 1) * width > budget:
            made.append([])
            width = samples[place]
        made[-1].append(int(place))
    return [np.array(group) for group in made]


def encode(
    encoder: Upstream,
    data: Recordings,
    rows: np.ndarray,
    device: torch.device,
    normalize: bool,
    dtype: torch.dtype,
) -> Tensor:
    """Encode one group of utterances.

    Args:
        encoder: on ``device``; it computes in ``dtype`` on a GPU, else in fp32.
        data: the corpus.
        rows: (B,) rows of its table.
        device: where.
        normalize: whether every state is layer-normed, without affine.
        dtype: of the result.

    Returns:
        their states one after the other, (frames, L, D), without padding.

    Raises:
        StudyError: a state does not fit in fp16.
    """
    packed = encoder.packed(waveforms(data, rows, device), normalize, dtype)
    if dtype is torch.float16 and not packed.isfinite().all():
        raise StudyError(
            f"state_dtype: fp16: a state of {data.table['id'].iat[rows[0]]!r} or of its group is "
            "not finite or beyond 65,504; use bf16"
        )
    return packed
