"""Schedules of one interface side by side: other orders of the same mathematics.

    python benchmarks/schedules.py                              # 13 states of HuBERT Base
    python benchmarks/schedules.py --shape 25x16x824x1024 --only hconv concat
    python benchmarks/schedules.py --only hconv/im2col hconv/library --profile
    python benchmarks/schedules.py --device cpu                 # equality only, tiny

Each row is a candidate: the worst relative error of its features and of each parameter's gradient
against the plain form in fp32, milliseconds a training step (forward, backward, fused AdamW; states
bf16 under autocast, without a gradient of their own) eager and as a CUDA graph, and the peak MiB of
a step. For the weighted sum also, how fast the graph reads the states (once forward, once back)
beside a copy. A CPU checks equality in fp32 and times nothing. What the candidates are, an idea
each: ``schedule_candidates.py``.
"""

import argparse
import copy
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from others import load
from schedule_candidates import CANDIDATES, Candidate, Form
from torch import Tensor, nn

import SSL_Interface

BENCH = load("interface_bench", Path(__file__).with_name("interfaces.py"))
PLAIN = load("plain", BENCH.PLAIN_FORMS).PLAIN


class Formed(nn.Module):
    """An interface's parameters under another form."""

    def __init__(self, interface: nn.Module, form: Form) -> None:
        super().__init__()
        self.interface, self.form = copy.deepcopy(interface), form

    def forward(self, states: Tensor) -> Tensor:
        """States (L, B, T, D) → features."""
        return self.form(self.interface, states)


class Schedules(BENCH.Bench):
    """Steps and clocks of the interface benchmark, for candidates."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.cuda = options, options.device == "cuda"
        self.states = torch.randn(options.shape, device=options.device).to(options.dtype)

    def reading(self) -> str:
        """Measure a copy of the states, and a mean over layers: the simplest reading of them."""
        target, size = torch.empty_like(self.states), self.states.nbytes
        copies = [self.time(lambda: target.copy_(self.states)) for _ in range(9)]
        means = [self.time(lambda: self.states.mean(0)) for _ in range(9)]
        self.copying = 2 * size / statistics.median(copies[2:]) * 1e3
        mean = size / statistics.median(means[2:]) * 1e3
        return (
            f"a copy moves {self.copying / 1e9:.0f} GB/s (read + write), "
            f"a mean over layers reads {mean / 1e9:.0f} GB/s ({mean / self.copying:.0%})"
        )

    def rows(self, name: str, wanted: Callable[[str], bool]) -> Iterator[dict[str, Any]]:
        """Give a row for each wanted candidate of an interface, the plain form first."""
        layers, _, _, dim = self.options.shape
        interface = SSL_Interface.create(name, layers, dim, normalize=False)
        interface = interface.to(self.options.device).eval()  # Dropout would part the forms.
        if interface.needs_fit:
            interface.fit_batch(self.states.float())
            interface.fit_finish()
        few = self.states[:, :2, :50].contiguous()
        exact = self.gradients(Formed(interface, PLAIN[name]), few.float())
        for label, candidate in {"plain": Candidate(PLAIN[name]), **CANDIDATES[name]}.items():
            row: dict[str, Any] = {"name": f"{name}/{label}"}
            if not wanted(row["name"]):
                continue
            if candidate.gpu_only and not self.cuda:
                yield row | {"note": "needs a GPU"}
                continue
            module = Formed(interface, candidate.form)
            with exchanged(candidate.parts):
                try:
                    row["error"] = worst(self.gradients(module, few), exact)
                    if self.cuda:
                        row |= self.measured(module, row["name"])
                        if name == "weighted_sum":
                            read = 2e3 * self.states.nbytes / row["graph"]
                            row["of_copy"] = read / self.copying
                except RuntimeError as error:  # out of memory, or a shape that it is not for
                    row["note"] = f"failed: {str(error).splitlines()[0]}"
            yield row

    def gradients(self, module: nn.Module, states: Tensor) -> list[Tensor]:
        """Features, and every parameter's gradient under a fixed gradient of the features."""
        low = states.dtype != torch.float32
        with torch.autocast(self.options.device, states.dtype, enabled=low):
            features = module(states)
        parameters = list(module.parameters())
        if not parameters:
            return [features]
        generator = torch.Generator(states.device).manual_seed(1)
        given = torch.randn(features.shape, device=states.device, generator=generator)
        given = given.to(self.options.dtype).to(features.dtype)
        return [features.detach(), *torch.autograd.grad(features, parameters, given)]

    def measured(self, module: nn.Module, name: str) -> dict[str, float]:
        """Time a step eager and as a graph, in milliseconds; MiB at its peak."""
        steps = {"eager": self.step(module, self.options.dtype), "graph": self.graphed(module)}
        for step in steps.values():
            for _ in range(3):
                step()
        found = {"mib": self.peak(steps["eager"])}
        for column, step in steps.items():
            times = [self.time(step) for _ in range(self.options.repeats)]
            found[column] = statistics.median(times)
        if self.options.profile:
            with torch.profiler.profile() as profile:
                steps["eager"]()
                torch.cuda.synchronize()
            print(f"\n{name}\n{profile.key_averages().table('self_cuda_time_total', row_limit=12)}")
        return found


@contextmanager
def exchanged(parts: dict[str, Any]) -> Iterator[None]:
    """Put other parts into the library for a while."""
    with ExitStack() as stack:
        for target, part in parts.items():
            stack.enter_context(patch(target, part))
        yield


def worst(found: list[Tensor], exact: list[Tensor]) -> float:
    """Largest relative error (L2) of features and gradients."""
    pairs = zip(found, exact, strict=True)
    return max(float((a.float() - b.float()).norm() / b.float().norm()) for a, b in pairs)


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Print the table and return its rows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--shape", help="LxBxTxD; 13x16x824x768, on a CPU 13x2x9x48")
    parser.add_argument("--only", nargs="*", metavar="NAME", help="hconv or hconv/im2col, …")
    parser.add_argument("--repeats", type=int, default=11, help="timings a median is of")
    parser.add_argument("--profile", action="store_true", help="also each one's longest kernels")
    options = parser.parse_args(arguments)
    gpu = options.device == "cuda"
    if options.profile and not gpu:
        parser.error("--profile needs a GPU")
    named = [f"{name}/{label}" for name in CANDIDATES for label in ("plain", *CANDIDATES[name])]
    for only in options.only or []:
        if only not in CANDIDATES and only not in named:
            parser.error(f"--only: expected one of {', '.join([*CANDIDATES, *named])}; {only!r}")
    shape = options.shape or ("13x16x824x768" if gpu else "13x2x9x48")
    options.shape = tuple(int(size) for size in shape.split("x"))
    options.dtype = torch.bfloat16 if gpu else torch.float32
    torch.manual_seed(0)

    def wanted(name: str) -> bool:
        return not options.only or bool({name, name.partition("/")[0]} & set(options.only))

    hardware = torch.cuda.get_device_name() if gpu else BENCH.cpu()
    print(f"{hardware}; torch {torch.__version__}; states {shape}, {options.dtype}\n")
    schedules, rows = Schedules(options), []
    if gpu:
        print(f"{schedules.reading()}\n")
    print("| schedule | worst error | eager ms | graph ms | peak MiB | of copy | |")
    print("|---|---|---|---|---|---|---|")
    for name in CANDIDATES:
        for row in schedules.rows(name, wanted):
            rows.append(row)
            formats = {"error": ".1e", "eager": ".3f", "graph": ".3f", "mib": ".0f"}
            formats["of_copy"] = ".0%"
            cells = [format(row[key], f) if key in row else "" for key, f in formats.items()]
            print(f"| {row['name']} | {' | '.join(cells)} | {row.get('note', '')} |", flush=True)
    return rows


if __name__ == "__main__":
    main()
