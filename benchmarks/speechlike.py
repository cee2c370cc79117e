"""Batches that look like LibriSpeech's train-clean-100: its lengths, noise, drawn phones.

Lengths follow ``PERCENTILES``, with straight lines between them. icefall prints the percentiles of
train-clean-100 together with its copies at 0.9 and 1.1 of the speed
(``egs/librispeech/ASR/local/display_manifest_statistics.py``: 1.3 s to 18.8 s at 99.9 %); these are
of the recordings alone, fitted so that the three speeds together give icefall's to 0.15 s. Mean
12.7 s, 69 % from 12 to 16 s. The few utterances of 17.1 to 24.5 s are left out.

Every utterance has 10 to 13 phones a second, each of the 71 of SUPERB PR as likely as another, and
``<eos>`` at the end, as s3prl's ``downstream/ctc/text.py`` has it.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

SAMPLE_RATE = 16_000
PERCENTILES = {
    0: 1.4, 0.1: 2.0, 1: 2.5, 5: 4.2, 10: 6.4, 15: 8.4, 20: 10.3, 25: 11.9, 35: 12.8, 50: 14.2,
    65: 14.8, 75: 15.2, 85: 15.6, 90: 15.8, 95: 16.0, 99: 16.6, 100: 17.1,
}  # fmt: skip
"""Seconds of an utterance by percentile."""
PHONES_A_SECOND = (10.0, 13.0)
CLASSES = 74
"""Outputs of SUPERB PR's head: ``<pad>`` (the blank), ``<eos>``, ``<unk>`` and 71 phones."""
EOS, FIRST_PHONE = 1, 3
CORPUS = 28_539
"""Utterances of train-clean-100."""


@dataclass(frozen=True)
class Batch:
    """Utterances of one training step, on the CPU, the longest first.

    Args:
        waveforms: one (samples,) fp32 an utterance, at 16 kHz.
        targets: one (phones + 1,) int64 an utterance, from 1 (``<eos>``, the last) to 73.
    """

    waveforms: list[Tensor]
    targets: list[Tensor]

    @property
    def seconds(self) -> float:
        """Seconds of audio, without padding."""
        return sum(map(len, self.waveforms)) / SAMPLE_RATE

    @property
    def padded_seconds(self) -> float:
        """Seconds of audio when each utterance is as long as the longest."""
        return len(self.waveforms) * max(map(len, self.waveforms)) / SAMPLE_RATE


def draw(seconds: float = 195.0, seed: int = 0, similar: bool = False) -> Batch:
    """Draw utterances until their sum is as near to ``seconds`` as it gets (at least one).

    Args:
        similar: utterances of nearly one length, as s3prl's PR batches have (its loader sorts the
            corpus by number of phones and takes neighbours): neighbours among as many as the
            corpus has. (By length they are nearer to each other than by number of phones.)
    """
    rng = np.random.default_rng(seed)
    lengths = durations(CORPUS if similar else 1 + int(seconds), rng)
    if similar:
        lengths = np.sort(lengths)
        # The neighbourhood of a random utterance, far enough from the end to fill the batch.
        ends = np.flatnonzero(np.cumsum(lengths) >= seconds)
        last = rng.integers(ends[0] if len(ends) else len(lengths) - 1, len(lengths))
        lengths = lengths[last::-1]
    sums = np.cumsum(lengths)
    count = 1 + int(np.abs(sums - seconds).argmin())
    return utterances(lengths[:count], rng)


def durations(count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw the lengths of ``count`` utterances, in seconds."""
    return np.interp(rng.uniform(0, 100, count), list(PERCENTILES), list(PERCENTILES.values()))


def utterances(lengths: np.ndarray, rng: np.random.Generator) -> Batch:
    """Make a batch of utterances of these lengths in seconds."""
    noise = torch.Generator().manual_seed(int(rng.integers(2**31)))
    waveforms, targets = [], []
    for length in sorted(lengths, reverse=True):
        waveforms.append(0.1 * torch.randn(round(length * SAMPLE_RATE), generator=noise))
        phones = max(1, round(length * rng.uniform(*PHONES_A_SECOND)))
        drawn = rng.integers(FIRST_PHONE, CLASSES, phones)
        targets.append(torch.from_numpy(np.append(drawn, EOS)))
    return Batch(waveforms, targets)
