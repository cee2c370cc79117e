"""Frames that are computed for a frame of speech, by how batches are made up.

LibriSpeech-like lengths and phones (:mod:`speechlike`), 50 frames a second, batches as each
published recipe makes them, but without crops. A CPU is enough::

    python benchmarks/padding.py
"""

import numpy as np
from speechlike import CORPUS, PHONES_A_SECOND, durations

from ssl_bench import registry
from ssl_bench.neighbours import grouped_batches, groups_of
from ssl_bench.recipe import Training
from ssl_bench.sampling import training_batches

RATE = 50
STEPS = 4000
BUCKETS = Training(batch_utterances=32)
PUBLISHED = ("ic", "sid", "asr", "mono_asr", "sf", "pr")
"""Kinds of tasks; of those with the same batches one."""


def padding(training: Training, seeds: int) -> float:
    """Return the frames computed for a frame of speech, for runs of so many seeds."""
    rng = np.random.default_rng(0)
    seconds = durations(CORPUS, rng)
    phones = (seconds * rng.uniform(*PHONES_A_SECOND, CORPUS)).astype(int)
    frames = (seconds * RATE).astype(int)
    rows, runs = np.arange(CORPUS), list(range(seeds))
    if training.batches == "buckets":
        size, widths = training.batch_utterances, training.buckets
        batches = training_batches(rows, frames, None, widths, STEPS, runs, utterances=size)
    else:
        order = phones if training.batches == "sliding" else frames
        groups = groups_of(training.batches, order, training.beside, training.last_batch)
        if training.halve_seconds is not None:
            groups = groups.halved(seconds > training.halve_seconds)
        made = training.groups, training.buckets, STEPS, runs
        batches = grouped_batches(rows, frames, groups, *made, cut=training.cut)
    computed = speech = 0
    for batch in batches:
        counted = np.ones(batch.rows.shape) if batch.weights is None else batch.weights > 0
        computed += batch.rows.size * batch.width
        speech += (frames[batch.rows] * counted).sum()
    return float(computed / speech)


def main() -> None:
    """Print a table: a row for each way, for one seed and for five."""
    print("| batches | `buckets: 1` | `buckets: 4` | `buckets: 8` | `buckets: 4`, five seeds |")
    print("|---|---|---|---|---|")
    rows = {"32 of a bucket": BUCKETS}
    for kind in PUBLISHED:
        training = registry.load("tasks", kind).RECIPE.training
        size = f"{training.batch_utterances // training.groups} × {training.groups}"
        rows[f"{kind}: {training.batches}, {size}"] = training
    for name, training in rows.items():
        found = []
        for widths, seeds in ((1, 1), (4, 1), (8, 1), (4, 5)):
            found.append(padding(training.model_copy(update={"buckets": widths}), seeds))
        print(f"| {name} | {' | '.join(f'{value:.2f}' for value in found)} |")


if __name__ == "__main__":
    main()
