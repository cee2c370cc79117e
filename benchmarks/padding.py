"""Frames that are computed for a frame of speech, by how batches are made up.

LibriSpeech-like lengths and phones (:mod:`speechlike`), 50 frames a second, batches of as many
utterances as the published recipes have. A CPU is enough::

    python benchmarks/padding.py
"""

import numpy as np
from speechlike import CORPUS, PHONES_A_SECOND, durations

from ssl_bench.neighbours import grouped_batches, groups_of
from ssl_bench.sampling import training_batches

RATE = 50
STEPS = 4000
MADE = {
    "buckets": ("buckets", 32, 32),
    "random": ("random", 32, 1),
    "sorted (ASR)": ("sorted", 16, 16),
    "sorted, 4 groups of 8 (ML-SUPERB)": ("sorted", 32, 8),
    "sliding (SF)": ("sliding", 32, 32),
    "sliding, 2 groups of 16 (PR)": ("sliding", 32, 16),
}
"""How batches are made, their utterances, and how many lie beside each other."""


def padding(way: str, utterances: int, beside: int, widths: int, seeds: int) -> float:
    """Return the mean of padded frames over that of frames, for runs of so many seeds."""
    rng = np.random.default_rng(0)
    seconds = durations(CORPUS, rng)
    phones = (seconds * rng.uniform(*PHONES_A_SECOND, CORPUS)).astype(int)
    frames = (seconds * RATE).astype(int)
    rows, runs = np.arange(CORPUS), list(range(seeds))
    if way == "buckets":
        batches = training_batches(rows, frames, None, widths, STEPS, runs, utterances=utterances)
    else:
        groups = groups_of(way, phones if way == "sliding" else frames, beside)
        each = utterances // beside
        batches = grouped_batches(rows, frames, groups, each, widths, STEPS, runs)
    sums = np.array([(b.rows.size * b.width, frames[b.rows].sum()) for b in batches]).sum(0)
    return float(sums[0] / sums[1])


def main() -> None:
    """Print a table: a row for each way, for one seed and for five."""
    print("| batches | `buckets: 1` | `buckets: 4` | `buckets: 8` | `buckets: 4`, five seeds |")
    print("|---|---|---|---|---|")
    for name, made in MADE.items():
        found = [padding(*made, *sizes) for sizes in ((1, 1), (4, 1), (8, 1), (4, 5))]
        print(f"| {name} | {' | '.join(f'{value:.2f}' for value in found)} |")


if __name__ == "__main__":
    main()
