"""How long a step takes that trains the encoder as well: milliseconds, and the largest memory.

    python benchmarks/fine_tuning.py --shape base --interfaces weighted_sum hconv

Random weights in the shapes of HuBERT Base and Large, waveforms of noise, ML-SUPERB's head and its
batch of 32 utterances. ``--csv`` adds what was found to a table that
``workflow/ssl_bench/planning/throughput.csv`` can be, by which ``python -m ssl_bench plan`` counts
GPU hours of fine-tuned cells.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
import transformers
from measured import hardware, line, record
from random_hubert import SHAPES, TINY
from torch import Tensor

import ssl_bench
import SSL_Interface
from ssl_bench.audio import SAMPLE_RATE
from ssl_bench.fine_tuning import Encoder, TunedRuns, Utterances, Waveforms
from ssl_bench.recipe import FineTune
from ssl_bench.runs import Joined, Run
from ssl_bench.steps import make_step, take
from ssl_bench.tasks._ml_superb import recogniser
from ssl_bench.tasks._sequence import ctc_losses
from ssl_bench.tasks.mono_asr import Config
from ssl_bench.upstreams import transformers as kind

CLASSES, SYMBOLS = 40, 60


def milliseconds(
    source: Waveforms, interface: str, waves: list[Tensor], frames: int, steps: int
) -> float:
    """Time training steps after two as warm-up."""

    def make() -> Joined:
        made = SSL_Interface.create(interface, source.layers, source.dim, normalize=False)
        config = Config(kind="mono_asr", corpus="noise")
        return Joined(made, recogniser(config, made.output_dim, CLASSES))

    device = source.device
    advance = make_step(TunedRuns([Run(0, 1e-4)], make, source, weight_decay=1e-6, clip=5.0))
    batch = Utterances(waves, frames, None, None)
    lengths = torch.full((1, len(waves)), frames, device=device)
    targets = torch.randint(1, CLASSES, (len(waves), SYMBOLS), device=device)
    counts = torch.full((len(waves),), SYMBOLS, device=device)

    def losses(outputs: Tensor, out: Tensor) -> Tensor:
        each = ctc_losses(outputs.flatten(0, 1), out.flatten(), targets, counts, False)
        return each.view(1, -1).mean(1)

    for step in range(steps + 2):
        if step == 2:
            _wait(device)
            began = time.perf_counter()
        take(advance, [batch], lengths, losses, 1.0)
    _wait(device)
    return 1e3 * (time.perf_counter() - began) / steps


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    """Print one line a shape and interface."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", nargs="+", choices=[*SHAPES, "tiny"], default=["base"])
    parser.add_argument("--interfaces", nargs="+", default=["weighted_sum", "hconv"])
    parser.add_argument("--utterances", type=int, default=32, help="of a batch")
    parser.add_argument("--seconds", type=float, default=8.0, help="of an utterance")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--no-checkpointing", action="store_true")
    parser.add_argument("--csv", type=Path, help="table to add the steps to")
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = hardware(device)
    print(f"{name}, torch {torch.__version__}, ssl_bench {ssl_bench.__version__}")
    settings = FineTune(learning_rate=1e-5, checkpointing=not arguments.no_checkpointing)
    samples = int(arguments.seconds * SAMPLE_RATE)
    waves = [torch.randn(samples, device=device) * 0.1 for _ in range(arguments.utterances)]
    audio = arguments.utterances * arguments.seconds
    for shape in arguments.shape:
        config = transformers.HubertConfig(**{**SHAPES, "tiny": TINY}[shape])
        model = transformers.HubertModel(config)
        upstream = kind.TransformersUpstream(model, normalize=False).to(device)
        layers, dim = upstream.probe()
        frames = upstream.frames(samples)
        encoder = Encoder(upstream, kind.parts(upstream), settings, normalize=True)
        source = Waveforms(
            layers=layers,
            dim=dim,
            stride=upstream.stride,
            frames=np.array([frames]),
            device=device,
            corpus=None,  # type: ignore[arg-type]
            encoder=encoder,
        )
        for interface in arguments.interfaces:
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            cost = milliseconds(source, interface, waves, frames, arguments.steps)
            peak = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else 0
            print(
                f"{shape} {interface}: {cost:.0f} ms a step of {audio:g} s, {peak:.1f} GiB",
                flush=True,
            )
            if arguments.csv is None:
                continue
            told = f"benchmarks/fine_tuning.py --shape {shape} --seconds {arguments.seconds:g}"
            told += f" --utterances {arguments.utterances}"
            told += " --no-checkpointing" if arguments.no_checkpointing else ""
            found = line(
                stage="tune",
                hardware=name,
                layers=layers,
                dim=dim,
                task="mono_asr",
                interface=interface,
                runs=1,
                batch_seconds=f"{audio:g}",
                value=f"{cost:.1f}",
                unit="ms",
                source=told,
            )
            record(arguments.csv, [found])


if __name__ == "__main__":
    main()
