"""A bidirectional LSTM forward and backward, as each way of ``heads/bilstm.py`` takes it: ms.

    python benchmarks/lstm.py --hidden 128 --runs 5

``packed`` is PyTorch's own, ``two_ways`` cuDNN's on padded sequences, ``fused`` the kernels of
``heads/_lstm.py``. The runs are computed one after another, and recorded as branches of one CUDA
graph. Inputs are random, weights those of a new LSTM, products in bf16 autocast.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from ssl_bench.heads import bilstm
from ssl_bench.lanes import side_by_side


def learn(way: Callable[..., Tensor], rnn: nn.LSTM, x: Tensor, lengths: Tensor) -> None:
    """Go forward and back; nothing is kept."""
    with torch.autocast("cuda", torch.bfloat16, cache_enabled=False):
        outputs = way(rnn, x, lengths)
    torch.autograd.grad(outputs, [x, *rnn.parameters()], torch.ones_like(outputs))


def milliseconds(step: Callable[[], object], steps: int) -> float:
    """Return the median of some calls after a quarter as many to warm up."""
    taken = []
    for _ in range(steps + steps // 4):
        torch.cuda.synchronize()
        began = time.perf_counter()
        step()
        torch.cuda.synchronize()
        taken.append(time.perf_counter() - began)
    return float(np.median(taken[steps // 4 :])) * 1e3


def recorded(work: list[Callable[[], None]]) -> torch.cuda.CUDAGraph:
    """Record the runs as branches; they have been computed before."""
    lanes = [torch.cuda.Stream() for _ in work]
    graph = torch.cuda.CUDAGraph()
    torch.cuda.synchronize()
    with torch.cuda.graph(graph, stream=lanes[0]):
        side_by_side(lanes, work)
    return graph


def main() -> None:
    """Print one row a way."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--utterances", type=int, default=24)
    parser.add_argument("--frames", type=int, default=170)
    parser.add_argument("--steps", type=int, default=40)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    shape = arguments.utterances, arguments.frames, arguments.dim
    lengths = torch.randint(arguments.frames * 3 // 4, arguments.frames + 1, shape[:1])
    lengths[0] = arguments.frames
    lengths = lengths.cuda()
    made = partial(nn.LSTM, arguments.dim, arguments.hidden, batch_first=True, bidirectional=True)
    rnns = [made().cuda() for _ in range(arguments.runs)]
    inputs = [torch.randn(shape, device="cuda", requires_grad=True) for _ in rnns]
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}: {arguments}")
    print(f"{'way':12}{'in turn ms':>14}{'recorded ms':>14}")
    names = ["packed", "two_ways"]
    if bilstm.on_chip(arguments.hidden, inputs[0].device, torch.bfloat16):
        names.append("fused")
    for name in names:
        way = getattr(bilstm, name)
        work = [partial(learn, way, rnn, x, lengths) for rnn, x in zip(rnns, inputs, strict=True)]
        turns = milliseconds(lambda work=work: [one() for one in work], arguments.steps)
        row = f"{name:12}{turns:14.2f}"
        if name != "packed":  # it reads lengths on the host
            row += f"{milliseconds(recorded(work).replay, arguments.steps):14.2f}"
        print(row, flush=True)


if __name__ == "__main__":
    main()
