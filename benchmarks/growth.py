"""How time and memory grow with runs, layers, width and audio: a table, exponents and a figure.

    python benchmarks/growth.py --out growth
    python benchmarks/growth.py --runs 1 2 4 --layers 7 13 --dims 96 192 --device cpu --out growth

One training step of PR's head, as the engine takes it (on a GPU recorded as CUDA graphs), against
the number of runs R, the number of states L and their width D, the other two as ``--at`` says; and
the features stage on noise against seconds of audio, encoder of random weights in HuBERT's shape.
Each run reads its own batch, so a step reads R · L · D numbers a frame.

Memory is the peak beyond what was held before: of a step the batch, what is computed from it,
parameters and optimizer; of the features stage states and what the encoder needs. It is what torch
has allocated; a CPU's batch, which lies in numpy's memory, is not in it. Exponents are slopes in
log-log, of all points and of the upper half of them: below, the launching of kernels costs more
than what they do. HConv's products have D² weights, so its exponent of D goes to 2. The figure is
drawn by ``growth_figure.py``, which can draw the table again.
"""

import argparse
import gc
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import growth_figure
import numpy as np
import pandas as pd
import torch
import transformers
from labels import fewest, table
from measured import hardware
from random_hubert import SHAPES, TINY
from training import finish, maker, published, seconds_per_step, stream

from ssl_bench.audio import SAMPLE_RATE
from ssl_bench.encoding import frames_of
from ssl_bench.features import fill
from ssl_bench.runs import Run
from ssl_bench.steps import make_step
from ssl_bench.tasks import pr
from ssl_bench.upstreams.transformers import TransformersUpstream

STANDARD: dict[str, dict[str, Any]] = {
    "cuda": {
        "at": [13, 768, 5],
        "runs": [1, 2, 4, 8, 16, 32, 64],
        "layers": [7, 13, 25, 49],
        "dims": [192, 384, 768, 1536],
        "audio": [800, 1600, 3200, 6400, 12800],
        "shape": "base",
        "batch_seconds": 32.0,
    },
    "cpu": {
        "at": [13, 192, 2],
        "runs": [1, 2, 4, 8],
        "layers": [7, 13, 25, 49],
        "dims": [96, 192, 384, 768],
        "audio": [40, 80, 160],
        "shape": "tiny",
        "batch_seconds": 8.0,
    },
}
"""Sizes that a machine measures in a minute or two."""
UTTERANCE = 8
"""Seconds of each utterance that is encoded."""
REPEATS = 3
"""Times that audio is encoded, of which the median counts."""
WATCHED = 4
"""Steps of which memory is watched."""


def peak_of(do: Callable[[], Any], device: torch.device) -> int:
    """Return the most bytes that a call holds at once beyond what was held before."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        do()
        return torch.cuda.max_memory_allocated() - before
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(
        activities=activities, profile_memory=True, acc_events=True
    ) as watched:
        do()
    events = watched.profiler.kineto_results.events()
    changes = [(event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]"]
    held = np.cumsum([size for _, size in sorted(changes, key=lambda change: change[0])])
    return int(held.max(initial=0))


def step(
    interface: str, layers: int, dim: int, runs: int, arguments: argparse.Namespace
) -> tuple[float, int]:
    """Return the seconds of a step and its peak in bytes."""
    device = torch.device(arguments.device)
    states = stream(device, fewest(), (2.0, 5.0), layers, dim)
    labels = table("pr", states.frames * states.seconds_per_frame)
    task = pr.Task(pr.Config(kind="pr", corpus="noise"), labels)
    make = maker(interface, task, states)
    train = partial(
        seconds_per_step,
        states,
        task,
        make,
        published(pr),
        [Run(seed, 1e-3) for seed in range(runs)],
        batch_seconds=arguments.batch_seconds,
        kind=make_step,
    )
    return train(steps=arguments.steps), peak_of(partial(train, steps=WATCHED), device)


def steps(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield a row for every interface and size of a step."""
    standard = dict(zip(("L", "D", "R"), arguments.at, strict=True))
    values = {"R": arguments.runs, "L": arguments.layers, "D": arguments.dims}
    known: dict[tuple[str, int, int, int], tuple[float, int]] = {}
    for axis, listed in values.items():
        for interface in arguments.interfaces:
            for value in listed:
                size = {**standard, axis: value}
                point = interface, size["L"], size["D"], size["R"]
                if point not in known:
                    known[point] = step(*point, arguments)
                yield row("step", interface, axis, value, known[point], **size)


def encodings(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield a row for every amount of audio."""
    device = torch.device(arguments.device)
    torch.manual_seed(0)
    config = transformers.HubertConfig(**{**SHAPES, "tiny": TINY}[arguments.shape])
    encoder = TransformersUpstream(transformers.HubertModel(config), normalize=False).to(device)
    layers, dim = encoder.probe()
    encode(encoder, min(arguments.audio), device)  # kernels are chosen when first used
    for seconds in arguments.audio:
        found = encode(encoder, seconds, device)
        yield row("features", "features", "audio", seconds, found, L=layers, D=dim)


def encode(encoder: TransformersUpstream, seconds: int, device: torch.device) -> tuple[float, int]:
    """Return how long the features stage takes to fill the memory with states, and its peak."""
    count = max(1, seconds // UTTERANCE)
    samples = min(seconds, UTTERANCE) * SAMPLE_RATE
    noise = np.random.default_rng(0).integers(-3000, 3000, samples, dtype=np.int16)
    listed = pd.DataFrame({"samples": [samples] * count})
    data: Any = SimpleNamespace(table=listed, waveform=lambda row: noise)
    frames = frames_of(encoder, data)
    rows = np.arange(count)
    filled = partial(fill, encoder, data, rows, frames, device, True, torch.bfloat16, quiet=True)
    times = []
    for _ in range(REPEATS):
        finish(device)
        began = time.perf_counter()
        filled()
        finish(device)
        times.append(time.perf_counter() - began)
    return statistics.median(times), peak_of(filled, device)


def row(
    what: str, name: str, axis: str, value: int, found: tuple[float, int], **size: int
) -> dict[str, Any]:
    """Return one line of the table."""
    seconds, peak = found
    return {
        "what": what,
        "name": name,
        "axis": axis,
        "value": value,
        **{key: size.get(key) for key in ("R", "L", "D")},
        "ms": seconds * 1e3,
        "MiB": peak / 2**20,
    }


def exponents(points: pd.DataFrame) -> pd.DataFrame:
    """Fit ``ms`` and ``MiB`` by powers of ``value``, for each axis and name.

    Returns:
        columns axis, name, quantity, exponent (of all points) and upper (of the upper half, two
        points at least); NaN where a point is not positive or there is one alone.
    """
    rows = []
    for (axis, name), own in points.groupby(["axis", "name"], sort=False):
        own = own.sort_values("value")
        upper = own.tail(max(2, (len(own) + 1) // 2))
        for quantity in ("ms", "MiB"):
            rows.append(
                {
                    "axis": axis,
                    "name": name,
                    "quantity": quantity,
                    "exponent": _slope(own["value"], own[quantity]),
                    "upper": _slope(upper["value"], upper[quantity]),
                }
            )
    return pd.DataFrame(rows)


def _slope(x: pd.Series, y: pd.Series) -> float:
    if len(x) < 2 or (y <= 0).any():
        return float("nan")
    return float(np.polyfit(np.log(x.to_numpy(float)), np.log(y.to_numpy(float)), 1)[0])


def options() -> argparse.Namespace:
    """Read the command line; what it does not say is as ``STANDARD`` has it for the device."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--interfaces", nargs="+", default=["weighted_sum", "hconv"])
    parser.add_argument("--at", type=int, nargs=3, metavar=("L", "D", "R"))
    parser.add_argument("--runs", type=int, nargs="+")
    parser.add_argument("--layers", type=int, nargs="+")
    parser.add_argument("--dims", type=int, nargs="+")
    parser.add_argument("--audio", type=int, nargs="+", help="seconds to encode")
    parser.add_argument("--shape", choices=[*SHAPES, "tiny"], help="of the encoder")
    parser.add_argument("--batch-seconds", type=float, help="of audio, each run's")
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--out", type=Path, default=Path("growth"), help="folder")
    read = parser.parse_args()
    for name, value in STANDARD[torch.device(read.device).type].items():
        if getattr(read, name) is None:
            setattr(read, name, value)
    return read


def main() -> None:
    """Measure, and write growth.csv, exponents.csv and the figure."""
    read = options()
    where = hardware(torch.device(read.device))
    print(f"{where}, torch {torch.__version__}")
    rows = []
    for measure in (steps, encodings):
        for found in measure(read):
            rows.append(found)
            size = f"{found['axis']} = {found['value']}"
            print(
                f"{found['name']}, {size}: {found['ms']:.2f} ms, {found['MiB']:.0f} MiB", flush=True
            )
    points = pd.DataFrame(rows)
    fitted = exponents(points)
    print(fitted.to_string(index=False, float_format="{:.2f}".format))
    read.out.mkdir(parents=True, exist_ok=True)
    points.to_csv(read.out / "growth.csv", index=False)
    fitted.to_csv(read.out / "exponents.csv", index=False)
    for path in growth_figure.write(points, fitted, where, read.out):
        print(path)


if __name__ == "__main__":
    main()
