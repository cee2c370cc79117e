"""The published augmentation can be recorded: no shape and no value goes by the host."""

import pytest
import torch
from torch import Tensor

import SSL_Interface
from ssl_bench.heads.conv_transformer import ConvTransformerHead
from ssl_bench.heads.padding import pad_by_group
from ssl_bench.runs import Joined, Run, Runs
from ssl_bench.steps import EagerStep, RecordedStep, take
from ssl_bench.tasks._sequence import ctc_losses
from ssl_bench.tasks.multi_asr import Config

RUNS = [Run(0, 1e-2), Run(1, 3e-3)]
AUGMENT = Config(kind="multi_asr", corpus="x").specaugment
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def stacked(device: str, groups: int | None) -> Runs:
    def make() -> Joined:
        joined = SSL_Interface.create("hconv", num_layers=4, dim=40, normalize=False)
        head = ConvTransformerHead(joined.output_dim, 5, 12, 16, 1, 2, 32, 0.1, AUGMENT)
        if groups is not None:
            pad_by_group(head, groups)
        return Joined(joined, head)

    return Runs(RUNS, make, torch.device(device), stackable=True)


def train(runs: Runs, kind: type, steps: int = 8) -> Tensor:
    torch.manual_seed(5)
    step, history = kind(runs), []
    device = runs.device
    for number in range(steps):
        generator = torch.Generator().manual_seed(number)
        size, frames = [(4, 60), (2, 83)][number % 2]
        states = torch.randn(2, 4, size, frames, 40, generator=generator)
        lengths = torch.randint(30, frames + 1, (2, size), generator=generator)
        targets = torch.randint(1, 5, (2 * size, 6), generator=generator).to(device)
        counts = torch.full((2 * size,), 6)

        def losses(
            outputs: Tensor, out: Tensor, targets: Tensor = targets, counts: Tensor = counts
        ) -> Tensor:
            each = ctc_losses(outputs.flatten(0, 1), out.flatten(), targets, counts, False)
            return each.view(2, -1).mean(1)

        history.append(
            take(step, states.to(device, torch.bfloat16), lengths.to(device), losses, 1.0)
        )
    return torch.stack(history).cpu()


@pytest.mark.parametrize("groups", [None, 1, 2])
def test_an_eager_step_trains_and_repeats_itself(groups: int | None) -> None:
    first, second = (train(stacked("cpu", groups), EagerStep) for _ in range(2))
    assert torch.equal(first, second)
    assert first.isfinite().all()


@needs_gpu
@pytest.mark.parametrize("groups", [None, 1, 2])
def test_recorded_equals_eager(groups: int | None) -> None:
    eager, recorded = stacked("cuda", groups), stacked("cuda", groups)
    expected, found = train(eager, EagerStep), train(recorded, RecordedStep)
    torch.testing.assert_close(found, expected, rtol=2e-2, atol=2e-2)
