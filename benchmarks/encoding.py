"""How fast an encoder fills the stream of features, and how near its states are to those in fp32.

    python benchmarks/encoding.py --shape base large --seconds 8
    python benchmarks/encoding.py --shape base large --librispeech
    python benchmarks/encoding.py --shape base large --family wavlm

Random weights in the shapes of HuBERT (or WavLM) Base and Large, waveforms of noise, batches of
800 s, states layer-normed and in bf16 as the features stage keeps them. In turn: transformers under
bf16 autocast (``Upstream.packed``), which is how families are encoded that ``_packed.py`` does not
know, and what the features stage takes. Errors are of each state beside its length, on 16
utterances, against fp32 without TF32. ``--csv`` adds the speed to a table that
``workflow/ssl_bench/planning/throughput.csv`` can be.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import transformers
from measured import hardware, line, record
from random_hubert import SHAPES, TINY
from speechlike import durations
from torch import Tensor

import ssl_bench
from ssl_bench.audio import SAMPLE_RATE
from ssl_bench.upstreams.base import Upstream
from ssl_bench.upstreams.transformers import TransformersUpstream

FAMILIES = {
    "hubert": (transformers.HubertConfig, transformers.HubertModel),
    "wavlm": (transformers.WavLMConfig, transformers.WavLMModel),
}
STORED = True, torch.bfloat16
"""How the stream of features has states: layer-normed, in bf16."""
BATCH_SECONDS = {"cuda": 800, "cpu": 40}
Encode = Callable[[list[Tensor]], Tensor]


def utterances(seconds: float | None, total: float, device: torch.device) -> list[Tensor]:
    """Make utterances of ``seconds`` each, or of LibriSpeech's lengths from a sorted corpus."""
    if seconds is not None:
        lengths = np.full(max(1, int(total / seconds)), seconds)
    else:
        corpus = np.sort(durations(4000, np.random.default_rng(0)))[::-1]
        lengths = corpus[1000 : 1000 + int(total / corpus[1000])]  # as the stage batches them
    return [torch.randn(round(n * SAMPLE_RATE), device=device) * 0.1 for n in lengths]


def times_real_time(encode: Encode, waves: list[Tensor], batches: int) -> float:
    """Encode a batch several times, after twice as warm-up; return audio over the median time."""
    times = []
    for batch in range(batches + 2):
        _wait(waves[0].device)
        began = time.perf_counter()
        encode(waves)
        _wait(waves[0].device)
        if batch > 1:
            times.append(time.perf_counter() - began)
    return sum(map(len, waves)) / SAMPLE_RATE / statistics.median(times)


def errors(encode: Encode, exact: Tensor, waves: list[Tensor]) -> tuple[float, float]:
    """Return the largest and the mean relative error of states (N, L, D)."""
    apart = (encode(waves).float() - exact).norm(dim=-1) / exact.norm(dim=-1)
    return float(apart.max()), float(apart.mean())


def in_fp32(encoder: Upstream, waves: list[Tensor]) -> Tensor:
    """Return layer-normed states (N, L, D), computed and kept in fp32."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    states, lengths = encoder(waves)
    torch.backends.cudnn.allow_tf32 = before
    states = torch.nn.functional.layer_norm(states, states.shape[-1:]).permute(1, 2, 0, 3)
    return torch.cat([own[:n] for own, n in zip(states, lengths.tolist(), strict=True)])


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    """Print both ways for each shape."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", nargs="+", choices=[*SHAPES, "tiny"], default=list(SHAPES))
    parser.add_argument("--family", choices=FAMILIES, default="hubert")
    parser.add_argument("--seconds", type=float, default=8.0, help="of an utterance")
    parser.add_argument("--librispeech", action="store_true", help="LibriSpeech's lengths instead")
    parser.add_argument("--batches", type=int, default=5)
    parser.add_argument("--csv", type=Path, help="table to add the features stage's speed to")
    arguments = parser.parse_args()
    if arguments.csv and arguments.family != "hubert":
        parser.error("--csv: the table has one speed for each shape, that of hubert")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = hardware(device)
    print(f"{name}, torch {torch.__version__}, ssl_bench {ssl_bench.__version__}")
    seconds = None if arguments.librispeech else arguments.seconds
    option = "--librispeech" if arguments.librispeech else f"--seconds {arguments.seconds:g}"
    for shape in arguments.shape:
        torch.manual_seed(0)
        configuration, family = FAMILIES[arguments.family]
        model = family(configuration(**{**SHAPES, "tiny": TINY}[shape]))
        encoder = TransformersUpstream(model, normalize=False).to(device)
        label = f"{arguments.family} {shape}"
        layers, dim = encoder.probe()
        waves = utterances(seconds, BATCH_SECONDS[device.type], device)
        few = waves[:: max(1, len(waves) // 16)][:16]
        exact = in_fp32(encoder, few)
        ways: dict[str, Encode] = {
            "transformers, autocast": lambda w, e=encoder: Upstream.packed(e, w, *STORED),
            "features stage": lambda w, e=encoder: e.packed(w, *STORED),
        }
        for way, encode in ways.items():
            speed = times_real_time(encode, waves, arguments.batches)
            most, mean = errors(encode, exact, few)
            print(
                f"{label}, {len(waves)} utterances, {way}: {speed:.0f} times real time, "
                f"relative error at most {most:.4f}, mean {mean:.4f}",
                flush=True,
            )
        if arguments.csv is None:
            continue
        found = line(
            stage="encode",
            hardware=name,
            layers=layers,
            dim=dim,
            value=f"{speed:.0f}",
            unit="times real time",
            source=f"benchmarks/encoding.py --shape {shape} {option}",
        )
        record(arguments.csv, [found])


if __name__ == "__main__":
    main()
