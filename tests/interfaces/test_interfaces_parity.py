"""Each interface against the plainest way to write it down, in fp64."""

import copy
import importlib
import math
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings, strategies
from sklearn.decomposition import PCA
from torch import nn

import SSL_Interface
from SSL_Interface import windows


def softmax(logits):
    weights = [math.exp(value) for value in logits.tolist()]
    return [weight / sum(weights) for weight in weights]


LAYOUTS = {
    "layer by layer": lambda states: states,
    "frame by frame": lambda states: states.movedim(0, 2).contiguous().movedim(2, 0),
    "list": list,
}


def compare(name, interface, states, layout, plain, lengths=None):
    """Hold features and all gradients, in fp64, to those of the plain form."""
    leaf = states.requires_grad_()
    prepared = plain.prepare(interface, leaf)
    if lengths is None:
        expected = plain.PLAIN[name](interface, prepared)
    else:
        expected = plain.padded(name, interface, prepared, lengths)
    features = interface(LAYOUTS[layout](leaf), lengths)
    torch.testing.assert_close(features, expected, rtol=1e-9, atol=1e-10)
    inputs = [leaf, *interface.parameters()]
    cotangent = torch.randn_like(expected)
    ours = torch.autograd.grad(features, inputs, cotangent)
    for mine, theirs in zip(ours, torch.autograd.grad(expected, inputs, cotangent), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-8, atol=1e-10)


@pytest.fixture(params=SSL_Interface.names())
def name(request, plain):
    if request.param not in plain.PLAIN:
        pytest.skip(
            f"no form of {request.param} in plain.py; it must have a parity test of its own"
        )
    return request.param


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "shape", [(2, 1, 1, 6), (3, 2, 5, 7), (7, 3, 1, 12), (13, 1, 6, 16), (25, 2, 3, 33)], ids=str
)
def test_plain_form(name, shape, layout, build, draw, plain):
    lengths = torch.randint(1, shape[2] + 1, shape[1:2])
    compare(name, build(name, shape[0], shape[3]), draw(*shape), layout, plain, lengths)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=strategies.data())
def test_plain_form_of_any_shape(name, data, build, draw, plain):
    """Any L, B, T, D, selection, layout and padding."""
    pick = data.draw
    count, dim = pick(strategies.integers(2, 30)), pick(strategies.integers(6, 20))
    batch, time = pick(strategies.integers(1, 3)), pick(strategies.integers(1, 5))
    some = strategies.lists(strategies.integers(0, count - 1), min_size=2, unique=True)
    layers = pick(strategies.none() | some)
    normalize = pick(strategies.booleans())
    lengths = pick(strategies.lists(strategies.integers(1, time), min_size=batch, max_size=batch))
    interface = build(name, count, dim, layers=layers, normalize=normalize)
    layout = pick(strategies.sampled_from(list(LAYOUTS)))
    compare(name, interface, draw(count, batch, time, dim), layout, plain, torch.tensor(lengths))


@pytest.mark.parametrize("layer", [0, 2, -1, -3])
def test_single_layer(layer, build, draw):
    states = draw(5, 2, 3, 7)
    interface = build("single_layer", 5, 7, layer=layer, normalize=False)
    assert torch.equal(interface(states), states[layer])
    assert interface.layer_weights().tolist() == F.one_hot(torch.tensor(layer % 5), 5).tolist()
    among = build("single_layer", 5, 7, layer=layer % 3, layers=[4, 0, 3], normalize=False)
    assert torch.equal(among(states), states[[4, 0, 3][layer % 3]])


def test_last_and_mean(build, draw):
    states = draw(5, 2, 3, 7)
    assert torch.equal(build("last", 5, 7, normalize=False)(states), states[4])
    mean = build("mean", 5, 7, normalize=False)
    torch.testing.assert_close(mean(states), sum(states) / 5)
    torch.testing.assert_close(mean.layer_weights(), torch.full((5,), 0.2))


def test_weighted_sum(build, draw):
    interface, states = build("weighted_sum", 5, 7, normalize=False), draw(5, 2, 3, 7)
    weights = softmax(interface.weighte_sum_weights)
    expected = sum(weight * state for weight, state in zip(weights, states, strict=True))
    torch.testing.assert_close(interface(states), expected)
    torch.testing.assert_close(interface.layer_weights(), torch.tensor(weights))
    norms = [w * s.norm(dim=-1).mean().item() for w, s in zip(weights, states, strict=True)]
    profile = torch.tensor(norms) / sum(norms)
    torch.testing.assert_close(interface.layer_profile(states), profile)


@pytest.mark.parametrize(("groups", "sizes"), [(1, [7]), (2, [4, 3]), (3, [3, 2, 2]), (7, [1] * 7)])
def test_grouped_weighted_sum(groups, sizes, build, draw):
    interface, states = build("grouped_weighted_sum", 7, 6, groups=groups), draw(7, 2, 3, 6)
    states = F.layer_norm(states, (6,))
    sums, start = [], 0
    for size in sizes:
        weights = softmax(interface.weights[start : start + size])
        sums.append(sum(w * states[start + i] for i, w in enumerate(weights)))
        start += size
    joined = torch.cat(sums, -1)
    expected = joined @ interface.projection.weight.T + interface.projection.bias
    torch.testing.assert_close(interface.join(states), expected)
    assert interface.layer_weights().sum().item() == pytest.approx(groups, abs=1e-5)


def test_weighted_sum_mlp(build, draw):
    interface, states = build("weighted_sum_mlp", 5, 7, normalize=False), draw(5, 2, 3, 7)
    weights = softmax(interface.weights)
    x = sum(weight * state for weight, state in zip(weights, states, strict=True))
    hidden = (x @ interface.expand.weight.T + interface.expand.bias).clamp_min(0)
    expected = hidden @ interface.contract.weight.T + interface.contract.bias
    torch.testing.assert_close(interface(states), expected)


@pytest.mark.parametrize(
    ("num_layers", "dim"), [(13, 768), (25, 1024), (13, 192), (2, 33), (7, 48)]
)
def test_weighted_sum_mlp_has_hconvs_size(num_layers, dim):
    with torch.device("meta"):
        control = SSL_Interface.create("weighted_sum_mlp", num_layers, dim)
        hconv = SSL_Interface.create("hconv", num_layers, dim)
    assert abs(control.parameter_count() - hconv.parameter_count()) <= dim + 1  # half a unit of H


def test_weighted_sum_mlp_of_a_given_size():
    interface = SSL_Interface.create("weighted_sum_mlp", 13, 16, parameters=1000)
    assert interface.hidden == 29
    assert interface.parameter_count() == 986


def test_concat(build, draw):
    interface, states = build("concat", 5, 7, normalize=False), draw(5, 2, 3, 7)
    weight = interface.projection.weight
    blocks = [state @ weight[:, 7 * i : 7 * i + 7].T for i, state in enumerate(states)]
    torch.testing.assert_close(interface(states), sum(blocks) + interface.projection.bias)


@pytest.mark.parametrize("shape", [(2, 6), (3, 7), (4, 9), (7, 12), (9, 20), (13, 16), (25, 33)])
@pytest.mark.parametrize("conv", [(5, 3), (3, 2), (4, 3), (1, 2), (7, 4)])
def test_hconv(shape, conv, build, draw, plain):
    num_layers, dim = shape
    kernel, stride = conv
    interface = build("hconv", num_layers, dim, kernel_size=kernel, stride=stride, normalize=False)
    compare("hconv", interface, draw(num_layers, 2, 3, dim), "layer by layer", plain)


@pytest.mark.parametrize("layout", ["layer by layer", "frame by frame"])
@pytest.mark.parametrize("shape", [(3, 7), (7, 13), (25, 33)])
def test_hconv_with_rows_filled_up(shape, layout, build, draw, plain, monkeypatch):
    monkeypatch.setitem(windows.ALIGNMENT, "cpu", 64)  # as a GPU's, of 8 fp64 values
    num_layers, dim = shape
    interface = build("hconv", num_layers, dim, normalize=False)
    assert all(conv.out_channels % 8 for conv in interface.transforms[::2])
    compare("hconv", interface, draw(num_layers, 2, 3, dim), layout, plain)


def test_hconv_shapes_of_the_paper():
    with torch.device("meta"):
        base = SSL_Interface.create("hconv", 13, 768)
        large = SSL_Interface.create("hconv", 25, 1024)
        widened = SSL_Interface.create("hconv", 25, 1024, output_dim=1024)
    assert base.positions == [13, 5, 2]
    assert base.output_dim == 768
    assert base.transforms[2].weight.shape == (384, 768, 5)
    assert large.positions == [25, 9, 3]
    assert large.output_dim == 1023
    assert widened.output_dim == 1024
    assert widened.projection.weight.shape == (1024, 1023)
    assert not any(key.startswith("projection") for key in large.state_dict())


def test_hconv_projection(build, draw, plain):
    interface = build("hconv", 7, 10, output_dim=4)
    assert interface.projection.weight.shape == (4, 9)
    compare("hconv", interface, draw(7, 2, 3, 10), "layer by layer", plain)


@pytest.mark.parametrize(
    ("num_layers", "dim", "heads"), [(2, 6, 6), (3, 7, 7), (13, 16, 8), (5, 33, 3)]
)
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_cls_pooling(num_layers, dim, heads, dropout, build, draw):
    interface = build("cls_pooling", num_layers, dim, dropout=dropout, normalize=False)
    assert interface.heads == heads
    reference = nn.TransformerEncoderLayer(
        dim, heads, 2 * dim, dropout, batch_first=True, dtype=torch.float64
    )
    reference.load_state_dict(interface.layer.state_dict())
    interface.eval()
    reference.eval()
    states = draw(num_layers, 2, 3, dim).requires_grad_()
    tokens = torch.cat([interface.cls.expand(1, 2, 3, dim), states]).permute(1, 2, 0, 3)
    expected = reference(tokens.reshape(6, num_layers + 1, dim))[:, 0].view(2, 3, dim)
    features = interface(states)
    torch.testing.assert_close(features, expected, rtol=1e-10, atol=1e-12)

    cotangent = torch.randn_like(expected)
    ours = torch.autograd.grad(
        features, [states, interface.cls, *interface.layer.parameters()], cotangent
    )
    plain = torch.autograd.grad(
        expected, [states, interface.cls, *reference.parameters()], cotangent
    )
    for mine, theirs in zip(ours, plain, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-8, atol=1e-10)

    with torch.no_grad():
        _, attention = reference.self_attn(
            *[tokens.reshape(6, num_layers + 1, dim)] * 3, average_attn_weights=True
        )
    on_layers = attention[:, 0, 1:].mean(0).float()
    torch.testing.assert_close(interface.layer_profile(states), on_layers / on_layers.sum())


def test_cls_pooling_drops_out_in_training_only(build, draw):
    interface = build("cls_pooling", 5, 8, dropout=0.5).train()
    states = draw(5, 1, 1, 8)
    assert not torch.equal(interface(states), interface(states))
    interface.eval()
    assert torch.equal(interface(states), interface(states))


def test_pca_concat_is_sklearns(build, draw):
    states = draw(3, 4, 50, 10)
    lengths = torch.tensor([50, 20, 7, 33])
    interface = SSL_Interface.create("pca_concat", 3, 10, normalize=False).double()
    for start, stop in ((0, 1), (1, 3), (3, 4)):
        interface.fit_batch(states[:, start:stop], lengths[start:stop])
    interface.fit_finish()
    assert interface.output_dim == 9
    assert interface.frames == 110
    features = interface(states).numpy()
    for layer in range(3):
        rows = np.concatenate([states[layer, b, :n].numpy() for b, n in enumerate(lengths)])
        pca = PCA(3, svd_solver="full").fit(rows)
        expected = pca.transform(states[layer].reshape(-1, 10).numpy())
        ours = features[..., 3 * layer : 3 * layer + 3].reshape(-1, 3)
        signs = np.sign((ours * expected).sum(0))
        np.testing.assert_allclose(ours, expected * signs, atol=1e-9)
        components = interface.components[layer]
        assert (components.gather(1, components.abs().argmax(1, keepdim=True)) > 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("autocast", [False, True])
def test_pca_concat_far_from_zero(dtype, autocast, draw):
    """States whose means are many times their spread, as some channels of an encoder have."""
    states = (draw(3, 2, 60, 12) + 30).to(dtype)
    interface = SSL_Interface.create("pca_concat", 3, 12, normalize=False)
    interface.fit_batch(states.float())
    interface.fit_finish()
    exact = copy.deepcopy(interface).double()(states.double())
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        features = interface(states)
    rounding = 2**-8 if autocast else 2**-16
    assert (features - exact).abs().max() < 2 * rounding * exact.abs().max()


def test_pca_concat_of_layer_normed_states(draw):
    states = draw(2, 2, 30, 8)
    normed = F.layer_norm(states, (8,))
    one = SSL_Interface.create("pca_concat", 2, 8).double()
    two = SSL_Interface.create("pca_concat", 2, 8, normalize=False).double()
    one.fit_batch(states)
    two.fit_batch(normed)
    one.fit_finish()
    two.fit_finish()
    torch.testing.assert_close(one(states), two(normed))


@pytest.mark.parametrize("name", SSL_Interface.names())
def test_docstring(name):
    """Source, equation, shapes and parameters; those that have some, also how many."""
    documentation = importlib.import_module(f"SSL_Interface.interfaces.{name}").__doc__
    assert re.search(r"arXiv\s\d{4}\.\d{5}|ACM MM 2024", documentation)
    assert re.search(r"\by(_d)? = \S", documentation)
    assert re.search(r"States\s\(L,\sB,\sT,\sD\)\s→\s\(B,\sT,\s\S+\)", documentation)
    with torch.device("meta"):
        count = SSL_Interface.create(name, 13, 768).parameter_count()
    said = "no parameters|parameters: 0" if count == 0 else rf"{count:,}\s"
    assert re.search(said, documentation)


@pytest.mark.parametrize(
    ("name", "base", "large"),
    [
        ("attm", 26_841_180, 170_402_648),
        ("cls_pooling", 4_727_808, 8_400_896),
        ("concat", 7_668_480, 26_215_424),
        ("grouped_weighted_sum", 1_180_429, 2_098_201),
        ("gumbel_selection", 9_984, 25_600),
        ("hconv", 4_424_832, 6_990_165),
        ("lap", 1_184_820, 2_111_440),
        ("sls", 769, 1_025),
        ("weighted_sum", 13, 25),
        ("weighted_sum_mlp", 4_424_267, 6_990_188),
    ],
)
def test_documented_parameter_counts(name, base, large):
    with torch.device("meta"):
        assert SSL_Interface.create(name, 13, 768).parameter_count() == base
        assert SSL_Interface.create(name, 25, 1024).parameter_count() == large
    module = importlib.import_module(f"SSL_Interface.interfaces.{name}")
    documentation = " ".join(module.__doc__.split())
    assert f"{base:,} " in documentation
    assert f"{large:,} " in documentation
