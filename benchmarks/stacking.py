"""Where runs are faster at once than one after another: ms a step of both, and their ratio.

    python benchmarks/stacking.py --task pr --runs 5 --dim 768

Steps of both ways are taken in turn in one process, on the same batches, as the engine takes them
(on a GPU recorded as CUDA graphs); the ratio is the median of that of each pair. On a CPU seconds
are those of the processor, so that other work on it counts for less. ``--shared`` gives all runs
the same batches, as ``order: shared`` does.
"""

import argparse
import platform
import time
from collections.abc import Callable

import numpy as np
import torch
from labels import table
from torch import Tensor
from training import SKIP, finish, maker, stream

import SSL_Interface
from ssl_bench import registry
from ssl_bench import runs as engine
from ssl_bench.features import Features
from ssl_bench.runs import Joined, Run, Runs
from ssl_bench.sampling import training_batches
from ssl_bench.steps import make_step, take
from ssl_bench.tasks.base import Task
from ssl_bench.training import padded

COUNT = 2000
"""Utterances."""


def milliseconds(
    features: Features,
    task: Task,
    make: Callable[[], Joined],
    arguments: argparse.Namespace,
) -> np.ndarray:
    """Time steps of both ways → (steps, 2), the stacked one first; a quarter more come before."""
    device = features.device
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    runs = [Run(seed, 1e-3) for seed in range(arguments.runs)]
    ways = [make_step(Runs(runs, make, device, stackable=True)) for _ in range(2)]
    ids = task.ids("train")
    targets, lengths = padded([task.target(name) for name in ids], device)
    rows = np.arange(len(ids))
    seeds = [0] if arguments.shared else [run.seed for run in runs]
    width = int(arguments.seconds / features.seconds_per_frame)
    warm = max(4, arguments.steps // 4)
    batches = training_batches(rows, features.frames[rows], width, 4, warm + arguments.steps, seeds)
    taken = np.empty((warm + arguments.steps, 2))
    for number, batch in enumerate(batches):
        own = batch.rows[0] if arguments.shared else batch.rows
        states, counts = features.batch(own, batch.width)
        everybody = np.broadcast_to(batch.rows, (len(runs), batch.rows.shape[1]))
        place = torch.from_numpy(everybody.copy()).to(device).flatten()

        def losses(outputs: Tensor, out: Tensor, place: Tensor = place) -> Tensor:
            each = task.loss(outputs.flatten(0, 1), out.flatten(), targets[place], lengths[place])
            return each.view(len(outputs), -1).mean(1)

        for way in (0, 1) if number % 2 else (1, 0):
            engine.stacking_pays = lambda *_, way=way: way == 0
            finish(device)
            began = clock()
            take(ways[way], states, counts, losses, 1.0)
            finish(device)
            taken[number, way] = clock() - began
    return taken[warm:] * 1e3


def main() -> None:
    """Print one row an interface."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", default="pr")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=128.0, help="of audio, a run's batch")
    parser.add_argument("--layers", type=int, default=13)
    parser.add_argument("--dim", type=int, default=192)
    parser.add_argument("--shared", action="store_true")
    known = [name for name in SSL_Interface.names() if name not in SKIP]
    parser.add_argument("--interfaces", nargs="*", default=known)
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name() if device.type == "cuda" else platform.processor()
    print(f"{name}, torch {torch.__version__}, {torch.get_num_threads()} threads: {arguments}")
    module = registry.load("tasks", arguments.task)
    features = stream(device, COUNT, (2.0, 5.0), arguments.layers, arguments.dim)
    seconds = features.frames * features.seconds_per_frame
    task = module.Task(
        module.Config(kind=arguments.task, corpus="c"), table(arguments.task, seconds)
    )
    if not task.stackable:
        parser.error(f"--task {arguments.task}: its head cannot be stacked")
    heads = ("stacked ms", "in turn ms", "stacked / in turn")
    print(f"{'interface':24}" + "".join(f"{head:>20}" for head in heads))
    for kind in arguments.interfaces:
        found = milliseconds(features, task, maker(kind, task, features), arguments)
        stacked, turns = np.median(found, 0)
        ratio = np.median(found[:, 0] / found[:, 1])
        print(f"{kind:24}{stacked:20.2f}{turns:20.2f}{ratio:20.2f}", flush=True)


if __name__ == "__main__":
    main()
