"""How fast an encoder fills the stream of features: seconds of audio encoded in a second.

    python benchmarks/encoding.py --shape base large --seconds 8

Random weights in the shapes of HuBERT Base and Large, waveforms of noise, batches of 800 s and bf16
autocast as the features stage has them on a GPU. The lines that it prints last are lines of
``workflow/ssl_bench/planning/throughput.csv``.
"""

import argparse
import platform
import time

import torch
import transformers
from random_hubert import SHAPES

import ssl_bench
from ssl_bench.features import STORED
from ssl_bench.upstreams.base import SAMPLE_RATE
from ssl_bench.upstreams.transformers import TransformersUpstream

BATCH_SECONDS = {"cuda": 800, "cpu": 40}


def times_real_time(encoder: TransformersUpstream, seconds: float, batches: int) -> float:
    """Encode batches of utterances of ``seconds``, after one as warm-up; return audio over time."""
    device = next(encoder.parameters()).device
    count = max(1, int(BATCH_SECONDS[device.type] / seconds))
    waves = [torch.randn(int(seconds * SAMPLE_RATE), device=device) * 0.1 for _ in range(count)]
    for batch in range(batches + 1):
        if batch == 1:
            _wait(device)
            began = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            states, _ = encoder(waves)
        states.to(STORED)
    _wait(device)
    return batches * count * seconds / (time.perf_counter() - began)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    """Print one line a shape."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--seconds", type=float, default=8.0, help="of an utterance")
    parser.add_argument("--batches", type=int, default=5)
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name() if device.type == "cuda" else platform.processor()
    print(f"{name}, torch {torch.__version__}, ssl_bench {ssl_bench.__version__}")
    for shape in arguments.shape:
        model = transformers.HubertModel(transformers.HubertConfig(**SHAPES[shape]))
        encoder = TransformersUpstream(model, normalize=False).to(device)
        layers, dim = encoder.probe()
        speed = times_real_time(encoder, arguments.seconds, arguments.batches)
        source = f"benchmarks/encoding.py --shape {shape} --seconds {arguments.seconds:g}"
        print(f"encode,{name},{layers},{dim},,,,,{speed:.0f},times real time,{source}", flush=True)


if __name__ == "__main__":
    main()
