"""Table 1 on PR over frozen, live features: this project's steps beside s3prl's own loop.

    python benchmarks/throughput.py --published FOLDER             # HuBERT Base on a GPU
    python benchmarks/throughput.py --shape large --no-s3prl
    python benchmarks/throughput.py --shape tiny --seconds 10 --steps 2 --device cpu --no-s3prl

Both sides train the eight interfaces of Table 1 on the same batches (``speechlike.py``), encoder
included, in one process. s3prl trains one run at a time and encodes for each (``s3prl_loop.py``);
here a batch is encoded once for all interfaces and runs, by the loop of ``training.py``:
``order: shared``, states in bf16, steps as the engine takes them. What is compared is seconds of
audio × runs trained in a second. A step of ours begins with int16 samples in the host's memory and
ends with updated weights.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import transformers
from random_hubert import SHAPES, TINY, write
from s3prl_loop import UPSTREAMS, Timing, describe, encoder_seconds, seconds_per_step
from s3prl_runner import TABLE_1
from speechlike import Batch, draw

import SSL_Interface
from ssl_bench import registry
from ssl_bench.features import Features
from ssl_bench.prefetch import readings
from ssl_bench.recipe import Training
from ssl_bench.runs import Joined, Run, Runs
from ssl_bench.sampling import Batch as Rows
from ssl_bench.steps import make_step
from ssl_bench.training import Course, Targets, learn
from ssl_bench.upstreams.transformers import TransformersUpstream

RATES = (1e-4, 3e-4, 1e-3, 3e-3)
SEEDS = (0, 1, 2)


class Held:
    """A corpus in the host's memory, in the place of one on disk."""

    def __init__(self, batches: list[Batch]) -> None:
        self._waves = [
            (wave.clamp(-1, 1) * 32767).to(torch.int16).numpy()
            for batch in batches
            for wave in batch.waveforms
        ]
        self.table = pd.DataFrame({"samples": [len(wave) for wave in self._waves]})

    def waveform(self, row: int) -> np.ndarray:
        """Return one recording, int16."""
        return self._waves[row]


@dataclass(frozen=True)
class Ours:
    """What steps of all interfaces together took."""

    runs: int
    seconds: float
    encoding: float
    audio_seconds: float
    peak_mib: float | None

    @property
    def rate(self) -> float:
        """Seconds of audio × runs in a second."""
        return self.runs * self.audio_seconds / self.seconds


def open_stream(shape: dict[str, Any], batches: list[Batch], device: torch.device) -> Features:
    """Make live features of the batches' utterances, row after row."""
    torch.manual_seed(0)
    encoder = TransformersUpstream(
        transformers.HubertModel(transformers.HubertConfig(**shape)), normalize=False
    ).to(device)
    corpus: Any = Held(batches)
    layers, dim = encoder.probe()
    frames = np.array([encoder.frames(n) for n in corpus.table["samples"]])
    nowhere = torch.zeros(len(frames), dtype=torch.int64, device=device)
    return Features(layers, dim, 320, frames, device, nowhere, None, (encoder, corpus, True))


def phone_task(batches: list[Batch]) -> Any:
    """Make the PR task of the batches' targets."""
    phones = [
        " ".join(f"p{n:02d}" for n in target[:-1].tolist())
        for batch in batches
        for target in batch.targets
    ]
    table = pd.DataFrame(
        {"id": [f"u{n}" for n in range(len(phones))], "split": "train", "phones": phones}
    )
    rest = table.iloc[:1]
    table = pd.concat([table, *(rest.assign(id=s, split=s) for s in ("dev", "test"))])
    module = registry.load("tasks", "pr")
    return module.Task(module.Config(kind="pr", corpus="c"), table)


def make_groups(features: Features, task: Any, runs: list[Run], names: list[str]) -> list[Runs]:
    """Make stacked runs of every interface."""
    groups = []
    for name in names:
        kind, options = TABLE_1[name]
        create = partial(
            SSL_Interface.create,
            kind,
            num_layers=features.layers,
            dim=features.dim,
            normalize=False,  # the stream has done it
            **options,
        )
        fitted: Any = create().to(features.device)
        if fitted.needs_fit:
            rows = np.arange(min(8, len(features.frames)))
            fitted.fit_batch(*features.batch(rows, int(features.frames[rows].max())))
            fitted.fit_finish()

        def make(create: Any = create, fitted: Any = fitted) -> Joined:
            joined = create()
            if fitted.needs_fit:
                joined.load_state_dict(fitted.state_dict())
            return Joined(joined, task.head(joined.output_dim))

        groups.append(Runs(runs, make, features.device, stackable=task.stackable))
    return groups


def time_ours(
    shape: dict[str, Any],
    batches: list[Batch],
    runs: list[Run],
    names: list[str],
    device: torch.device,
    steps: int,
) -> Ours:
    """Time steps of all interfaces, each with all runs, on the batches in turn."""
    features, task = open_stream(shape, batches, device), phone_task(batches)
    groups = make_groups(features, task, runs, names)
    courses = [Course(group, Training(order="shared"), [0]) for group in groups]
    taken = make_step(*groups)
    targets = Targets(task, {name: row for row, name in enumerate(task.ids("train"))}, device)
    ends = np.cumsum([0, *(len(batch.waveforms) for batch in batches)])
    parts = [np.arange(a, b) for a, b in pairwise(ends)]

    def serve(number: int) -> Rows:
        rows = parts[number % len(parts)][None]
        return Rows(rows, int(features.frames[rows].max()))

    served = readings(features, map(serve, count()), courses)

    def step(number: int) -> None:
        learn(taken, courses, next(served), targets, 1.0)

    def encode(number: int) -> None:
        features.page(serve(number))

    seconds = mean_of_medians(step, steps, len(parts), device)
    peak = torch.cuda.max_memory_allocated() / 2**20 if device.type == "cuda" else None
    for group in groups:
        if not group.alive.all():
            raise FloatingPointError(f"{group.skeleton.interface}: a gradient is not finite")
    alone = mean_of_medians(encode, steps, len(parts), device)
    audio = statistics.mean(batch.seconds for batch in batches)
    return Ours(len(names) * len(runs), seconds, alone, audio, peak)


def mean_of_medians(
    step: Callable[[int], None], steps: int, batches: int, device: torch.device
) -> float:
    """Time steps after three rounds of warm-up; the mean over batches of each one's median."""
    for number in range(3 * batches):
        step(number)
    finish(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    times: list[list[float]] = [[] for _ in range(batches)]
    for number in range(steps * batches):
        began = time.perf_counter()
        step(number)
        finish(device)
        times[number % batches].append(time.perf_counter() - began)
    return statistics.mean(statistics.median(each) for each in times)


def finish(device: torch.device) -> None:
    """Wait until a GPU has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def time_s3prl(
    shape: dict[str, Any], batches: list[Batch], options: argparse.Namespace, autocast: str | None
) -> tuple[Timing, list[Timing]]:
    """Time s3prl's encoder and its steps for every interface."""
    common: dict[str, Any] = {
        "upstream": options.upstream,
        "device": options.device,
        "steps": max(options.s3prl_steps, len(batches)),
        "warm_up": 2,
        "autocast": autocast,
    }
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = write(options.upstream, shape, Path(folder))
        encoder = encoder_seconds(batches, checkpoint, **common)
        return encoder, [
            seconds_per_step(name, batches, checkpoint, published=options.published, **common)
            for name in options.interfaces
        ]


def main() -> None:
    """Print both sides and the ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", choices=[*SHAPES, "tiny"], default="base")
    parser.add_argument("--upstream", choices=UPSTREAMS, default=UPSTREAMS[0], help="s3prl's")
    parser.add_argument("--interfaces", nargs="*", choices=TABLE_1, default=list(TABLE_1))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seconds", type=float, default=195.0, help="of audio in a batch")
    parser.add_argument("--batches", type=int, default=2, help="served in turn")
    parser.add_argument("--similar", action="store_true", help="utterances of nearly one length")
    parser.add_argument("--steps", type=int, default=10, help="ours, timed, a batch")
    parser.add_argument("--s3prl-steps", type=int, default=6, help="s3prl's, timed")
    parser.add_argument("--no-s3prl", action="store_true", help="time this project alone")
    parser.add_argument("--published", type=Path, help="folder of the published package")
    parser.add_argument("--json", type=Path, help="write all numbers there")
    options = parser.parse_args()
    device = torch.device(options.device)
    shape = TINY if options.shape == "tiny" else SHAPES[options.shape]
    batches = [draw(options.seconds, seed, options.similar) for seed in range(options.batches)]
    options.autocast = None
    facts = {k: v for k, v in describe(options, batches).items() if k != "precision"}
    print(", ".join(f"{key} {value}" for key, value in facts.items()))
    grids = {
        "one run an interface": [Run(0, 1e-3)],
        "4 rates × 3 seeds": [Run(seed, rate) for rate in RATES for seed in SEEDS],
    }
    found: dict[str, Any] = {"facts": facts}
    ours = {}
    for name, runs in grids.items():
        ours[name] = time_ours(shape, batches, runs, options.interfaces, device, options.steps)
        one = ours[name]
        print(
            f"ours, {name}: {one.runs} runs, {one.seconds * 1e3:.1f} ms a step, of which encoding "
            f"{one.encoding * 1e3:.1f} ({one.audio_seconds / one.encoding:.0f} times real time), "
            f"{one.rate:.0f} audio s × runs / s, peak {one.peak_mib or float('nan'):.0f} MiB",
            flush=True,
        )
        found[f"ours, {name}"] = {**vars(one), "rate": one.rate}
        if device.type == "cuda":
            torch.cuda.empty_cache()
    for autocast in () if options.no_s3prl else (None, "bf16"):
        encoder, timings = time_s3prl(shape, batches, options, autocast)
        rate = len(timings) * encoder.audio_seconds / sum(t.seconds for t in timings)
        label = "s3prl, " + (f"{autocast} autocast" if autocast else "fp32 as shipped")
        each = ", ".join(f"{t.interface} {t.seconds * 1e3:.0f}" for t in timings)
        print(
            f"{label}: encoder {encoder.seconds * 1e3:.0f} ms; ms a step: {each}; "
            f"{rate:.0f} audio s × runs / s, peak {max(t.peak_mib or 0 for t in timings):.0f} MiB"
        )
        ratios = {name: one.rate / rate for name, one in ours.items()}
        print("    ours beside it: " + ", ".join(f"{n} {r:.1f}×" for n, r in ratios.items()))
        found[label] = {
            "encoder": encoder.seconds,
            "steps": {t.interface: t.seconds for t in timings},
            "rate": rate,
            "ratios": ratios,
        }
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
