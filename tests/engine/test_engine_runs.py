"""Stacked runs give what each run gives alone, and what torch's own optimizers give."""

import pytest
import torch
from torch import Tensor, nn

import SSL_Interface
from ssl_bench import runs as module
from ssl_bench.runs import Joined, Run, Runs, stacking_pays

CPU = torch.device("cpu")


class Mean(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.sum_weights = nn.Parameter(torch.zeros(3))

    def forward(self, states: Tensor, lengths: Tensor) -> Tensor:
        return torch.einsum("l,lbtd->btd", self.sum_weights.softmax(0), states)

    def macs_per_frame(self) -> int:
        return 12


class Head(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 2)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return self.linear(features.mean(1)), lengths


def make() -> Joined:
    return Joined(Mean(), Head())


def losses(outputs: Tensor) -> Tensor:
    return outputs.square().flatten(1).mean(1) + outputs.flatten(1).sum(1)


def data(seed: int) -> Tensor:
    return torch.randn(3, 5, 7, 4, generator=torch.Generator().manual_seed(seed))


def trained(runs: list[Run], stackable: bool = True, **options: float) -> Runs:
    group = Runs(runs, make, CPU, stackable=stackable, **options)
    for step in range(5):
        states = torch.stack([data(100 * run.seed + step) for run in runs])
        outputs, _ = group.forward(
            states, torch.full((len(runs), 5), 7), training=True, shared=False
        )
        group.step(losses(outputs))
    return group


@pytest.mark.parametrize("stackable", [True, False])
@pytest.mark.parametrize("pays", [True, False])
def test_together_equals_alone(pays: bool, stackable: bool, monkeypatch) -> None:
    monkeypatch.setattr(module, "stacking_pays", lambda *_: pays)
    runs = [Run(0, 1e-2), Run(1, 3e-3), Run(0, 1e-1)]
    together = trained(runs, stackable)
    for r, run in enumerate(runs):
        alone = trained([run], stackable)
        for name in alone.params:
            torch.testing.assert_close(together.params[name][r], alone.params[name][0])


@pytest.mark.parametrize("name", ["weighted_sum", "concat", "hconv", "cls_pooling"])
@pytest.mark.parametrize("shared", [True, False])
def test_stacked_equals_one_after_another(name: str, shared: bool, monkeypatch) -> None:
    def made() -> Joined:
        joined = SSL_Interface.create(name, num_layers=3, dim=4, normalize=False)
        return Joined(joined, nn.Linear(joined.output_dim, 2))

    monkeypatch.setattr(Joined, "forward", lambda self, x, n: (self.head(self.interface(x, n)), n))
    runs = [Run(0, 1e-2), Run(1, 3e-3)]
    group = Runs(runs, made, CPU, stackable=True)
    states, lengths = data(0), torch.full((5,), 7)
    if not shared:
        states, lengths = torch.stack([data(0), data(1)]), torch.full((2, 5), 7)
    found = []
    for pays in (True, False):
        monkeypatch.setattr(module, "stacking_pays", lambda *_, pays=pays: pays)
        outputs, counts = group.forward(states, lengths, training=True, shared=shared)
        assert torch.equal(counts, torch.full((2, 5), 7))
        found.append((outputs, group.gradients(losses(outputs), torch.ones(2))))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_stacking_pays_for_many_small_runs_on_a_gpu_and_for_shared_states_on_a_cpu() -> None:
    """Widths and seconds as of docs/performance.md."""

    def macs(name: str, layers: int, dim: int) -> int:
        interface = SSL_Interface.create(name, num_layers=layers, dim=dim)
        return interface.macs_per_frame() * 128 * 50

    for shared in (True, False):
        for branches in (None, 21, 65):
            assert stacking_pays("cuda", macs("hconv", 13, 192), shared, branches)
            assert stacking_pays("cuda", macs("weighted_sum", 25, 1024), shared, branches)
        for branches in (None, 2, 20, 21, 65):
            assert not stacking_pays("cuda", macs("hconv", 13, 768), shared, branches)
            assert not stacking_pays("cuda", macs("hconv", 25, 1024), shared, branches)
            assert stacking_pays("cpu", macs("hconv", 13, 192), shared, branches) is shared
        for branches in (2, 20):
            assert not stacking_pays("cuda", macs("weighted_sum", 13, 192), shared, branches)


@pytest.mark.parametrize(("count", "stackable"), [(1, True), (2, False), (2, True)])
@pytest.mark.parametrize(
    ("training", "recordable", "branches"),
    [(True, True, 2), (True, False, None), (False, True, None)],
)
def test_what_is_stacked(
    count: int, stackable: bool, training: bool, recordable: bool, branches: int | None, monkeypatch
) -> None:
    asked = []
    monkeypatch.setattr(module, "stacking_pays", lambda *given: asked.append(given) or True)
    group = Runs([Run(seed, 1e-2) for seed in range(count)], make, CPU, stackable=stackable)
    group.recordable = recordable
    looped = []
    real = group._looped
    monkeypatch.setattr(group, "_looped", lambda *given: looped.append(given) or real(*given))
    group.forward(data(0), torch.full((5,), 7), training=training, shared=True)
    assert asked == ([("cpu", 12 * 5 * 7, True, branches)] if count == 2 and stackable else [])
    assert bool(looped) is not bool(asked)


@pytest.mark.parametrize("decoupled", [False, True])
def test_the_optimizer_is_torchs(decoupled: bool) -> None:
    ours = trained([Run(2, 1e-2)], weight_decay=0.1, decoupled=decoupled, clip=0.5)
    torch.manual_seed(2)
    module = make()
    kind = torch.optim.AdamW if decoupled else torch.optim.Adam
    optimizer = kind(module.parameters(), lr=1e-2, weight_decay=0.1)
    for step in range(5):
        outputs, _ = module(data(200 + step), torch.full((5,), 7))
        optimizer.zero_grad()
        losses(outputs[None]).sum().backward()
        nn.utils.clip_grad_norm_(module.parameters(), 0.5)
        optimizer.step()
    for name, value in module.named_parameters():
        torch.testing.assert_close(ours.params[name][0], value.detach(), rtol=1e-5, atol=1e-6)


def test_a_run_that_diverges_stops_and_harms_no_other() -> None:
    runs = [Run(0, 1e-2), Run(1, 1e-2)]
    group = Runs(runs, make, CPU, stackable=True)
    states = torch.stack([data(0), data(1)])
    states[1] = torch.inf
    before = group.snapshot()
    outputs, _ = group.forward(states, torch.full((2, 5), 7), training=True, shared=False)
    group.step(losses(outputs))
    assert group.alive.tolist() == [True, False]
    for name, value in group.params.items():
        assert value.isfinite().all()
        torch.testing.assert_close(value[1], before[name][1])
    assert any((group.params[n][0] != before[n][0]).any() for n in before)


@pytest.mark.parametrize("decoupled", [False, True])
def test_an_update_that_is_skipped_leaves_a_run_as_if_it_had_not_been(decoupled: bool) -> None:
    runs = [Run(0, 1e-2), Run(1, 1e-2)]
    options = {"skip": True, "weight_decay": 0.1, "decoupled": decoupled}
    skipping, without = (Runs(runs, make, CPU, stackable=True, **options) for _ in range(2))
    generator = torch.Generator().manual_seed(0)
    for step in range(6):
        grads = torch.randn(skipping._flat.shape, generator=generator)
        lost = grads.clone()
        if step in (0, 3):
            lost[1, 2] = (torch.nan, torch.inf)[step // 3]
        skipping.update(lost, 1.0)
        if step in (0, 3):  # the first run's update alone
            own = {name: value[1:].clone() for name, value in without.state().items()}
            without.update(grads, 1.0)
            with torch.no_grad():
                for name, value in own.items():
                    without.state()[name][1:] = value
        else:
            without.update(grads, 1.0)
    assert skipping.alive.all()
    assert skipping.updates.tolist() == [6, 4]
    for name, value in skipping.state().items():
        assert torch.equal(value, without.state()[name]), name


def test_layer_weights_learn_faster() -> None:
    slow = trained([Run(0, 1e-3)])
    fast = trained([Run(0, 1e-3)], layer_weight_scale=10.0)
    name = "interface.sum_weights"
    assert fast.params[name].abs().max() > 5 * slow.params[name].abs().max()


def test_keep_and_restore_take_the_chosen_runs_only() -> None:
    group = trained([Run(0, 1e-2), Run(1, 1e-2)])
    held = {k: torch.zeros_like(v) for k, v in group.snapshot().items()}
    group.keep(held, torch.tensor([True, False]))
    group.restore(held)
    for value in group.params.values():
        assert (value[1] == 0).all()
    assert any((value[0] != 0).any() for value in group.params.values())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_full_precision_on_a_gpu_is_a_cpus() -> None:
    cpu = Runs([Run(0, 1e-2)], make, CPU, stackable=True)
    states, lengths = data(0), torch.full((5,), 7)
    expected, _ = cpu.forward(states, lengths, training=False, shared=True)
    for autocast, close in ((False, True), (True, False)):
        gpu = Runs([Run(0, 1e-2)], make, torch.device("cuda"), stackable=True, autocast=autocast)
        found, _ = gpu.forward(states.cuda(), lengths.cuda(), training=False, shared=True)
        assert torch.allclose(found.cpu(), expected, rtol=1e-5, atol=1e-6) is close
