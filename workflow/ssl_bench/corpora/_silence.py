"""Cut silence out of a recording as sox's effect ``silence 1 0.1 0.1% -1 0.1 0.1%`` does.

s3prl prepares VoxCeleb1 for speaker verification with it, after it has lowered the level. It goes
along a recording in two turns: it drops samples until it has heard a tenth of a second above
the threshold, and copies until it has heard a tenth of a second below. Loudness is the root mean
square of the last 20 ms; each time that it begins to drop, it forgets what was before.
"""

import numpy as np

THRESHOLD = 0.001
"""0.1 % of full scale."""
DURATION = 0.1
"""Seconds that count as sound, or as silence."""


def trimmed(samples: np.ndarray, rate: int = 16_000) -> np.ndarray:
    """Return the samples (n,) without silence, (m,), m ≤ n; none at all where all is silence."""
    window, hold = rate // 50, round(DURATION * rate)
    kept = [samples[:0]]
    rest = samples
    while len(rest):
        loud = _loudness(rest, window) > THRESHOLD
        begin = _first_run(loud, hold)
        if begin is None:
            break
        length = _first_run(~loud[begin + hold :], hold)
        if length is None:
            kept.append(rest[begin:])
            break
        end = begin + hold + length
        kept.append(rest[begin:end])
        rest = rest[end + hold :]
    return np.concatenate(kept)


def _loudness(samples: np.ndarray, window: int) -> np.ndarray:
    """Return the root mean square of each sample and those before it, of ``window`` in all."""
    energy = np.cumsum(np.square(samples, dtype=np.float64))
    energy[window:] -= energy[:-window].copy()
    return np.sqrt(np.maximum(energy, 0) / window)


def _first_run(true: np.ndarray, length: int) -> int | None:
    """Return where the first run of ``length`` true values begins; None: there is none."""
    edges = np.flatnonzero(np.diff(true.astype(np.int8), prepend=0, append=0))
    begins, ends = edges[::2], edges[1::2]
    long = np.flatnonzero(ends - begins >= length)
    return int(begins[long[0]]) if len(long) else None
