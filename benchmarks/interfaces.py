"""A training step of every interface, timed beside the plain form, the published package and s3prl.

    python benchmarks/interfaces.py                                     # 13 states of HuBERT Base
    python benchmarks/interfaces.py --shape 25x16x824x1024 --json large.json
    python benchmarks/interfaces.py --device cpu --threads 2 --shape 13x4x200x768

A step is forward, backward and fused AdamW. States need no gradient: they come from a frozen
upstream. On a GPU states are bf16 under autocast, on a CPU fp32 (--dtype says otherwise). Columns:

  ours       eager                          graph      ours, replayed as one CUDA graph
  compiled   ours under torch.compile       plain      the same mathematics written the plainest way
  s3prl      its Featurizer                 published  the package published with the paper,
                                                       in the same type and in fp32

Columns are timed in turn, so that load hits all alike; a time is a median. Peak memory is what a
step takes beyond states, parameters and optimizer. The floor is the longest of two times measured
in the same run: the step's products at the rate of one large product, and one reading of the states
forward and one backward at the rate of a copy. No step can be much faster. "of copy" is the rate at
which those readings happen (as a graph where there is one), as a share of the copy's: what there is
to say about a weighted sum, which does nothing else.

``--normalize both`` gives each interface a second row, with each state layer-normed first.

The published package has this library's import name, so it is loaded from a folder of its own,
under another name:

    pip install --no-deps --target FOLDER SSL_Interface==0.1.0
    python benchmarks/interfaces.py --published FOLDER
"""

import argparse
import copy
import itertools
import json
import platform
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from others import load, load_featurizer, load_published
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import SSL_Interface

Step = Callable[[], Any]
COLUMNS = ("ours", "graph", "compiled", "plain", "s3prl", "published", "published fp32")
PLAIN_FORMS = Path(__file__).parents[1] / "tests" / "interfaces" / "plain.py"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", default="13x16x824x768", help="LxBxTxD")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=["bf16", "fp16", "fp32"], help="of states and products")
    parser.add_argument(
        "--normalize",
        nargs="?",
        choices=["no", "yes", "both"],
        default="no",
        const="yes",
        help="layer-norm each state first; alone it says yes",
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=11, help="timings a median is of")
    parser.add_argument("--no-compile", action="store_true", help="leave that column out")
    parser.add_argument("--interfaces", nargs="*", help="default: all of the registry")
    parser.add_argument("--published", type=Path, help="folder of the published package")
    parser.add_argument("--json", type=Path, help="write all numbers there")
    options = parser.parse_args()
    options.shape = tuple(int(size) for size in options.shape.split("x"))
    options.normalize = {"no": [False], "yes": [True], "both": [False, True]}[options.normalize]
    options.dtype = options.dtype or ("bf16" if options.device == "cuda" else "fp32")
    options.dtype = {
        "bf16": torch.bfloat16,
        "fp16": torch.float16,
        "fp32": torch.float32,
    }[options.dtype]
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    report(Bench(options))


class Bench:
    """The states, the implementations that are here, and how a step of them is made and timed."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.cuda = options, options.device == "cuda"
        self.plain = load("plain", PLAIN_FORMS).PLAIN
        self.prepare = load("plain", PLAIN_FORMS).prepare
        self.published = load_published(options.published)
        self.featurizer, self.no_featurizer = load_featurizer()
        self.compiler = not options.no_compile and any(map(shutil.which, ("cc", "gcc", "clang")))
        self.states = torch.randn(options.shape, device=options.device).to(options.dtype)
        self.bandwidth, self.product_rate = self.ceilings()

    def missing(self) -> list[str]:
        """Say which columns are left out, and why."""
        notes = []
        if not self.cuda:
            notes.append("graph: needs a GPU")
        if not self.compiler:
            notes.append("compiled: no C compiler here, or --no-compile")
        if self.published is None:
            notes.append("published: no --published folder (see --help)")
        if self.featurizer is None:
            notes.append(f"s3prl: {self.no_featurizer}")
        return notes

    def row(self, name: str, normalize: bool) -> dict[str, Any]:
        """Time all columns of one interface; times in milliseconds, memory in MiB."""
        layers, _, _, dim = self.options.shape
        interface = SSL_Interface.create(name, layers, dim, normalize=normalize)
        interface = interface.to(self.options.device)
        if interface.needs_fit:
            interface.fit_batch(self.states.float())
            interface.fit_finish()
        torch._dynamo.reset()
        steps, failed, memory = {}, {}, {}
        for column, make in self.makers(name, interface).items():
            try:
                steps[column] = make()
                for _ in range(3):
                    steps[column]()
                memory[column] = self.peak(steps[column])
            except RuntimeError as error:  # out of memory, or a compiler that does not work
                steps.pop(column, None)
                failed[column] = str(error).splitlines()[0]
        times: dict[str, list[float]] = {column: [] for column in steps}
        for _ in range(self.options.repeats):
            for column, step in steps.items():
                times[column].append(self.time(step))
        milliseconds = {column: statistics.median(values) for column, values in times.items()}
        operations, read = self.work(interface)
        best = milliseconds.get("graph", milliseconds.get("ours"))
        return {
            "name": name,
            "normalize": normalize,
            "ms": milliseconds,
            "mib": memory,
            "floor_ms": 1e3 * max(operations / self.product_rate, read / self.bandwidth),
            "of_copy": 1e3 * read / best / self.bandwidth if best else None,
            "failed": failed,
        }

    def makers(self, name: str, interface: nn.Module) -> dict[str, Callable[[], Step]]:
        """Every column that is possible for one interface → what makes its step."""
        dtype, fp32 = self.options.dtype, torch.float32
        ours = partial(self.step, copy.deepcopy(interface), dtype=dtype)
        makers: dict[str, Callable[[], Step]] = {"ours": ours}
        if self.cuda:
            makers["graph"] = lambda: self.graphed(copy.deepcopy(interface))
        if self.compiler:
            makers["compiled"] = lambda: self.step(
                copy.deepcopy(interface),
                dtype=dtype,
                forward=torch.compile(copy.deepcopy(interface), dynamic=False),
            )
        if name in self.plain:
            reference = copy.deepcopy(interface)

            def plain(states: Tensor) -> Tensor:
                return self.plain[name](reference, self.prepare(reference, states))

            makers["plain"] = partial(self.step, reference, dtype=dtype, forward=plain)
        if self.published and name in ("weighted_sum", "hconv"):
            theirs = partial(self.theirs, name, interface.normalize)
            makers["published"] = lambda: self.step(theirs(), dtype=dtype)
            makers["published fp32"] = lambda: self.step(theirs(), dtype=fp32)
        if self.featurizer and name == "weighted_sum":
            makers["s3prl"] = partial(self.s3prl_step, interface.normalize)
        return makers

    def theirs(self, name: str, normalize: bool) -> nn.Module:
        """Make the published module."""
        layers, _, _, dim = self.options.shape
        sizes = {"upstream_layer_num": layers, "upstream_feat_dim": dim}
        sizes["normalize"] = normalize
        if name == "weighted_sum":
            config = self.published.configs.WeightedSumInterfaceConfig(**sizes)
            return self.published.interfaces.WeightSumInterface(config).to(self.options.device)
        # It takes no other width than the natural one, and ends the process at a wrong one.
        width = SSL_Interface.create("hconv", layers, dim).output_dim
        config = self.published.configs.HierarchicalConvInterfaceConfig(**sizes, output_dim=width)
        return self.published.interfaces.HierarchicalConvInterface(config).to(self.options.device)

    def s3prl_step(self, normalize: bool) -> Step:
        """Make a step of s3prl's Featurizer, which takes lists."""
        layers, batch, time_, dim = self.options.shape
        upstream = SimpleNamespace(
            num_layers=layers, hidden_sizes=[dim] * layers, downsample_rates=[320] * layers
        )
        featurizer = self.featurizer(upstream, normalize=normalize)
        featurizer = featurizer.to(self.options.device)
        lengths = [torch.full((batch,), time_)] * layers

        def forward(states: Tensor) -> Tensor:
            return featurizer(list(states), lengths)[0]

        return self.step(featurizer, dtype=self.options.dtype, forward=forward)

    def step(
        self,
        module: nn.Module,
        dtype: torch.dtype,
        forward: Callable[[Tensor], Tensor] | None = None,
        capturable: bool = False,
    ) -> Step:
        """Make a training step; under autocast unless in fp32."""
        forward = module if forward is None else forward
        owner = forward if isinstance(forward, nn.Module) else module
        parameters = [p for p in owner.parameters() if p.requires_grad]
        states = self.states.to(dtype)
        optimizer = (
            torch.optim.AdamW(parameters, fused=True, capturable=capturable) if parameters else None
        )
        autocast = partial(
            torch.autocast, self.options.device, dtype, enabled=dtype != torch.float32
        )
        with torch.no_grad(), autocast():
            gradient = torch.randn_like(forward(states))

        def step() -> None:
            with autocast():
                features = forward(states)
            if optimizer is not None:
                features.backward(gradient.to(features.dtype))
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)

        return step

    def graphed(self, module: nn.Module) -> Step:
        """Capture a step as a CUDA graph: what it takes without the host's launches."""
        step = self.step(module, self.options.dtype, capturable=True)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                step()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step()
        return graph.replay

    def time(self, step: Step) -> float:
        """Milliseconds a step: of ten in a row by CUDA events, of one by the wall clock."""
        if not self.cuda:
            began = time.perf_counter()
            step()
            return 1e3 * (time.perf_counter() - began)
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(10):
            step()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 10

    def peak(self, step: Step) -> float:
        """MiB that one step takes at most beyond what is held before it."""
        if self.cuda:
            torch.cuda.synchronize()
            before = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
            step()
            torch.cuda.synchronize()
            return (torch.cuda.max_memory_allocated() - before) / 2**20
        with torch.profiler.profile(
            activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
        ) as profile:
            step()
        events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
        held = most = 0
        for event in sorted(events, key=lambda event: event.start_ns()):
            held += event.nbytes()
            most = max(most, held)
        return most / 2**20

    def ceilings(self) -> tuple[float, float]:
        """Measure a copy's bytes a second and one large product's operations a second."""
        target, size = torch.empty_like(self.states), 8192 if self.cuda else 2048
        left, right = torch.randn(2, size, size, device=self.states.device).to(self.states.dtype)
        copies = [self.time(partial(target.copy_, self.states)) for _ in range(9)]
        products = [self.time(partial(torch.mm, left, right)) for _ in range(9)]
        moved = 2 * target.numel() * target.element_size()
        copying, multiplying = statistics.median(copies[2:]), statistics.median(products[2:])
        return moved / copying * 1e3, 2 * size**3 / multiplying * 1e3

    def work(self, interface: nn.Module) -> tuple[float, float]:
        """Operations of a step's products, and bytes of its readings of the states."""
        small = copy.deepcopy(interface).float().cpu()
        small.normalize = False
        with FlopCounterMode(display=False) as counter:
            features = small(torch.randn(self.options.shape[0], 1, 64, self.options.shape[3]))
            if features.requires_grad:
                features.sum().backward()
        frames = self.options.shape[1] * self.options.shape[2]
        operations = counter.get_total_flops() * frames / 64
        read = self.states[0].nbytes * len(interface.layers) * (1 + features.requires_grad)
        return operations, read


def report(bench: Bench) -> None:
    """Print the table row by row, and write the JSON file."""
    options = bench.options
    hardware = torch.cuda.get_device_name() if bench.cuda else f"{cpu()}, {options.threads} threads"
    shape, dtype = "x".join(map(str, options.shape)), str(options.dtype).removeprefix("torch.")
    print(f"{hardware}; torch {torch.__version__}, Python {platform.python_version()}")
    print(f"states {shape} {dtype}, median of {options.repeats}")
    print(
        f"measured here: copy {bench.bandwidth / 1e9:.0f} GB/s (read + write), "
        f"matrix product {bench.product_rate / 1e12:.2f} TFLOP/s"
    )
    for note in bench.missing():
        print(f"left out: {note}")
    columns = [*COLUMNS, "floor", "plain/ours", "of copy", "MiB", "plain MiB"]
    print("\n| interface, ms a step | " + " | ".join(columns) + " |")
    print("|---" * (len(columns) + 1) + "|", flush=True)
    rows = []
    names = options.interfaces or SSL_Interface.names()
    for name, normalize in itertools.product(names, options.normalize):
        row = bench.row(name, normalize)
        rows.append(row)
        ms, mib = row["ms"], row["mib"]
        ratio = ms["plain"] / ms["ours"] if {"plain", "ours"} <= set(ms) else None
        cells = [ms.get(column) for column in COLUMNS] + [row["floor_ms"], ratio]
        texts = [f"{cell:.3f}" if cell is not None else "" for cell in cells]
        texts.append(f"{row['of_copy']:.0%}" if row["of_copy"] is not None else "")
        texts += [f"{mib[column]:.0f}" if column in mib else "" for column in ("ours", "plain")]
        label = f"{name}, normalised" if normalize else name
        print(f"| {label} | " + " | ".join(texts) + " |", flush=True)
        for column, message in row["failed"].items():
            print(f"{label}, {column}: {message}", file=sys.stderr)
    if options.json:
        facts = {
            "hardware": hardware,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "shape": shape,
            "dtype": dtype,
            "repeats": options.repeats,
            "copy_bytes_per_second": bench.bandwidth,
            "product_operations_per_second": bench.product_rate,
            "left_out": bench.missing(),
            "rows": rows,
        }
        options.json.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def cpu() -> str:
    """Name the processor."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


if __name__ == "__main__":
    main()
