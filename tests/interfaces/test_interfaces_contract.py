"""What holds for every interface in the registry."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings, strategies
from torch.func import functional_call, stack_module_state, vmap
from torch.utils.flop_counter import FlopCounterMode

import SSL_Interface

NAMES = SSL_Interface.names()
SHAPES = [
    # L, B, T, D
    (2, 1, 1, 6),
    (3, 2, 5, 7),
    (7, 3, 4, 12),
    (13, 2, 6, 16),
    (25, 1, 3, 33),
]


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


def test_registry_holds_the_papers_table():
    shipped = [
        "attm",
        "cls_pooling",
        "concat",
        "grouped_weighted_sum",
        "gumbel_selection",
        "hconv",
        "lap",
        "last",
        "mean",
        "pca_concat",
        "single_layer",
        "sls",
        "weighted_sum",
        "weighted_sum_mlp",
    ]
    assert set(shipped) <= set(NAMES)
    assert sorted(NAMES) == NAMES


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_output_shape_and_list_input(name, shape, build, draw):
    num_layers, batch, time, dim = shape
    interface, states = build(name, num_layers, dim), draw(*shape)
    features = interface(states)
    assert features.shape == (batch, time, interface.output_dim)
    assert features.isfinite().all()
    torch.testing.assert_close(interface(list(states)), features)


def test_padding_is_zero_and_changes_nothing(name, build, draw):
    interface, states = build(name, 7, 12), draw(7, 3, 9, 12)
    lengths = torch.tensor([9, 4, 1])
    features = interface(states, lengths)
    for row, length in enumerate(lengths.tolist()):
        alone = interface(states[:, row : row + 1, :length])
        torch.testing.assert_close(features[row : row + 1, :length], alone)
        assert (features[row, length:] == 0).all()
    noisy = states.clone()
    noisy[:, 1, 4:] = torch.nan
    torch.testing.assert_close(interface(noisy, lengths), features)


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=strategies.data())
def test_any_shape(name, data, build, draw):
    """Each utterance's features are those that it has alone, for any L, B, T, D and layers."""
    pick = data.draw
    count, dim = pick(strategies.integers(2, 30)), pick(strategies.integers(6, 20))
    batch, time = pick(strategies.integers(1, 3)), pick(strategies.integers(1, 5))
    some = strategies.lists(strategies.integers(-count, count - 1), min_size=2, max_size=count)
    some = some.filter(lambda layers: len({layer % count for layer in layers}) == len(layers))
    layers = pick(strategies.none() | some)
    lengths = pick(strategies.lists(strategies.integers(1, time), min_size=batch, max_size=batch))
    interface = build(name, count, dim, layers=layers, normalize=pick(strategies.booleans()))
    states = draw(count, batch, time, dim)
    alone = [interface(list(states[:, i : i + 1, :n])) for i, n in enumerate(lengths)]
    for i, n in enumerate(lengths):
        states[:, i, n:] = pick(strategies.sampled_from([torch.nan, torch.inf, 1e30]))
    features = interface(states, torch.tensor(lengths))
    assert features.shape == (batch, time, interface.output_dim)
    for row, own, n in zip(features, alone, lengths, strict=True):
        torch.testing.assert_close(row[:n], own[0])
        assert not row[n:].any()


def test_padding_and_company_leave_the_gradients(name, build, draw):
    """What stands in the padding, and in which order utterances come, moves no parameter."""
    interface, states = build(name, 7, 12), draw(7, 3, 9, 12)
    lengths, order = torch.tensor([9, 4, 1]), torch.tensor([2, 0, 1])
    if not interface.parameter_count():
        pytest.skip(f"{name} has no parameters")

    def gradients(states, lengths):
        loss = interface(states, lengths).square().sum()
        return torch.autograd.grad(loss, list(interface.parameters()))

    noisy = states.clone()
    noisy[:, 1, 4:] += 100
    expected = gradients(states, lengths)
    for other in (gradients(noisy, lengths), gradients(states[:, order], lengths[order])):
        torch.testing.assert_close(other, expected)
    alone = [gradients(states[:, i : i + 1, :n], None) for i, n in enumerate(lengths.tolist())]
    torch.testing.assert_close([sum(parts) for parts in zip(*alone, strict=True)], list(expected))


@pytest.mark.parametrize("num_layers", [2, 3, 7, 13, 25])
def test_gradients_reach_every_layer_and_parameter(name, num_layers, build, draw):
    interface = build(name, num_layers, 12, seed=2, normalize=False)  # no ReLU is dead for all
    states = draw(num_layers, 2, 5, 12).requires_grad_()
    interface(states).square().sum().backward()
    reached = states.grad.abs().amax((1, 2, 3)) > 0
    if name in ("last", "single_layer"):
        assert reached.tolist() == [False] * (num_layers - 1) + [True]
    elif name == "gumbel_selection":
        assert reached.tolist() == (interface.layer_weights() > 0).tolist()
    else:
        assert reached.all()
    for key, parameter in interface.named_parameters():
        assert parameter.grad is not None, key
        if (name, num_layers, key) == ("grouped_weighted_sum", 2, "weights"):
            continue  # two groups of one layer: nothing to weigh
        assert parameter.grad.abs().max() > 0, key


def test_gradcheck(name, build, draw):
    interface = build(name, 3, 6)
    lengths = torch.tensor([2, 3])
    leaf = draw(3, 2, 3, 6).requires_grad_()
    assert torch.autograd.gradcheck(lambda states: interface(states, lengths), leaf)


def test_layers_selects_and_keeps_order(name, build, draw):
    states = draw(7, 2, 3, 12)
    chosen = [5, 1, -1]
    some = build(name, 7, 12, layers=chosen)
    assert some.layers == ((6,) if name in ("last", "single_layer") else (5, 1, 6))
    alone = build(name, 3, 12)
    alone.load_state_dict(some.state_dict())
    torch.testing.assert_close(some(states), alone(states[[5, 1, 6]]))
    torch.testing.assert_close(some(list(states)), some(states))


def test_normalize_is_a_layer_norm_of_each_state(name, build, draw):
    states = draw(7, 2, 3, 12)
    normalised = build(name, 7, 12)
    plain = build(name, 7, 12, normalize=False)
    plain.load_state_dict(normalised.state_dict())
    centred = states - states.mean(-1, keepdim=True)
    by_hand = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(normalised(states), plain(by_hand))
    assert not torch.allclose(normalised(states), plain(states))


def test_stacked_runs_equal_separate_runs(name, build, draw):
    runs = [build(name, 7, 12, seed=seed) for seed in range(3)]
    states = torch.stack([draw(7, 2, 5, 12, seed=seed) for seed in range(3)])
    lengths = torch.tensor([[5, 3], [2, 5], [4, 1]])
    parameters, buffers = stack_module_state(runs)

    def forward(parameters, buffers, states, lengths):
        return functional_call(runs[0], (parameters, buffers), (states, lengths))

    together = vmap(forward, randomness="different")(parameters, buffers, states, lengths)
    if parameters:
        together.square().sum().backward()
    for run, interface in enumerate(runs):
        alone = interface(states[run], lengths[run])
        torch.testing.assert_close(together[run], alone)
        if interface.parameter_count():
            alone.square().sum().backward()
        for key, parameter in interface.named_parameters():
            torch.testing.assert_close(parameters[key].grad[run], parameter.grad)


def test_stacked_runs_train(name, build, draw):
    """In training mode, random numbers and all; ``build`` gives random ones in evaluation mode."""
    runs = [build(name, 7, 64, seed=seed).train() for seed in range(2)]
    states, lengths = draw(7, 2, 5, 64), torch.tensor([[5, 3], [5, 3]])
    parameters, buffers = stack_module_state(runs)

    def forward(parameters, buffers, lengths):
        return functional_call(runs[0], (parameters, buffers), (states, lengths))

    features = vmap(forward, randomness="different")(parameters, buffers, lengths)
    assert features.isfinite().all()
    assert (features[:, 1, 3:] == 0).all()
    if parameters:
        features.square().sum().backward()
    for key, parameter in parameters.items():
        assert parameter.grad.isfinite().all(), key
        assert (parameter.grad.flatten(1).abs().amax(1) > 0).all(), key


def test_stacked_runs_under_bf16_autocast(name, build, draw):
    runs = [build(name, 7, 12, seed=seed).float() for seed in range(2)]
    states = torch.stack([draw(7, 2, 5, 12, seed=seed) for seed in range(2)])
    lengths = torch.tensor([[5, 3], [2, 5]])
    stacked = stack_module_state(runs)

    def forward(parameters, buffers, states, lengths):
        return functional_call(runs[0], (parameters, buffers), (states, lengths))

    for dtype in (torch.bfloat16, torch.float32):
        with torch.autocast("cpu", torch.bfloat16):
            together = vmap(forward, randomness="different")(*stacked, states.to(dtype), lengths)
        if stacked[0]:
            together.float().square().sum().backward()
            assert all(parameter.grad.isfinite().all() for parameter in stacked[0].values())
        for run, interface in enumerate(runs):
            exact = interface(states[run].float(), lengths[run])
            assert (together[run].float() - exact).norm() < 0.03 * exact.norm()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("stored", ["the autocast type", "fp32"])
def test_autocast(name, dtype, stored, build, draw):
    """A training step in half precision is the exact one up to rounding, and is not NaN."""
    interface, lengths = build(name, 7, 12).float(), torch.tensor([5, 3])
    states = draw(7, 2, 5, 12).to(dtype)
    exact = interface(states.float(), lengths)
    with torch.autocast("cpu", dtype):
        features = interface(states if stored != "fp32" else states.float(), lengths)
    assert features.dtype in (dtype, torch.float32)
    assert (features.float() - exact).norm() < 0.03 * exact.norm()
    assert (features[1, 3:] == 0).all()
    parameters = list(interface.parameters())
    if not parameters:
        return
    # Rounding flips some units of a ReLU, which at this width is most of the error.
    cotangent, tolerance = torch.randn_like(exact), 0.25 if dtype == torch.bfloat16 else 0.05
    expected = torch.autograd.grad(exact, parameters, cotangent)
    found = torch.autograd.grad(features, parameters, cotangent.to(features.dtype))
    for mine, right in zip(found, expected, strict=True):
        assert mine.dtype == torch.float32
        assert (mine - right).norm() < tolerance * right.norm()


def test_compiles_to_one_graph(name, build, draw):
    """Captured whole, with changing B and T. The eager backend needs no C++ compiler."""
    torch._dynamo.reset()
    interface, states, lengths = build(name, 7, 12), draw(7, 3, 9, 12), torch.tensor([9, 4, 1])
    compiled = torch.compile(interface, fullgraph=True, dynamic=True, backend="eager")
    for batch, time in ((3, 9), (2, 5)):
        part, counts = states[:, -batch:, :time], lengths[-batch:]
        torch.testing.assert_close(compiled(part, counts), interface(part, counts))
    torch.testing.assert_close(compiled(list(states), lengths), interface(states, lengths))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_compiled_types_under_autocast_are_the_eager_ones(name, dtype, build, draw):
    interface, states = build(name, 7, 12).float(), draw(7, 2, 5, 12).float()
    torch._dynamo.reset()
    compiled = torch.compile(interface, fullgraph=True, backend="eager")
    for stored in (dtype, torch.float32):
        with torch.autocast("cpu", dtype):
            found, expected = compiled(states.to(stored)), interface(states.to(stored))
        assert found.dtype == expected.dtype
        assert (found - expected).float().norm() < 0.03 * expected.float().norm()


def test_exports_with_dynamic_batch_and_time(name, build, draw):
    interface, states, lengths = build(name, 7, 12), draw(7, 3, 9, 12), torch.tensor([9, 4, 1])
    batch, time = torch.export.Dim("batch"), torch.export.Dim("time")
    program = torch.export.export(
        interface, (states, lengths), dynamic_shapes=({1: batch, 2: time}, {0: batch})
    ).module()
    by_layer = torch.export.export(
        interface,
        (list(states), lengths),
        dynamic_shapes=([{0: batch, 1: time}] * 7, {0: batch}),
    ).module()
    for rows, frames in ((3, 9), (2, 5), (1, 1)):
        part, counts = states[:, -rows:, :frames], lengths[-rows:]
        torch.testing.assert_close(program(part, counts), interface(part, counts))
        torch.testing.assert_close(by_layer(list(part), counts), interface(part, counts))


def test_a_single_layer_of_a_list_is_not_copied(name, build, draw):
    if name not in ("last", "single_layer"):
        pytest.skip(f"{name} joins several layers")
    states = list(draw(7, 2, 5, 12))
    assert build(name, 7, 12, normalize=False)(states).data_ptr() == states[-1].data_ptr()


def test_state_dict_round_trip(name, build, draw):
    interface, states = build(name, 7, 12), draw(7, 2, 3, 12)
    copy = SSL_Interface.create(name, 7, 12).double().train(interface.training)
    copy.load_state_dict(interface.state_dict())
    torch.testing.assert_close(copy(states), interface(states), rtol=0, atol=0)


def test_macs_are_those_of_its_matrix_products(name, build, draw):
    batch, time, num_layers, dim = 4, 50, 13, 24
    interface = build(name, num_layers, dim)
    prepared = interface.prepare(draw(num_layers, batch, time, dim))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        interface.join(prepared)
    counted = counter.get_total_flops() / 2
    if name in ("mean", "gumbel_selection"):
        counted += batch * time * num_layers * dim  # a reduction is not counted as a product
    if name == "cls_pooling":
        counted -= dim**2 + dim * interface.heads  # CLS's own query and score, once a batch
    if name == "attm":
        counted -= batch * 2 * num_layers * (num_layers // 2)  # its gates, once an utterance
    assert interface.macs_per_frame() * batch * time == counted


def test_layer_profile(name, build, draw):
    states, lengths = draw(7, 3, 6, 12), torch.tensor([6, 2, 3])
    interface = build(name, 7, 12, layers=[0, 2, 3, 6], normalize=False)
    profile = interface.layer_profile(states, lengths)
    assert profile.shape == (7,)
    assert profile.dtype == torch.float32
    assert profile.sum().item() == pytest.approx(1, abs=1e-5)
    assert (profile[[1, 4, 5]] == 0).all()
    assert (profile >= 0).all()
    assert profile[6] > 0
    assert interface.profile_kind in ("weight × norm", "attention", "gradient × input")
    louder = states.clone()
    louder[:, 1, 2:] = 1e3
    training = interface.training
    torch.testing.assert_close(interface.layer_profile(louder, lengths), profile)
    assert interface.training == training
    assert all(parameter.grad is None for parameter in interface.parameters())


def test_layer_profile_under_bf16_autocast(name, build, draw):
    interface, states = build(name, 7, 12).float(), draw(7, 3, 6, 12).float()
    exact = interface.layer_profile(states)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = interface.layer_profile(states.bfloat16())
    torch.testing.assert_close(rounded, exact, rtol=0.1, atol=0.01)


def test_gradient_attribution_by_hand(build, draw):
    """For a projection y = W s + b the gradient of the norm is Wᵀ y / |y|."""
    interface, states = build("concat", 3, 5, normalize=False), draw(3, 1, 4, 5)
    shares = torch.zeros(3)
    for frame in range(4):
        y = interface(states)[0, frame]
        for layer in range(3):
            weight = interface.projection.weight[:, 5 * layer : 5 * layer + 5]
            shares[layer] += (weight.T @ y / y.norm() @ states[layer, 0, frame]).abs().item()
    torch.testing.assert_close(interface.layer_profile(states), shares / shares.sum())


def test_unknown_name_and_option_suggest():
    with pytest.raises(
        SSL_Interface.InterfaceError, match=r"did you mean 'weighted_sum'.*wieghted"
    ):
        SSL_Interface.create("wieghted_sum")
    with pytest.raises(SSL_Interface.InterfaceError, match=r"hconv: option.*mean 'kernel_size'"):
        SSL_Interface.create("hconv", kernelsize=5)
    with pytest.raises(
        ValueError, match="expected one of layers, normalize, check_finite, found 'groups'"
    ):
        SSL_Interface.create("weighted_sum", groups=2)


def test_a_new_file_is_a_new_interface(tmp_path, monkeypatch):
    (tmp_path / "loudest.py").write_text(
        "from SSL_Interface import Interface\n\n\n"
        "class Loudest(Interface):\n"
        "    def join(self, states):\n"
        "        return states.amax(0)\n"
    )
    (tmp_path / "nothing.py").write_text("")
    (tmp_path / "_private.py").write_text("")
    path = [*SSL_Interface.interfaces.__path__, str(tmp_path)]
    monkeypatch.setattr(SSL_Interface.interfaces, "__path__", path)
    assert sorted(set(SSL_Interface.names()) - set(NAMES)) == ["loudest", "nothing"]
    states = torch.randn(3, 1, 2, 4)
    interface = SSL_Interface.create("loudest", 3, 4, normalize=False)
    assert torch.equal(interface(states), states.amax(0))
    with pytest.raises(SSL_Interface.InterfaceError, match="nothing: expected one Interface class"):
        SSL_Interface.find("nothing")
