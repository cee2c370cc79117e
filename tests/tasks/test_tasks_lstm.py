"""The fused LSTM is torch's, and is used where it fits on the chip."""

import copy
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from ssl_bench.heads import bilstm
from ssl_bench.heads.bilstm import BiLSTMHead, fits, fused, on_chip, packed, two_ways

TRITON = importlib.util.find_spec("triton") is not None
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
LENGTHS = [60, 1, 33, 60, 17, 2, 59, 8, 24, 41, 5, 60, 13, 37, 20, 50, 3, 29]
"""More than a program takes, the second of them shorter."""


@pytest.mark.skipif(not TRITON, reason="needs Triton, which comes with torch's CUDA build")
def test_the_kernels_are_torchs_arithmetic() -> None:
    script = Path(__file__).with_name("interpreted_lstm.py")
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr


def test_what_fits_on_a_chip() -> None:
    halves = torch.bfloat16, torch.float16
    assert [fits(hidden, kind) for kind in halves for hidden in (5, 128, 129)] == [
        True,
        True,
        False,
    ] * 2
    assert [fits(hidden, torch.float32) for hidden in (64, 65)] == [True, False]
    assert not fits(16, torch.float64)


def test_without_triton_it_is_cudnns(monkeypatch, recwarn) -> None:
    monkeypatch.setattr(bilstm, "find_spec", lambda name: None)
    assert not on_chip.__wrapped__(16, torch.device("cuda"), torch.float32)
    assert not recwarn.list


@pytest.mark.skipif(not TRITON, reason="needs Triton")
def test_a_gpu_with_less_on_its_chip_is_told(monkeypatch) -> None:
    def broken(*_):
        from triton.runtime.errors import OutOfResources

        raise OutOfResources(225280, 101376, "shared memory")

    module = SimpleNamespace(Recurrence=SimpleNamespace(apply=broken))
    monkeypatch.setitem(sys.modules, "ssl_bench.heads._lstm", module)
    with pytest.warns(
        UserWarning, match="BiLSTM of 16 is cuDNN's on cpu, .*: out of resource: sha"
    ):
        assert not on_chip.__wrapped__(16, torch.device("cpu"), torch.float32)


@needs_gpu
@pytest.mark.parametrize(("hidden", "names"), [(16, ["fused"] * 2), (1024, ["two_ways"] * 2)])
def test_the_head_takes_what_fits(hidden: int, names: list[str], monkeypatch) -> None:
    taken = []
    for name in ("packed", "two_ways", "fused"):
        real = getattr(bilstm, name)
        monkeypatch.setattr(
            bilstm, name, lambda *a, name=name, real=real: taken.append(name) or real(*a)
        )
    head = BiLSTMHead(7, 5, hidden, 2, 0.0, None).cuda()
    x, lengths = batch(LENGTHS, 7)
    with torch.autocast("cuda", torch.bfloat16):
        head(x.cuda(), lengths.cuda())
    assert taken == names
    head.cpu()(x, lengths)
    assert taken == names + ["packed"] * 2


def batch(lengths: list[int], dim: int) -> tuple[Tensor, Tensor]:
    """Draw states (B, T, D) with two frames more than the longest utterance has."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(len(lengths), max(lengths) + 2, dim, generator=generator)
    return x.requires_grad_(), torch.tensor(lengths)


def lstm(dim: int, hidden: int) -> nn.LSTM:
    torch.manual_seed(hidden)
    return nn.LSTM(dim, hidden, batch_first=True, bidirectional=True)


def results(run, rnn: nn.LSTM, x: Tensor, lengths: Tensor) -> list[Tensor]:
    """Outputs, and the gradients of states and all parameters for the same cotangent."""
    outputs = run(rnn, x, lengths)
    cotangent = torch.randn(outputs.shape, generator=torch.Generator().manual_seed(1))
    cotangent = cotangent.to(outputs.device, outputs.dtype)
    return [outputs, *torch.autograd.grad(outputs, [x, *rnn.parameters()], cotangent)]


@needs_gpu
@pytest.mark.parametrize("hidden", [16, 40, 64])
@pytest.mark.parametrize("lengths", [LENGTHS, [1], [7, 7, 1]], ids=len)
def test_in_full_precision_it_is_the_packed_one(hidden: int, lengths: list[int]) -> None:
    assert on_chip(hidden, torch.device("cuda", 0), torch.float32)
    rnn, (x, counts) = lstm(24, hidden), batch(lengths, 24)
    expected = results(packed, rnn, x, counts)
    there = x.detach().cuda().requires_grad_()
    found = results(fused, copy.deepcopy(rnn).cuda(), there, counts.cuda())
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.cpu(), other, rtol=1e-4, atol=1e-4)


@needs_gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("hidden", [5, 16, 32, 64, 100, 128])
def test_under_autocast_it_is_as_near_as_cudnns(hidden: int, dtype: torch.dtype) -> None:
    assert on_chip(hidden, torch.device("cuda", 0), dtype)
    rnn, (x, counts) = lstm(24, hidden).cuda(), batch(LENGTHS, 24)
    x, counts = x.detach().cuda().requires_grad_(), counts.cuda()
    expected = results(packed, rnn.cpu(), x.cpu(), counts.cpu())
    rnn.cuda()
    with torch.autocast("cuda", dtype):
        found, theirs = (results(run, rnn, x, counts) for run in (fused, two_ways))
    # Whatever the type of autocast, cuDNN's LSTM computes in fp16.
    assert (found[0].dtype, theirs[0].dtype) == (dtype, torch.float16)
    tolerance = 0.015 if dtype == torch.bfloat16 else 0.002
    for mine, cudnns, exact in zip(found, theirs, expected, strict=True):
        assert (mine.float().cpu() - exact).norm() < tolerance * exact.norm()
        assert (mine.float() - cudnns.float()).norm() < 2 * tolerance * cudnns.float().norm()


@needs_gpu
def test_it_gives_the_same_bits_twice_and_as_a_graph() -> None:
    rnn, (x, counts) = lstm(24, 128).cuda(), batch(LENGTHS, 24)
    x, counts = x.detach().cuda().requires_grad_(), counts.cuda()
    cotangent = torch.randn(*x.shape[:2], 256, device="cuda", dtype=torch.bfloat16)

    def both() -> list[Tensor]:
        with torch.autocast("cuda", torch.bfloat16, cache_enabled=False):
            outputs = fused(rnn, x, counts)
        return [outputs, *torch.autograd.grad(outputs, [x, *rnn.parameters()], cotangent)]

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(2):
            both()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        recorded = both()
    for seed in range(2):
        torch.manual_seed(seed)
        x.data.normal_()
        counts.copy_(counts[torch.randperm(len(counts), device="cuda")])
        graph.replay()
        once = [value.clone() for value in recorded]
        graph.replay()
        for one, other, eager, again in zip(once, recorded, both(), both(), strict=True):
            assert torch.equal(one, other)
            assert torch.equal(eager, again)
            assert (one - eager).float().norm() <= 1e-3 * eager.float().norm()
