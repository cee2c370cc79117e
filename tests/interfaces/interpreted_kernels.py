"""The Triton kernels in Triton's interpreter, on a CPU, against fp64.

``test_interfaces_kernels.py`` runs this file in a process of its own: the interpreter must be
chosen before anything imports Triton.
"""

import copy

import pytest
import torch
from torch import Tensor
from triton.runtime import interpreter

import SSL_Interface
from SSL_Interface import fusing, kernels, products


def counted(calls: dict[str, int], name: str):
    kernel = getattr(kernels, name)

    def call(*inputs):
        calls[name] += 1
        return kernel(*inputs)

    return call


LAYOUTS = {
    "layer by layer": lambda states: states,
    "frame by frame": lambda states: states.movedim(-4, -2).contiguous().movedim(-2, -4),
}
# Relative, of a result that is rounded to the type once.
ROUNDING = {torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}
SMALL = fusing.Tiling(sum_block=16, dots_tile=64, programs=3)


@pytest.fixture(autouse=True)
def on_a_cpu(monkeypatch):
    """Let the kernels run here, and give how often each is called."""
    patch_tensor = interpreter._patch_lang_tensor

    def scalar_bounds(tensor, scope):
        # NumPy 2.4 no longer makes an int of an array of one, as this Triton does for a loop.
        patch_tensor(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    monkeypatch.setattr(interpreter, "_patch_lang_tensor", scalar_bounds)
    monkeypatch.setattr(fusing, "DEVICES", ("cpu",))
    calls = {"softmax_sum": 0, "softmax_sum_backward": 0}
    for name in calls:
        monkeypatch.setattr(kernels, name, counted(calls, name))
    for dtype in fusing.TYPES:
        assert fusing._working(torch.device("cpu"), dtype) is kernels
    calls.update(dict.fromkeys(calls, 0))
    return calls


def exact(logits: Tensor, states: Tensor) -> Tensor:
    """Sum states (…, N, B, T, D) with the softmax of logits (…, N), in fp64."""
    weights = logits.double().softmax(-1)[..., None, None, None]
    return (weights * states.double()).sum(-4)


def drawn(*shape: int, dtype=torch.float32) -> Tensor:
    return (torch.randn(shape) + torch.rand(shape[0]).view(-1, *[1] * (len(shape) - 1))).to(dtype)


def hold(found: Tensor, expected: Tensor, dtype: torch.dtype, summed: Tensor) -> None:
    """Hold sums to fp64, ``summed`` being those of sizes: what is summed may cancel."""
    assert found.shape == expected.shape == summed.shape
    assert (found.double() - expected).norm() <= ROUNDING[dtype] * summed.norm() + 1e-30


def compare(logits, states, run=products.softmax_sum, expected_of=exact) -> None:
    """Hold features, in the states' type, and the logits' gradient to fp64."""
    logits.requires_grad_()
    features, expected = run(logits, states), expected_of(logits, states)
    assert features.dtype == states.dtype
    hold(features, expected, states.dtype, expected_of(logits, states.abs()))
    cotangent = torch.randn_like(expected).to(states.dtype)
    (mine,) = torch.autograd.grad(features, logits, cotangent)
    (right,) = torch.autograd.grad(expected, logits, cotangent.double())
    assert mine.dtype == logits.dtype
    # Differences of sums that are alike: held to the size of what is subtracted.
    scale = cotangent.double().norm() * states.double().norm() / len(logits)
    assert (mine.double() - right).norm() <= 1e-6 * scale


@pytest.mark.parametrize("tiling", [fusing.TILING, SMALL], ids=["as it is", "small"])
@pytest.mark.parametrize("dtype", fusing.TYPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "shape",
    [(2, 1, 1, 6), (2, 3, 1, 5), (3, 2, 5, 7), (7, 1, 4, 12), (13, 1, 6, 16), (25, 2, 3, 33)],
    ids=str,
)
def test_sum_and_gradient(shape, layout, dtype, tiling, monkeypatch, on_a_cpu):
    monkeypatch.setattr(fusing, "TILING", tiling)
    compare(torch.randn(shape[0]), LAYOUTS[layout](drawn(*shape, dtype=dtype)))
    assert on_a_cpu == {"softmax_sum": 1, "softmax_sum_backward": 1}


@pytest.mark.parametrize(
    "shape", [(1, 2, 3, 4), (5, 1, 1, 1), (64, 1, 2, 3), (3, 4, 1, 1)], ids=str
)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_odd_shapes(shape, layout, on_a_cpu):
    compare(torch.randn(shape[0]), LAYOUTS[layout](drawn(*shape)))
    assert on_a_cpu["softmax_sum"] == 1


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_second_layer(layout, on_a_cpu):
    compare(torch.randn(4), LAYOUTS[layout](drawn(7, 2, 3, 8))[::2])
    assert on_a_cpu["softmax_sum"] == 1


@pytest.mark.parametrize("layout", LAYOUTS)
def test_places_beyond_int32(layout, monkeypatch, on_a_cpu):
    where = fusing.layout
    monkeypatch.setattr(fusing, "layout", lambda states: where(states)._replace(large=True))
    monkeypatch.setattr(fusing, "TILING", SMALL)
    compare(torch.randn(3), LAYOUTS[layout](drawn(3, 2, 5, 7)))
    assert on_a_cpu == {"softmax_sum": 1, "softmax_sum_backward": 1}


@pytest.mark.parametrize(
    "view",
    [
        lambda states: states[:, :, :2],
        lambda states: states[..., ::2],
        lambda states: states[..., 1:],
        lambda states: states.transpose(1, 2),
    ],
    ids=["some frames", "every second channel", "some channels", "T before B"],
)
def test_views(view, on_a_cpu):
    """Right in any layout; torch takes those that the kernels cannot."""
    states = view(drawn(3, 2, 4, 6))
    compare(torch.randn(3), states)
    assert on_a_cpu["softmax_sum"] == (fusing.layout(states) is not None)


@pytest.mark.parametrize("logits_type", fusing.TYPES, ids=str)
def test_logits_of_another_type(logits_type, on_a_cpu):
    logits, states = torch.randn(3).to(logits_type).requires_grad_(), drawn(3, 2, 5, 7)
    features, expected = products.softmax_sum(logits, states), exact(logits, states)
    hold(features, expected, torch.float32, exact(logits, states.abs()))
    mine = torch.autograd.grad(features.square().sum(), logits)[0]
    right = torch.autograd.grad(expected.square().sum(), logits)[0]
    assert mine.dtype == logits_type
    torch.testing.assert_close(mine, right)
    assert on_a_cpu == {"softmax_sum": 1, "softmax_sum_backward": 1}


def test_extreme_logits():
    states = drawn(3, 2, 3, 4)
    for logits in ([1e4, -1e4, 0.0], [float("-inf"), 0.0, 1.0]):
        compare(torch.tensor(logits), states)


def test_an_expanded_gradient(on_a_cpu):
    logits, states = torch.randn(3, requires_grad=True), drawn(3, 2, 5, 7)
    mine = torch.autograd.grad(products.softmax_sum(logits, states).sum(), logits)[0]
    torch.testing.assert_close(
        mine, torch.autograd.grad(exact(logits, states).sum(), logits)[0].float()
    )
    assert on_a_cpu["softmax_sum_backward"] == 1


@pytest.mark.parametrize("layout", LAYOUTS)
def test_states_that_need_a_gradient(layout):
    logits, states = torch.randn(3, requires_grad=True), drawn(3, 2, 5, 7).requires_grad_()
    cotangent = torch.randn(2, 5, 7)
    mine = torch.autograd.grad(
        products.softmax_sum(logits, LAYOUTS[layout](states)), [logits, states], cotangent
    )
    right = torch.autograd.grad(exact(logits, states), [logits, states], cotangent.double())
    torch.testing.assert_close(mine, right)


@pytest.mark.parametrize("dtype", fusing.TYPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("tiling", [fusing.TILING, SMALL], ids=["as it is", "small"])
def test_runs_with_states_of_their_own(layout, dtype, tiling, monkeypatch, on_a_cpu):
    monkeypatch.setattr(fusing, "TILING", tiling)
    states = LAYOUTS[layout](drawn(4, 3, 2, 5, 7, dtype=dtype))
    compare(torch.randn(4, 3), states, torch.vmap(products.softmax_sum))
    assert on_a_cpu == {"softmax_sum": 1, "softmax_sum_backward": 1}


def test_runs_along_another_axis(on_a_cpu):
    run = torch.vmap(products.softmax_sum, in_dims=(1, 1))

    def expected(logits: Tensor, states: Tensor) -> Tensor:
        return exact(logits.t(), states.transpose(0, 1))

    compare(torch.randn(3, 4), drawn(3, 4, 2, 5, 7), run, expected)
    assert on_a_cpu == {"softmax_sum": 1, "softmax_sum_backward": 1}


def test_runs_with_the_same_states():
    run = torch.vmap(products.softmax_sum, in_dims=(0, None))
    compare(torch.randn(4, 3), drawn(3, 2, 5, 7), run)


def test_the_kernels_know_shared_states():
    logits, states = torch.randn(4, 3, requires_grad=True), drawn(3, 2, 5, 7)
    expected = exact(logits, states)
    features = kernels.softmax_sum(logits.detach(), states)
    hold(features, expected, torch.float32, exact(logits, states.abs()))
    cotangent = torch.randn(4, 2, 5, 7)
    found = kernels.softmax_sum_backward(logits.detach(), states, cotangent)
    right = torch.autograd.grad(expected, logits, cotangent.double())[0]
    torch.testing.assert_close(found, right.float(), rtol=1e-5, atol=1e-5)


def test_runs_whose_states_need_a_gradient():
    logits, states = torch.randn(4, 3, requires_grad=True), drawn(4, 3, 2, 5, 7).requires_grad_()
    cotangent = torch.randn(4, 2, 5, 7)
    mine = torch.autograd.grad(
        torch.vmap(products.softmax_sum)(logits, states), [logits, states], cotangent
    )
    right = torch.autograd.grad(exact(logits, states), [logits, states], cotangent.double())
    torch.testing.assert_close(mine, right, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("runs", [False, True], ids=["one run", "runs"])
def test_many_gradients_at_once(runs):
    shape = (4,) if runs else ()
    logits, states = torch.randn(*shape, 3, requires_grad=True), drawn(*shape, 3, 2, 5, 7)
    run = torch.vmap(products.softmax_sum) if runs else products.softmax_sum
    cotangents = torch.randn(6, *shape, 2, 5, 7)
    mine = torch.autograd.grad(run(logits, states), logits, cotangents, is_grads_batched=True)[0]
    right = torch.autograd.grad(
        exact(logits, states), logits, cotangents.double(), is_grads_batched=True
    )[0]
    torch.testing.assert_close(mine, right.float(), rtol=1e-5, atol=1e-5)


def test_gradients_of_each_run_by_functorch():
    logits, states = torch.randn(4, 3), drawn(4, 3, 2, 5, 7)

    def loss(form):
        return lambda *inputs: form(*inputs).square().sum()

    mine = torch.vmap(torch.func.grad(loss(products.softmax_sum)))(logits, states)
    right = torch.vmap(torch.func.grad(loss(exact)))(logits, states)
    torch.testing.assert_close(mine, right, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("name", ["weighted_sum", "grouped_weighted_sum", "weighted_sum_mlp"])
def test_interfaces(name, build, draw, on_a_cpu):
    right, states, lengths = build(name, 7, 12), draw(7, 2, 5, 12), torch.tensor([5, 3])
    mine = copy.deepcopy(right).float()
    features, expected = mine(states.float(), lengths), right(states, lengths)
    torch.testing.assert_close(features, expected.float())
    cotangent = torch.randn_like(expected)
    expected = torch.autograd.grad(expected, list(right.parameters()), cotangent)
    found = torch.autograd.grad(features, list(mine.parameters()), cotangent.float())
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b.float(), rtol=1e-4, atol=1e-5)
    assert on_a_cpu["softmax_sum"] == on_a_cpu["softmax_sum_backward"] > 0


def test_double_is_torchs_own(on_a_cpu):
    compare_in = torch.randn(3, dtype=torch.float64), drawn(3, 2, 5, 7).double()
    torch.testing.assert_close(products.softmax_sum(*compare_in), exact(*compare_in))
    assert on_a_cpu["softmax_sum"] == 0


def test_exported_and_compiled_programs_hold_no_kernel(build, draw, on_a_cpu):
    interface = SSL_Interface.create("weighted_sum", 3, 8, normalize=False)
    states = draw(3, 2, 5, 8).float()
    program = torch.export.export(interface, (states,))
    torch.testing.assert_close(program.module()(states), interface(states))
    assert on_a_cpu["softmax_sum"] == 1
