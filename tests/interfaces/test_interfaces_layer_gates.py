"""LAP, SLS and AttM against loops over frames, layers and heads, in fp64, with their gradients."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch.func import functional_call, stack_module_state, vmap

import SSL_Interface
from SSL_Interface import InterfaceError, gating, products, working


def plain_lap(interface, states):
    """One frame, then one head, at a time."""
    layers, batch, time, dim = states.shape
    width = dim // interface.heads
    rows = []
    for b in range(batch):
        for t in range(time):
            pooled = []
            values = [interface.project(states[layer, b, t]) for layer in range(layers)]
            for head in range(interface.heads):
                own = torch.stack([v[head * width : (head + 1) * width] for v in values])  # (L, d)
                scores = torch.zeros(layers, dtype=own.dtype)
                for statistic in (own.mean(1), own.max(1).values):
                    inner = statistic @ interface.squeeze[head] + interface.squeeze_bias[head]
                    scores = scores + F.relu(inner) @ interface.expand[head]
                    scores = scores + interface.expand_bias[head]
                gated = torch.sigmoid(scores)[:, None] * own
                pooled.append(gated.max(0).values)
            rows.append(interface.norm(interface.output(torch.cat(pooled))))
    return torch.stack(rows).view(batch, time, -1)


def plain_sls(interface, states, lengths):
    rows = []
    for b, length in enumerate(lengths):
        row = 0
        for state in states[:, b]:
            gate = torch.sigmoid(interface.gate(state[:length].mean(0)))
            row = row + gate * state
        rows.append(row)
    return torch.stack(rows)


def plain_attm(interface, states, lengths):
    rows = []
    for b, length in enumerate(lengths):
        means = states[:, b, :length].mean(1)  # (L, D)
        pooled = F.silu(means @ interface.pool[0])
        gates = torch.sigmoid(F.silu(pooled @ interface.squeeze) @ interface.expand)
        joined = torch.cat([g * state for g, state in zip(gates, states[:, b], strict=True)], -1)
        rows.append(interface.narrow(F.silu(interface.merge(joined))))
    return torch.stack(rows)


def assert_same(features, expected, inputs):
    """Values, and gradients of all inputs under one cotangent."""
    torch.testing.assert_close(features, expected, rtol=1e-10, atol=1e-12)
    cotangent = torch.randn_like(expected)
    ours = torch.autograd.grad(features, inputs, cotangent, retain_graph=True)
    plain = torch.autograd.grad(expected, inputs, cotangent)
    for mine, theirs in zip(ours, plain, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((2, 6), {}),
        ((3, 12), {"heads": 3}),
        ((7, 12), {"heads": 4, "output_dim": 5}),
        ((5, 128), {}),
        ((1, 4), {"heads": 2}),
    ],
)
def test_lap(shape, options, build, draw):
    interface = build("lap", *shape, normalize=False, dropout=0.0, **options)
    assert interface.heads == options.get("heads", max(1, shape[1] // 64))
    states = draw(shape[0], 2, 3, shape[1]).requires_grad_()
    expected = plain_lap(interface, states)
    assert expected.shape[-1] == interface.output_dim
    assert_same(interface(states), expected, [states, *interface.parameters()])


def test_lap_has_the_published_heads_and_drops_gates_in_training_only(build, draw):
    with torch.device("meta"):
        assert SSL_Interface.create("lap", 13, 768).heads == 12
        assert SSL_Interface.create("lap", 25, 1024).heads == 16
    interface, states = build("lap", 7, 12), draw(7, 2, 20, 12)
    assert torch.equal(interface(states), interface(states))
    interface.train()
    assert not torch.equal(interface(states), interface(states))


@pytest.mark.parametrize("name", ["lap", "attm", "gumbel_selection", "concat"])
def test_small_states_take_the_plain_way(name, build, draw, monkeypatch):
    """Small is counted for a layer; both ways are the same to the last digits."""
    interface, states, ways = build(name, 7, 12), draw(7, 2, 5, 12), []
    written_out = ["_Statistics", "_GatedMaximum", "_GatedRows", "_GatedSum"]
    for module, way in [*((gating, way) for way in written_out), (products, "_LayerProducts")]:
        function = getattr(module, way)
        wrapped = SimpleNamespace(
            apply=lambda *a, f=function: ways.append(f.__name__) or f.apply(*a)
        )
        monkeypatch.setattr(module, way, wrapped)
    monkeypatch.setattr(working, "SMALL", 121)
    plain = interface(states)
    assert not ways
    monkeypatch.setattr(working, "SMALL", 120)
    assert_same(interface(states), plain, list(interface.parameters()))
    expected = {"lap": ["_Statistics", "_GatedMaximum"], "concat": ["_LayerProducts"]}
    expected["attm"] = ["_GatedRows"]
    assert ways == expected.get(name, ["_GatedSum"])


def test_ties_give_one_place_the_gradient():
    """Equal values and equal layers: the gradient is that of one, so its sum is that of torch's."""
    values = torch.ones(3, 2, 4).requires_grad_()
    _, _, largest = gating.statistics(values)
    (found,) = torch.autograd.grad(largest.sum(), values)
    assert found.sum(-1).eq(1).all()
    assert found.amax(-1).eq(1).all()
    (found,) = torch.autograd.grad(gating.gated_maximum(torch.ones(3, 2), values).sum(), values)
    assert torch.equal(found, torch.tensor([1.0, 0, 0])[:, None, None].expand(3, 2, 4))


def test_lap_drops_the_plain_forms_gates(build, draw, plain, monkeypatch):
    """Under one mask of gates (N, B, T, heads), whichever way they lie in memory."""
    interface, states = build("lap", 7, 12, heads=3).train(), draw(7, 2, 5, 12)
    kept = torch.rand(7, 2, 5, 3) < 0.7

    def drop(gates, share, training):
        assert (gates.shape, share, training) == (kept.shape, 0.1, True)
        return gates * kept / 0.7

    monkeypatch.setattr(F, "dropout", drop)
    inputs = [states.requires_grad_(), *interface.parameters()]
    expected = plain.PLAIN["lap"](interface, plain.prepare(interface, states))
    assert_same(interface(states), expected, inputs)


def test_stacked_laps_drop_gates_of_their_own(build, draw):
    interface, states = build("lap", 7, 12).train(), draw(7, 2, 20, 12)
    stacked = stack_module_state([interface, interface])
    one, other = vmap(
        lambda *state: functional_call(interface, state, (states,)), randomness="different"
    )(*stacked)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("name", ["sls", "attm"])
@pytest.mark.parametrize("shape", [(1, 5), (2, 6), (7, 12)])
def test_utterance_gates(name, shape, build, draw):
    plain = {"sls": plain_sls, "attm": plain_attm}[name]
    interface = build(name, *shape, normalize=False)
    states = draw(shape[0], 3, 6, shape[1]).requires_grad_()
    inputs = [states, *interface.parameters()]
    assert_same(interface(states), plain(interface, states, [6, 6, 6]), inputs)
    lengths = [6, 1, 4]
    expected = plain(interface, states, lengths)
    valid = torch.arange(6) < torch.tensor(lengths)[:, None]
    assert_same(interface(states, torch.tensor(lengths)), expected * valid[..., None], inputs)


@pytest.mark.parametrize("name", ["sls", "attm"])
def test_frames_of_an_utterance_share_gates(name, build, draw):
    """A change in one frame moves the others of its utterance, and those of no other one."""
    interface, states = build(name, 4, 6), draw(4, 2, 5, 6)
    before = interface(states)
    changed = states.clone()
    changed[:, 0, 4] += torch.arange(6.0).double()
    after = interface(changed)
    assert (after[0, :4] - before[0, :4]).abs().amax(-1).min() > 0
    assert torch.equal(after[1], before[1])


def test_sls_profile_is_gate_times_norm(build, draw):
    interface, states = build("sls", 4, 6, normalize=False), draw(4, 2, 5, 6)
    lengths = [5, 2]
    shares = torch.zeros(4)
    for layer in range(4):
        for b, length in enumerate(lengths):
            own = states[layer, b, :length]
            gate = torch.sigmoid(interface.gate(own.mean(0)))
            shares[layer] += (gate * own.norm(dim=-1)).sum().float().item()
    profile = interface.layer_profile(states, torch.tensor(lengths))
    torch.testing.assert_close(profile, shares / shares.sum())
    assert interface.layer_weights() is None


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("lap", {"heads": 5}, "heads: expected a divisor of 12, found 5"),
        ("lap", {"heads": 0}, "heads: expected a whole number above zero, found 0"),
        ("lap", {"dropout": 1.0}, "dropout: expected from 0 to below 1, found 1.0"),
        ("lap", {"output_dim": 0}, "output_dim: expected a whole number above zero"),
        ("attm", {"hidden": 0}, "hidden: expected a whole number above zero, found 0"),
    ],
)
def test_wrong_option(name, options, message):
    with pytest.raises(InterfaceError, match=f"^{name}: {message}"):
        SSL_Interface.create(name, 7, 12, **options)
