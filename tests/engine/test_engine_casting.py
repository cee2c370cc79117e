"""Copies in autocast's type that are made for all runs at once change no number."""

import pytest
import torch
from torch import nn

import SSL_Interface
from ssl_bench import runs as module
from ssl_bench.heads.bilstm import BiLSTMHead
from ssl_bench.heads.conv_transformer import ConvTransformerHead
from ssl_bench.heads.frame_linear import FrameLinearHead
from ssl_bench.heads.utterance_linear import UtteranceLinearHead
from ssl_bench.heads.xvector import XVectorHead
from ssl_bench.runs import Joined, Run, Runs

DIM = 16
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
HEADS = {
    "frame": lambda dim: FrameLinearHead(dim, 8, 5, "relu"),
    "utterance": lambda dim: UtteranceLinearHead(dim, 8, 5),
    "xvector": lambda dim: XVectorHead(dim, 6, 8, 12),
    "transformer": lambda dim: ConvTransformerHead(dim, 5, 16, 8, 1, 2, 12, 0.1, None),
    "bilstm": lambda dim: BiLSTMHead(dim, 5, 8, 1, 0.1, None),
}
RUNS = [Run(0, 1e-2), Run(1, 3e-3), Run(2, 1e-3)]


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=needs_gpu)])
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.param)


def learned(head: str, interface: str, device: torch.device, cast: bool) -> tuple:
    def make() -> Joined:
        joined = SSL_Interface.create(interface, num_layers=3, dim=DIM, normalize=False)
        return Joined(joined, HEADS[head](joined.output_dim))

    group = Runs(RUNS, make, device, stackable=head != "bilstm", autocast=False)
    group.autocast = True
    if cast:
        group.cast_once()
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(3, 3, 4, 24, DIM, generator=generator).to(device)
    lengths = torch.tensor([[24, 20, 17, 22]] * 3).to(device)
    found = []
    for _ in range(2):  # the copies of the second step are of parameters that have changed
        torch.manual_seed(1)
        outputs, _ = group.forward(states, lengths, training=True, shared=False)
        gradient = group.gradients(
            outputs, torch.linspace(-1, 1, outputs.numel()).to(outputs).view_as(outputs)
        )
        group.update(gradient, 1.0)
        found += [outputs.detach(), gradient]
    return *found, group


@pytest.mark.parametrize("interface", ["weighted_sum", "weighted_sum_mlp", "cls_pooling"])
@pytest.mark.parametrize("head", HEADS)
def test_outputs_and_gradients_are_the_same_bits(
    head: str, interface: str, device: torch.device, monkeypatch
) -> None:
    monkeypatch.setattr(module, "stacking_pays", lambda *_: False)
    *plain, _ = learned(head, interface, device, cast=False)
    *found, group = learned(head, interface, device, cast=True)
    for one, other in zip(found, plain, strict=True):
        assert other.dtype is torch.float32
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    names = zip(group.params, group.leaves, strict=True)
    low = {name for name, leaf in names if leaf.dtype is torch.bfloat16}
    linear = {
        f"head.{name}.{own}"
        for name, part in group.skeleton.head.named_modules()
        if isinstance(part, nn.Linear | nn.Conv2d)
        for own, _ in part.named_parameters()
    }
    assert low == linear


def test_stacked_runs_are_cast_by_autocast(monkeypatch) -> None:
    monkeypatch.setattr(module, "stacking_pays", lambda *_: True)
    *_, group = learned("frame", "weighted_sum", torch.device("cpu"), cast=True)
    assert {leaf.dtype for leaf in group.leaves} == {torch.float32}


def test_parameters_are_kept_in_full_precision() -> None:
    *_, group = learned("frame", "weighted_sum", torch.device("cpu"), cast=True)
    assert {value.dtype for value in group.snapshot().values()} == {torch.float32}
    assert {value.dtype for value in group.state().values() if value.is_floating_point()} <= {
        torch.float32,
        torch.float64,
    }
