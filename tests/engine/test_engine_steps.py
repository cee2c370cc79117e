"""A recorded step gives what an eager one gives; how a step is chosen."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn

import SSL_Interface
from ssl_bench import runs as module
from ssl_bench.heads.bilstm import BiLSTMHead
from ssl_bench.heads.frame_linear import FrameLinearHead
from ssl_bench.runs import Joined, Run, Runs
from ssl_bench.steps import EagerStep, RecordedStep, differentiate, make_step, take
from ssl_bench.tasks._sequence import ctc_losses

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
RUNS = [Run(0, 1e-2), Run(1, 3e-3), Run(2, 1e-1)]
SHAPES = [(4, 20), (2, 33)]  # batch and frames of the two buckets


class Noisy(nn.Module):
    """A head that draws random numbers in training."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dropout, self.head = nn.Dropout(0.2), FrameLinearHead(dim, 16, 5)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return self.head(self.dropout(features), lengths)


def stacked(interface: str, device: str, *, dropout: bool = False, stackable: bool = True) -> Runs:
    def make() -> Joined:
        joined = SSL_Interface.create(interface, num_layers=4, dim=8, normalize=False)
        head = Noisy if dropout else partial(FrameLinearHead, hidden=16, classes=5)
        return Joined(joined, head(joined.output_dim))

    return Runs(RUNS, make, torch.device(device), stackable=stackable)


def batch(step: int, device: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    size, frames = SHAPES[step % len(SHAPES)]
    shape = (len(RUNS), 4, size, frames, 8)
    states = torch.randn(shape, generator=generator).to(device, torch.bfloat16)
    lengths = torch.randint(12, frames + 1, (len(RUNS), size), generator=generator)
    targets = torch.randint(1, 5, (len(RUNS) * size, 6), generator=generator)
    return states, lengths.to(device), targets.to(device), torch.full((len(targets),), 6)


def train(runs: Runs, kind: type, steps: int = 12) -> Tensor:
    torch.manual_seed(5)
    step = kind(runs)
    history = []
    for number in range(steps):
        states, lengths, targets, counts = batch(number % 4, runs.device.type)

        def losses(
            outputs: Tensor, out: Tensor, targets: Tensor = targets, counts: Tensor = counts
        ) -> Tensor:
            each = ctc_losses(outputs.flatten(0, 1), out.flatten(), targets, counts, True)
            return each.view(len(RUNS), -1).mean(1)

        history.append(take(step, states, lengths, losses, 1.0 - number / 24))
    return torch.stack(history).cpu()


def test_a_step_is_recorded_on_a_gpu_only_and_if_it_can_be() -> None:
    assert isinstance(make_step(stacked("weighted_sum", "cpu")), EagerStep)
    if torch.cuda.is_available():
        runs = stacked("weighted_sum", "cuda", stackable=False)
        assert isinstance(make_step(runs), RecordedStep)
        runs.recordable = False
        assert isinstance(make_step(runs), EagerStep)


def test_an_eager_step_trains() -> None:
    history = train(stacked("hconv", "cpu"), EagerStep, steps=40)
    assert (history[-4:].mean(0) < history[:4].mean(0)).all()


@needs_gpu
@pytest.mark.parametrize("pays", [False, True], ids=["branches", "stacked"])
@pytest.mark.parametrize("dropout", [False, True])
@pytest.mark.parametrize("interface", ["weighted_sum", "concat", "hconv", "cls_pooling"])
def test_recorded_equals_eager(interface: str, dropout: bool, pays: bool, monkeypatch) -> None:
    monkeypatch.setattr(module, "stacking_pays", lambda *_: pays)
    eager, recorded = (stacked(interface, "cuda", dropout=dropout) for _ in range(2))
    expected, found = train(eager, EagerStep), train(recorded, RecordedStep)
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=2e-3)
    for name, value in eager.params.items():
        torch.testing.assert_close(recorded.params[name], value, rtol=2e-2, atol=2e-3)


@needs_gpu
@pytest.mark.parametrize("interface", ["weighted_sum", "hconv"])
def test_runs_that_cannot_be_stacked_are_recorded_one_by_one(interface: str) -> None:
    """A BiLSTM has no rule for vmap; its runs are branches of one recording."""
    torch.manual_seed(0)

    def made() -> Runs:
        def make() -> Joined:
            joined = SSL_Interface.create(interface, num_layers=4, dim=8, normalize=False)
            return Joined(joined, BiLSTMHead(joined.output_dim, 5, 16, 2, 0.0, None))

        return Runs(RUNS, make, torch.device("cuda"), stackable=False)

    eager, recorded = made(), made()
    expected, found = train(eager, EagerStep), train(recorded, RecordedStep)
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("kind", [EagerStep, pytest.param(RecordedStep, marks=needs_gpu)])
def test_one_batch_for_all_runs_is_that_batch_for_each(kind: type) -> None:
    device = "cuda" if kind is RecordedStep else "cpu"
    one, each = (stacked("hconv", device) for _ in range(2))
    for runs, shared in ((one, True), (each, False)):
        step = kind(runs)
        for number in range(4):
            states, lengths, targets, counts = batch(number, device)
            states, lengths = states[0], lengths[0]
            targets, counts = (x.unflatten(0, (len(RUNS), -1))[0] for x in (targets, counts))
            if not shared:
                states, lengths = (x.expand(len(RUNS), *x.shape) for x in (states, lengths))

            def losses(
                outputs: Tensor, out: Tensor, targets: Tensor = targets, counts: Tensor = counts
            ) -> Tensor:
                every = targets.repeat(len(RUNS), 1), counts.repeat(len(RUNS))
                found = ctc_losses(outputs.flatten(0, 1), out.flatten(), *every, True)
                return found.view(len(RUNS), -1).mean(1)

            take(step, states, lengths, losses, 1.0)
    for name, value in each.params.items():
        torch.testing.assert_close(one.params[name], value, rtol=2e-2, atol=2e-3)


@needs_gpu
def test_recording_changes_nothing_itself() -> None:
    runs = stacked("hconv", "cuda", dropout=True)
    before, generator = runs.snapshot(), torch.cuda.get_rng_state()
    states, lengths, *_ = batch(0, "cuda")
    step = RecordedStep(runs)
    with pytest.raises(ZeroDivisionError):
        take(step, states, lengths, lambda outputs, out: outputs / (1 // 0), 1.0)
    assert runs.updates.sum() == 0
    for name, value in runs.snapshot().items():
        assert torch.equal(value, before[name])
    assert not torch.equal(generator, torch.cuda.get_rng_state())  # the forward itself did draw


@needs_gpu
def test_a_run_that_diverges_stops_alone_when_recorded() -> None:
    runs = stacked("weighted_sum", "cuda")
    states, lengths, *_ = batch(0, "cuda")
    states[1] = torch.inf
    step = RecordedStep(runs)
    take(step, states, lengths, lambda outputs, _: outputs.square().flatten(1).mean(1), 1.0)
    assert runs.alive.tolist() == [True, False, True]
    assert all(value.isfinite().all() for value in runs.params.values())


@pytest.mark.parametrize("kind", [EagerStep, pytest.param(RecordedStep, marks=needs_gpu)])
@pytest.mark.parametrize("same", [True, False])
def test_groups_side_by_side_learn_what_each_learns_alone(kind: type, same: bool) -> None:
    """Whether they read the same states, or others of the same shape."""
    device = "cuda" if kind is RecordedStep else "cpu"
    names = ["hconv", "weighted_sum", "cls_pooling"]
    alone, together = ([stacked(name, device) for name in names] for _ in range(2))

    def losses(outputs: Tensor, lengths: Tensor) -> Tensor:
        return outputs.square().flatten(1).mean(1)

    def read(number: int, place: int) -> tuple[Tensor, Tensor]:
        return batch(number if same else number + 2 * place, device)[:2]

    step, steps = kind(*together), [kind(runs) for runs in alone]
    for number in range(6):
        shared = read(number, 0)
        reads = [shared if same else read(number, place) for place in range(len(names))]
        found = step.forward(reads)
        gradients = [differentiate(losses, *outputs)[1] for outputs in found]
        step.backward(gradients, 0.5)
        for one, (states, lengths) in zip(steps, reads, strict=True):
            take(one, states, lengths, losses, 0.5)
    for one, other in zip(alone, together, strict=True):
        for name, value in one.params.items():
            torch.testing.assert_close(other.params[name], value, rtol=1e-3, atol=1e-4)
        assert one.alive.all()
