"""Steps go on after a checkpoint with the random numbers that they would have drawn."""

import pytest
import torch
from torch import Tensor, nn

import SSL_Interface
from ssl_bench.checkpoints import VARIABLE, Checkpoints, Keeper
from ssl_bench.heads.specaugment import SpecAugment, SpecAugmentConfig
from ssl_bench.runs import Joined, Run, Runs
from ssl_bench.steps import EagerStep, RecordedStep, Step, make_step, take

gpu = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))


class Masked(nn.Module):
    """One linear layer at every frame, behind masks and dropout."""

    def __init__(self) -> None:
        super().__init__()
        masks = {"feature_masks": 1, "feature_width": 4, "time_masks": 1, "time_width": 4}
        self.augment = SpecAugment(SpecAugmentConfig(**masks))
        self.dropout, self.linear = nn.Dropout(0.2), nn.Linear(8, 4)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return self.linear(self.dropout(self.augment(features, lengths))), lengths


@pytest.mark.parametrize("device", ["cpu", gpu])
def test_steps_go_on_with_the_same_masks_recorded_or_not(device, monkeypatch, tmp_path) -> None:
    """A shape is recorded anew after a checkpoint, another one for the first time.

    Without a warp: a GPU adds up its gradient in an order that differs from run to run.
    """
    monkeypatch.setenv(VARIABLE, "0")
    home = torch.device(device)
    shapes = [(2, 20), (3, 31)]

    def begin() -> tuple[Runs, dict[str, Tensor], Step]:
        def make() -> Joined:
            joined = SSL_Interface.create("weighted_sum", num_layers=4, dim=8, normalize=False)
            return Joined(joined, Masked())

        runs = Runs([Run(0, 1e-2), Run(1, 1e-2)], make, home, stackable=True)
        step = make_step(runs)
        assert isinstance(step, RecordedStep if device == "cuda" else EagerStep)
        return runs, runs.state(), step

    def advance(step: Step, number: int) -> None:
        generator = torch.Generator().manual_seed(number)
        size, frames = shapes[number in (2, 5)]
        states = torch.randn(2, 4, size, frames, 8, generator=generator).to(home)
        lengths = torch.full((2, size), frames, device=home)
        take(step, states, lengths, lambda outputs, _: outputs.square().flatten(1).mean(1), 1.0)

    def kept() -> Keeper:
        return Checkpoints(tmp_path, "steps", home, 6).keeper(0, [])

    runs, _, step = begin()
    for number in range(6):
        advance(step, number)
    for killed in (1, 2, 3, 5):
        _, tensors, step = begin()
        keeper = kept()
        keeper.resume(tensors, [])
        for number, _ in keeper.watch((n, None) for n in range(keeper._step + 1, killed + 1)):
            advance(step, number - 1)
    last, tensors, step = begin()
    for number in range(kept().resume(tensors, []), 6):
        advance(step, number)
    for name, value in runs.state().items():
        assert torch.equal(last.state()[name], value), name
