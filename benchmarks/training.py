"""How much a step of R runs together costs, beside R steps of one run: ms a step and the ratios.

    python benchmarks/training.py --runs 5 --task pr
    python benchmarks/training.py --task pr ic sv --layers 25 --dim 1024 --csv steps.csv

``together`` and ``one`` are the steps that the engine takes: of stacked runs where that pays
(``stacking.py`` compares both), on a GPU recorded as CUDA graphs where the head allows it, else
eager. States are random, of the encoder's shape, raw; the head, its loss and its optimizer are
those that the task publishes, for as many classes as its corpus has (``labels.py``). ``--csv`` adds
what the engine's steps took to a table that ``workflow/ssl_bench/planning/throughput.csv`` can be,
by which ``python -m ssl_bench plan`` counts GPU hours.
"""

import argparse
import copy
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from labels import fewest, table
from measured import hardware, line, record
from torch import Tensor

import SSL_Interface
from ssl_bench import registry
from ssl_bench.features import STORED, Features
from ssl_bench.recipe import Training
from ssl_bench.runs import Joined, Run, Runs
from ssl_bench.sampling import training_batches
from ssl_bench.steps import EagerStep, Step, make_step, take
from ssl_bench.tasks.base import Task
from ssl_bench.training import padded

OPTIONS = {"grouped_weighted_sum": {"groups": 3}}
SKIP = {"single_layer"}
"""The study trains these as ``last`` on a stream of one layer."""
STRIDE, RATE = 320, 16_000
HELD = {"cuda": 60_000, "cpu": 6_000}
"""Frames of random states; every utterance is a part of them."""


def stream(
    device: torch.device, utterances: int, seconds: tuple[float, float], layers: int, dim: int
) -> Features:
    """Make random states of utterances of so many seconds, which overlap in memory."""
    rng = np.random.default_rng(0)
    least, most = (round(bound * RATE / STRIDE) for bound in seconds)
    frames = rng.integers(least, most, size=utterances, endpoint=True)
    held = HELD[device.type]
    flat = torch.randn(held + 1, layers, dim, device=device).to(STORED)
    flat[-1] = 0
    starts = torch.from_numpy(rng.integers(0, held - frames)).to(device)
    return Features(layers, dim, STRIDE, frames, device, starts, flat, None)


def published(module: Any) -> Training:
    """Return how a kind of task is trained as published."""
    return module.RECIPE.training if hasattr(module, "RECIPE") else Training()


def maker(kind: str, task: Task, features: Features) -> Callable[[], Joined]:
    """Return what makes a run's modules, as the study makes them."""
    options = {"normalize": False, **OPTIONS.get(kind, {})}
    create = partial(SSL_Interface.create, kind, features.layers, features.dim, **options)
    first: Any = create()
    if first.needs_fit:
        first = first.to(features.device)
        first.fit_batch(*features.batch(np.arange(16), int(features.frames[:16].max())))
        first.fit_finish()

    def make() -> Joined:
        interface = copy.deepcopy(first) if first.needs_fit else create()
        return Joined(interface, task.head(first.output_dim))

    return make


def seconds_per_step(
    features: Features,
    task: Task,
    make: Callable[[], Joined],
    training: Training,
    runs: list[Run],
    steps: int,
    batch_seconds: float,
    kind: Callable[[Runs], Step],
) -> float:
    """Time training steps, input gathering included, after a quarter of them as warm-up.

    Warm-up has a batch of every shape, since a shape is recorded when it first comes.
    """
    group = Runs(
        runs,
        make,
        features.device,
        stackable=task.stackable,
        weight_decay=training.weight_decay,
        decoupled=training.optimizer == "adamw",
        clip=training.clip,
    )
    advance = kind(group)
    ids = task.ids("train")
    targets, lengths = padded([task.target(name) for name in ids], features.device)
    rows = np.arange(len(ids))
    seeds = [run.seed for run in runs]
    frames = int(batch_seconds / features.seconds_per_frame)
    batches = list(training_batches(rows, features.frames[rows], frames, 4, steps, seeds))
    shapes = {batch.width: batch for batch in batches}
    warm, timed = [*shapes.values(), *batches[: steps // 4]], batches[steps // 4 :]
    for step, batch in enumerate([*warm, *timed]):
        if step == len(warm):
            finish(features.device)
            began = time.perf_counter()
        states, count = features.batch(batch.rows, batch.width)
        place = torch.from_numpy(batch.rows).to(features.device).flatten()

        def losses(outputs: Tensor, out: Tensor, place: Tensor = place) -> Tensor:
            each = task.loss(outputs.flatten(0, 1), out.flatten(), targets[place], lengths[place])
            return each.view(len(outputs), -1).mean(1)

        take(advance, states, count, losses, 1.0)
    finish(features.device)
    return (time.perf_counter() - began) / len(timed)


def finish(device: torch.device) -> None:
    """Wait until a GPU has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def measure(
    name: str, features: Features, interfaces: list[str], arguments: argparse.Namespace
) -> None:
    """Print, and record, one row an interface for one task."""
    module = registry.load("tasks", name)
    seconds = features.frames * features.seconds_per_frame
    task = module.Task(module.Config(kind=name, corpus="noise"), table(name, seconds))
    where = hardware(features.device)
    print(f"{name}, {arguments.runs} runs, {where}, torch {torch.__version__}")
    heads = ("together ms", "eager ms", "one ms", "eager / together", "ones / together")
    print(f"{'interface':24}" + "".join(f"{head:>20}" for head in heads))
    for kind in interfaces:
        runs = [Run(seed, 1e-3) for seed in range(arguments.runs)]
        time_of = partial(
            seconds_per_step,
            features,
            task,
            maker(kind, task, features),
            published(module),
            steps=arguments.steps,
            batch_seconds=arguments.batch_seconds,
        )
        together = time_of(runs, kind=make_step)
        recorded = features.device.type == "cuda"
        eager = time_of(runs, kind=EagerStep) if recorded else together
        one = time_of(runs[:1], kind=make_step) if len(runs) > 1 else together
        times = "".join(f"{seconds * 1e3:20.2f}" for seconds in (together, eager, one))
        print(
            f"{kind:24}{times}{eager / together:20.1f}{len(runs) * one / together:20.1f}",
            flush=True,
        )
        if arguments.csv is None:
            continue
        said = f"benchmarks/training.py --task {name} --runs {arguments.runs}"
        said += f" --steps {arguments.steps} --layers {features.layers} --dim {features.dim}"
        found = {len(runs): together, 1: one}
        record(
            arguments.csv,
            [
                line(
                    stage="step",
                    hardware=where,
                    layers=features.layers,
                    dim=features.dim,
                    task=name,
                    interface=kind,
                    runs=count,
                    batch_seconds=f"{arguments.batch_seconds:g}",
                    value=f"{cost * 1e3:.2f}",
                    unit="ms",
                    source=said,
                )
                for count, cost in found.items()
            ],
        )


def main() -> None:
    """Print a table for each task."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", nargs="+", choices=registry.kinds("tasks"), default=["pr"])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--layers", type=int, default=13)
    parser.add_argument("--dim", type=int, default=192)
    parser.add_argument("--seconds", type=float, nargs=2, default=[2.0, 5.0], help="of utterances")
    parser.add_argument("--batch-seconds", type=float, default=128.0, help="of audio, each run's")
    known = SSL_Interface.names()
    chosen = [name for name in known if name not in SKIP]
    parser.add_argument("--interfaces", nargs="+", choices=chosen, default=chosen, metavar="NAME")
    parser.add_argument("--utterances", type=int, default=2000)
    parser.add_argument("--csv", type=Path, help="table to add the engine's steps to")
    arguments = parser.parse_args()
    if arguments.utterances < fewest():
        parser.error(f"--utterances: found {arguments.utterances}, expected at least {fewest()}")
    if arguments.steps < 2:
        parser.error(f"--steps: found {arguments.steps}, expected at least 2")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    size = arguments.layers, arguments.dim
    features = stream(device, arguments.utterances, arguments.seconds, *size)
    for name in arguments.task:
        measure(name, features, arguments.interfaces, arguments)


if __name__ == "__main__":
    main()
