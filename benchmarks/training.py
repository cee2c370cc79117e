"""How much a step of R runs together costs, beside R steps of one run: ms a step and the ratios.

    python benchmarks/training.py --runs 5 --task pr

``together`` is the step that the engine takes: of stacked runs where that pays (``stacking.py``
compares both), on a GPU recorded as CUDA graphs where the head allows it, else eager. States are
random, of the embedded encoder's shape; the head is the task's own.
"""

import argparse
import platform
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
import torch
from torch import Tensor

import SSL_Interface
from ssl_bench import registry
from ssl_bench.features import STORED, Features
from ssl_bench.runs import Joined, Run, Runs
from ssl_bench.sampling import training_batches
from ssl_bench.steps import EagerStep, Step, make_step, take
from ssl_bench.tasks.base import Task
from ssl_bench.training import padded

OPTIONS = {"grouped_weighted_sum": {"groups": 3}}
SKIP = {"single_layer", "pca_concat"}


def stream(device: torch.device, utterances: int, layers: int, dim: int) -> Features:
    """Make random states of utterances of 2 to 5 seconds."""
    frames = np.random.default_rng(0).integers(100, 250, size=utterances)
    flat = torch.randn(int(frames.sum()) + 1, layers, dim, device=device).to(STORED)
    flat[-1] = 0
    starts = torch.from_numpy(np.cumsum([0, *frames[:-1]])).to(device)
    return Features(layers, dim, 320, frames, device, starts, flat, None)


def table(utterances: int) -> pd.DataFrame:
    """Make labels for every task."""
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "id": [f"u{n}" for n in range(utterances)],
            "split": ["train"] * (utterances - 60) + ["dev"] * 30 + ["test"] * 30,
            "duration": 4.0,
            "phones": [" ".join(rng.choice(list("abcdefghij"), 20)) for _ in range(utterances)],
            "text": ["".join(rng.choice(list("ABCDEF "), 20)) for _ in range(utterances)],
            "speaker": [f"s{n % 10}" for n in range(utterances)],
            "language": [f"l{n % 10}" for n in range(utterances)],
            "keyword": [f"k{n % 10}" for n in range(utterances)],
            "prosody": [f"p{n % 5}" for n in range(utterances)],
        }
    )


def seconds_per_step(
    features: Features,
    task: Task,
    make: Callable[[], Joined],
    runs: list[Run],
    steps: int,
    kind: Callable[[Runs], Step],
) -> float:
    """Time training steps, input gathering included, after a quarter of them as warm-up."""
    group = Runs(runs, make, features.device, stackable=task.stackable)
    advance = kind(group)
    ids = task.ids("train")
    targets, lengths = padded([task.target(name) for name in ids], features.device)
    rows = np.arange(len(ids))
    seeds = [run.seed for run in runs]
    batches = training_batches(rows, features.frames[rows], 6400, 4, steps, seeds)
    for step, batch in enumerate(batches):
        if step == steps // 4:
            finish(features.device)
            began = time.perf_counter()
        states, count = features.batch(batch.rows, batch.width)
        place = torch.from_numpy(batch.rows).to(features.device).flatten()

        def losses(outputs: Tensor, out: Tensor, place: Tensor = place) -> Tensor:
            each = task.loss(outputs.flatten(0, 1), out.flatten(), targets[place], lengths[place])
            return each.view(len(outputs), -1).mean(1)

        take(advance, states, count, losses, 1.0)
    finish(features.device)
    return (time.perf_counter() - began) / (steps - steps // 4)


def finish(device: torch.device) -> None:
    """Wait until a GPU has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    """Print one row an interface."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", default="pr")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--layers", type=int, default=13)
    parser.add_argument("--dim", type=int, default=192)
    parser.add_argument("--interfaces", nargs="*")
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name() if device.type == "cuda" else platform.processor()
    print(f"{arguments.task}, {arguments.runs} runs, {name}, torch {torch.__version__}")
    module = registry.load("tasks", arguments.task)
    count = 2000 if device.type == "cuda" else 300
    task = module.Task(module.Config(kind=arguments.task, corpus="c"), table(count))
    features = stream(device, count, arguments.layers, arguments.dim)
    chosen = arguments.interfaces or [n for n in SSL_Interface.names() if n not in SKIP]
    heads = ("together ms", "eager ms", "one ms", "eager / together", "ones / together")
    print(f"{'interface':24}" + "".join(f"{head:>20}" for head in heads))
    for name_of_kind in chosen:

        def make(kind: str = name_of_kind) -> Joined:
            interface = SSL_Interface.create(
                kind, num_layers=arguments.layers, dim=arguments.dim, **OPTIONS.get(kind, {})
            )
            return Joined(interface, task.head(interface.output_dim))

        runs = [Run(seed, 1e-3) for seed in range(arguments.runs)]
        time_of = partial(seconds_per_step, features, task, make, steps=arguments.steps)
        together = time_of(runs, kind=make_step)
        eager = time_of(runs, kind=EagerStep)
        alone = time_of(runs[:1], kind=EagerStep)
        times = "".join(f"{seconds * 1e3:20.2f}" for seconds in (together, eager, alone))
        ratios = f"{eager / together:20.1f}{len(runs) * alone / together:20.1f}"
        print(f"{name_of_kind:24}{times}{ratios}", flush=True)


if __name__ == "__main__":
    main()
