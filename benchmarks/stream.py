"""The stream of features: rates of the disk cache beside dd, time to the first batch, growth.

    python benchmarks/stream.py --folder /where/the/cache/would/lie --gb 4

Tables in Markdown. States are random numbers, so no encoder is in any but the last, which
encodes noise with a random HuBERT of the embedded encoder's shape. "Cold" means that the
kernel was told to forget the files (``posix_fadvise``); the disk or its host may still hold them.
"""

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ssl_bench.features import STORED, Features, compute, open_features
from ssl_bench.prefetch import AHEAD, prefetch
from ssl_bench.reading import pack
from ssl_bench.sampling import Batch, training_batches
from ssl_bench.store import Store, divide

RATE = 50
"""Frames a second."""
LENGTHS = (200, 800)
"""Frames of the shortest and the longest utterance."""
GROUP = 40 * RATE
"""Frames that are encoded at once on a CPU."""


def utterances(hours: float) -> np.ndarray:
    """Return (N,) frames of utterances that make so many hours."""
    count = int(hours * 3600 * RATE / np.mean(LENGTHS))
    return np.random.default_rng(0).integers(*LENGTHS, size=max(2, count))


def store(folder: Path, hours: float, layers: int, dim: int) -> Store:
    """Lay a cache out as the features stage does, longest first."""
    frames = utterances(hours)
    order = np.argsort(-frames, kind="stable")
    groups = np.array_split(order, max(1, int(frames.sum()) // GROUP))
    item = layers * dim * STORED.itemsize
    ends = np.cumsum(divide([int(frames[group].sum()) * item for group in groups]))
    rows = [np.concatenate(groups[a:b]) for a, b in zip([0, *ends], ends, strict=False)]
    return Store(folder, {"benchmark": 1}, frames, rows, (layers, dim), STORED)


def fill(kept: Store) -> None:
    """Write a cache of states that are there already."""
    layers, dim = kept.shards[0].shape[1:]
    longest = int(kept.frames.max())
    pool = torch.randn(GROUP + longest, layers, dim).to(kept.dtype)

    def split(rows: np.ndarray) -> list[np.ndarray]:
        return np.array_split(rows, max(1, int(kept.frames[rows].sum()) // GROUP))

    def encode(rows: np.ndarray) -> Tensor:
        total = int(kept.frames[rows].sum())
        return (
            pool.repeat(-(-total // len(pool)), 1, 1)[:total] if total > len(pool) else pool[:total]
        )

    kept.complete(split, encode)


def stream(kept: Store, device: torch.device) -> Features:
    """Open a cache."""
    layers, dim = kept.shards[0].shape[1:]
    empty = torch.empty(0)
    return Features(
        layers, dim, 320, kept.frames, device, empty, None, None, dtype=kept.dtype, host=kept.open()
    )


def draw(features: Features, seconds: float, steps: int) -> Iterator[Batch]:
    """Draw the batches of a training of one run."""
    rows = np.arange(len(features.frames))
    return training_batches(rows, features.frames, int(seconds * RATE), 4, steps, [0])


def forget(paths: list[Path]) -> None:
    """Ask the kernel to drop files from its cache."""
    for path in paths:
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def took(do: Callable[[], object]) -> float:
    """Return the seconds of one call."""
    began = time.perf_counter()
    do()
    return time.perf_counter() - began


def dd(source: Path, target: str, *options: str) -> None:
    """Copy by dd in blocks of 4 MiB."""
    command = ["dd", f"if={source}", f"of={target}", "bs=4M", *options]
    subprocess.run(command, check=True, capture_output=True)


Rows = dict[str, list[float]]


def rates(
    folder: Path, gigabytes: float, device: torch.device, seconds: float, rounds: int
) -> None:
    """Print rates of writing and reading beside those of dd on the same disk, taken in turns."""
    hours = gigabytes * 1e9 / (3600 * RATE * 13 * 768 * 2)
    rows: Rows = {}
    for _ in range(rounds):
        kept = store(folder / "cache", hours, 13, 768)
        _writing(kept, folder, rows)
        _reading(kept, device, seconds, rows)
        opened = took(kept.faults)
        shutil.rmtree(kept.folder)
    print(f"\n{kept.size / 1e9:.2f} GB, 13 × 768 in bf16, {len(kept.shards)} shards\n")
    print(f"| what | GB/s, median of {rounds} | least | most |\n|---|---|---|---|")
    for what, found in rows.items():
        print(f"| {what} | {np.median(found):.2f} | {min(found):.2f} | {max(found):.2f} |")
    print(f"\nopening a cache whose files were hashed before: {opened * 1e3:.1f} ms")


def _add(rows: Rows, what: str, size: float, do: Callable[[], object]) -> None:
    rows.setdefault(what, []).append(size / 1e9 / took(do))


def _writing(kept: Store, folder: Path, rows: Rows) -> None:
    _add(rows, "write: shards, hashed and flushed", kept.size, lambda: fill(kept))
    single = kept.shards[0].path
    plain = [folder / f"plain-{number}" for number in range(len(kept.shards))]
    dd(single, "/dev/null")  # into the memory, so that only writing counts
    size = len(plain) * single.stat().st_size
    flushed = "conv=fsync"
    _add(rows, f"write: dd {flushed}", size, lambda: [dd(single, str(p), flushed) for p in plain])
    for path in plain:
        path.unlink()


def _reading(kept: Store, device: torch.device, seconds: float, rows: Rows) -> None:
    paths = [shard.path for shard in kept.shards]
    forget(paths)
    _add(rows, "read cold: dd", kept.size, lambda: [dd(path, "/dev/null") for path in paths])
    if device.type == "cuda":
        forget(paths)
        _add(rows, "read cold: all, onto the GPU", kept.size, lambda: kept.lift(device))
    features = stream(kept, device)
    steps = max(4, int(kept.frames.sum() / RATE / seconds))
    asked = list(draw(features, seconds, steps))
    frames = sum(int(features.frames[batch.rows].sum()) for batch in asked)
    size = frames * kept.size / int(kept.frames.sum())
    wanted = [
        pack(batch.rows, features.held(batch.rows, batch.width, None), None, None)
        for batch in asked
    ]
    largest = max(wanted, key=lambda one: one.frames)
    buffers = [features.staging(largest, device.type == "cuda") for _ in range(AHEAD)]

    def part(number: int) -> None:
        for one in wanted[number::AHEAD]:
            one.read(features.host, buffers[number])

    def into_staging() -> None:
        """Read as for a GPU: by threads, into memory that is used again."""
        with ThreadPoolExecutor(AHEAD) as pool:
            list(pool.map(part, range(AHEAD)))

    def plainly() -> None:
        for batch in asked:
            features.batch(batch.rows, batch.width)

    def ahead() -> None:
        for _ in prefetch(features, asked):
            pass

    ways = {
        "batches into memory that is used again, as before a copy to a GPU": into_staging,
        f"batches of {seconds:g} s": plainly,
        "the same, read ahead": ahead,
    }
    for name in ("cold", "warm"):
        for what, do in ways.items():
            if name == "cold":
                forget(paths)
            _add(rows, f"read {name}: {what}", size, do)
    _add(rows, "hash, warm", kept.size, lambda: kept.faults(everything=True))


def beginnings(folder: Path, minutes: float, device: torch.device) -> None:
    """Print how long it takes to the first batch, of a first and of a second study."""
    import soundfile
    import transformers

    from ssl_bench import corpus
    from ssl_bench.study import parse

    os.chdir(folder)
    torch.manual_seed(0)
    shape = {"hidden_size": 192, "num_attention_heads": 3, "intermediate_size": 768}
    transformers.HubertModel(transformers.HubertConfig(**shape)).save_pretrained("encoder")
    lines, rng = ["path\tsplit\tspeaker\tkeyword"], np.random.default_rng(0)
    for number in range(max(8, int(minutes * 12))):
        noise = rng.standard_normal(5 * 16000).astype(np.float32) * 0.1
        soundfile.write(f"{number}.wav", noise, 16000)
        split = ("dev", "test")[number % 2] if number < 4 else "train"
        lines.append(f"{number}.wav\t{split}\ts{number % 2}\tk{number % 2}")
    Path("list.tsv").write_text("\n".join(lines) + "\n")
    rows = []
    for name in ("first", "second"):
        study = parse(
            {
                "name": name,
                "cache": "disk",
                "seeds": 1,
                "corpora": {"noise": {"kind": "manifest", "path": "list.tsv"}},
                "upstreams": {"hubert": {"kind": "transformers", "model": "encoder"}},
                "tasks": {"ks": {"kind": "ks", "corpus": "noise"}},
                "interfaces": {"mean": {}},
                "sweep": {"learning_rates": [1e-3]},
            }
        )
        corpus.prepare(study, "noise")
        stage = took(lambda study=study: compute(study, "hubert", "noise", device))
        began = time.perf_counter()
        features = open_features(study, "hubert", "noise", device)
        next(prefetch(features, draw(features, 32, 2)))
        rows.append((name, stage, time.perf_counter() - began))
    print(f"\n{minutes:g} min of noise, 13 × 192; without the start of Python\n")
    print("| study | features stage, s | opening to the first batch, s |\n|---|---|---|")
    for name, stage, first in rows:
        print(f"| {name} | {stage:.2f} | {first:.3f} |")


POINT = ("GB", "write, s", "open, ms", "batch of 40 s, ms", "MiB, peak")


def growth(folder: Path, hours: float, device: torch.device) -> None:
    """Print time and memory against hours, L and D, each point in a process of its own.

    Below it the exponents: what doubling hours, L or D multiplies by two to the power of this.
    """
    print(f"\n| hours | L × D | {' | '.join(POINT)} |")
    print("|---|---|" + "---|" * len(POINT), flush=True)
    axes = {
        "hours": [(hours * times, 13, 192) for times in (1, 2, 4, 8)],
        "L": [(hours, layers, 192) for layers in (7, 13, 25, 49)],
        "D": [(hours, 13, dim) for dim in (192, 384, 768, 1536)],
    }
    found: dict[tuple[float, int, int], list[float]] = {}
    for point in [point for points in axes.values() for point in points]:
        if point not in found:
            found[point] = _apart(folder, point, device)
            numbers = " | ".join(f"{number:.3g}" for number in found[point])
            print(f"| {point[0]:g} | {point[1]} × {point[2]} | {numbers} |", flush=True)
    for place, (axis, points) in enumerate(axes.items()):
        size = np.log([point[place] for point in points])
        slopes = np.polyfit(size, np.log([found[point] for point in points]), 1)[0]
        numbers = " | ".join(f"{slope:.2f}" for slope in slopes)
        print(f"| exponent of {axis} | | {numbers} |", flush=True)


def _apart(folder: Path, point: tuple[float, int, int], device: torch.device) -> list[float]:
    """Measure one point in a child, whose memory begins with this process's."""
    answer = folder / "answer.json"
    child = os.fork()
    if not child:
        try:
            answer.write_text(json.dumps(_point(folder / "point", *point, device)))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    numbers: list[float] = json.loads(answer.read_text())
    answer.unlink()
    return numbers


def _point(folder: Path, hours: float, layers: int, dim: int, device: torch.device) -> list[float]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    kept = store(folder, hours, layers, dim)
    written = took(lambda: fill(kept))
    opened = took(kept.faults)
    features = stream(kept, device)
    asked = list(draw(features, 40, 21))
    features.batch(asked[0].rows, asked[0].width)
    times = [took(lambda b=batch: features.batch(b.rows, b.width)) for batch in asked[1:]]
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    shutil.rmtree(folder)
    return [kept.size / 1e9, written, opened * 1e3, float(np.median(times)) * 1e3, peak]


def gathers() -> None:
    """Print what a batch of five runs takes from the host's memory, by blocks and by an index."""
    print("\n| states | MB | by blocks, ms | by an index, ms |\n|---|---|---|---|")
    frames = np.random.default_rng(0).integers(100, 250, size=200)
    starts = torch.from_numpy(np.cumsum([0, *frames[:-1]]))
    rows = np.random.default_rng(1).integers(200, size=(5, 8))
    for layers, dim in ((4, 192), (13, 192), (13, 768)):
        flat = torch.randn(int(frames.sum()) + 1, layers, dim).to(STORED)
        features = Features(layers, dim, 320, frames, torch.device("cpu"), starts, flat, None)

        def by_blocks(features: Features = features) -> Tensor:
            return features.batch(rows, 250)[0]

        def by_index(features: Features = features, flat: Tensor = flat) -> Tensor:
            begin = starts[torch.from_numpy(rows)]
            return features._gather(flat, begin, frames[rows], 250, None)[0]

        size = by_blocks().nbytes / 1e6
        times = [np.median([took(do) for _ in range(15)]) * 1e3 for do in (by_blocks, by_index)]
        print(f"| {layers} × {dim} | {size:.0f} | {times[0]:.1f} | {times[1]:.1f} |", flush=True)


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="on the disk to measure; the default is TMPDIR")
    parser.add_argument(
        "--gb", type=float, default=4.0, help="size of the cache of the first table"
    )
    parser.add_argument("--batch-seconds", type=float, default=128.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=3.0, help="of noise to encode")
    parser.add_argument("--hours", type=float, default=0.25, help="smallest of the last table")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    name = torch.cuda.get_device_name() if device.type == "cuda" else platform.processor()
    threads = torch.get_num_threads()
    print(f"{name or platform.machine()}, {threads} threads, torch {torch.__version__}")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as place:
        if device.type == "cpu":  # a process that has called CUDA cannot be forked
            growth(Path(place), arguments.hours, device)
            gathers()
        rates(Path(place), arguments.gb, device, arguments.batch_seconds, arguments.rounds)
        began = Path.cwd()
        beginnings(Path(place), arguments.minutes, device)
        os.chdir(began)


if __name__ == "__main__":
    main()
