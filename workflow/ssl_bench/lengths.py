"""How many frames an utterance has, where a recipe says other than its encoder.

``frames: ceil`` gives n samples ⌈n / stride⌉ frames, as ``s3prl.nn.S3PRLUpstream`` does, through
which ESPnet reads: the encoder's last frame is repeated, or what it has beyond them is cut off.
States are kept as the encoder gives them, and made longer when a batch is gathered.
"""

from dataclasses import replace
from typing import TypeVar

import numpy as np
import pandas as pd

from ssl_bench.errors import StudyError
from ssl_bench.features import Features
from ssl_bench.reading import Extended

TOLERATED = 4
"""Frames that an encoder may have too many or too few: fewer than s3prl's runner's five."""

AnyFeatures = TypeVar("AnyFeatures", bound=Features)


def counted(features: AnyFeatures, recordings: pd.DataFrame, frames: str) -> AnyFeatures:
    """Return a stream whose utterances, and crops of waveforms, are as long as ``frames`` says.

    Args:
        features: the stream.
        recordings: ``id`` and ``samples`` of its utterances.
        frames: the key of ``training``.

    Raises:
        StudyError: the encoder's own count of an utterance is far from it: its stride is another.
    """
    if frames == "encoder":
        return features
    samples, kept, cropped = recordings["samples"].to_numpy(), features.frames, features.cropped
    wanted = _ceil(samples, features.stride)
    apart = abs(wanted - kept)
    if apart.max() > TOLERATED:
        n = int(apart.argmax())
        raise StudyError(
            f"training.frames: 'ceil': found {kept[n]} frames of {recordings['id'].iat[n]!r} "
            f"({samples[n]} samples), expected {wanted[n]} or up to {TOLERATED} more or fewer, for "
            f"the stride is {features.stride}; frames: encoder takes what there is"
        )
    if cropped is not None:
        (most,) = _ceil(np.array([cropped.samples]), features.stride).tolist()
        cropped = replace(cropped, frames=most, kept=cropped.frames)
    host = None if features.host is None else Extended(features.host, kept)
    return replace(features, frames=wanted, kept=kept, host=host, cropped=cropped)


def _ceil(samples: np.ndarray, stride: int) -> np.ndarray:
    return -(-samples // stride)
