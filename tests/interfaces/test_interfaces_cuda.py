"""On a GPU every interface is what it is on a CPU, in full precision and under autocast."""

import copy

import pytest
import torch

import SSL_Interface
from SSL_Interface import fusing, products

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

SHAPES = [(7, 2, 5, 12), (13, 3, 40, 64), (25, 2, 30, 128)]
LENGTHS = {2: [5, 3], 3: [40, 1, 17]}


@pytest.fixture(params=SSL_Interface.names())
def name(request):
    return request.param


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_gpu_gives_what_the_cpu_gives(name, shape, build, draw):
    layers, batch, time, dim = shape
    here, states = build(name, layers, dim), draw(*shape)
    there, lengths = copy.deepcopy(here).cuda(), torch.tensor(LENGTHS[batch]).clamp(max=time)
    expected, found = here(states, lengths), there(states.cuda(), lengths.cuda())
    torch.testing.assert_close(found.cpu(), expected)
    if not here.parameter_count():
        return
    cotangent = torch.randn_like(expected)
    right = torch.autograd.grad(expected, list(here.parameters()), cotangent)
    mine = torch.autograd.grad(found, list(there.parameters()), cotangent.cuda())
    for key, a, b in zip(dict(here.named_parameters()), mine, right, strict=True):
        torch.testing.assert_close(a.cpu(), b, msg=lambda text, key=key: f"{key}: {text}")


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("stored", ["the autocast type", "fp32"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(name, dtype, stored, shape, build, draw):
    layers, batch, time, dim = shape
    exact, states = build(name, layers, dim), draw(*shape).to(dtype).cuda()
    exact = exact.cuda()
    interface, lengths = copy.deepcopy(exact).float(), torch.tensor(LENGTHS[batch]).cuda()
    lengths = lengths.clamp(max=time)
    expected = exact(states.double(), lengths)
    with torch.autocast("cuda", dtype):
        features = interface(states if stored != "fp32" else states.float(), lengths)
    assert features.dtype in (dtype, torch.float32)
    assert (features - expected).norm() < 0.03 * expected.norm()
    if not interface.parameter_count():
        return
    # Rounding flips some units of a ReLU, which in narrow interfaces is most of the error.
    tolerance = 0.25 if dtype == torch.bfloat16 else 0.05
    cotangent = torch.randn_like(expected)
    right = torch.autograd.grad(expected, list(exact.parameters()), cotangent)
    mine = torch.autograd.grad(features, list(interface.parameters()), cotangent.to(features.dtype))
    for key, a, b in zip(dict(interface.named_parameters()), mine, right, strict=True):
        assert a.dtype == torch.float32
        assert (a - b).norm() < tolerance * b.norm(), key


def test_compiled_for_the_gpu(name, build, draw):
    torch._dynamo.reset()
    interface, lengths = build(name, 7, 32).float().cuda(), torch.tensor([9, 4]).cuda()
    states = draw(7, 2, 9, 32).float().cuda()
    compiled = torch.compile(interface, fullgraph=True)
    torch.testing.assert_close(
        compiled(states, lengths), interface(states, lengths), rtol=1e-3, atol=1e-3
    )


LAYOUTS = {
    "layer by layer": lambda states: states,
    "frame by frame": lambda states: states.movedim(-4, -2).contiguous().movedim(-2, -4),
}
ROUNDING = {torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}
SUMS = [(2, 1, 1, 7), (3, 4, 1, 33), (7, 1, 50, 48), (13, 16, 83, 768), (25, 3, 41, 1024)]


@pytest.fixture
def kernels():
    """The Triton kernels; all sums below must be theirs."""
    module = fusing.kernels_for(torch.ones(2, device="cuda"), torch.ones(2, 1, 1, 1, device="cuda"))
    if module is None:
        pytest.skip("Triton does not work here")
    return module


def exact(logits, states):
    weights = logits.double().softmax(-1)[..., None, None, None]
    return (weights * states.double()).sum(-4)


def relative(found, expected):
    return float((found.double() - expected).norm() / expected.norm())


@pytest.mark.parametrize("runs", [None, 1, 5], ids=["one run", "a batch of one", "five runs"])
@pytest.mark.parametrize("dtype", fusing.TYPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SUMS, ids=str)
def test_kernels_of_the_weighted_sum(shape, layout, dtype, runs, kernels, monkeypatch):
    lead = () if runs is None else (runs,)
    logits = torch.randn(*lead, shape[0], device="cuda", requires_grad=True)
    states = torch.randn(*lead, *shape, device="cuda").to(dtype) + 0.5
    states = LAYOUTS[layout](states)
    used = []
    for name in ("softmax_sum", "softmax_sum_backward"):
        kernel = getattr(kernels, name)
        monkeypatch.setattr(
            kernels, name, lambda *a, name=name, kernel=kernel: used.append(name) or kernel(*a)
        )
    run = products.softmax_sum if runs is None else torch.vmap(products.softmax_sum)
    with torch.autocast("cuda", torch.bfloat16):
        features = run(logits, states)
    expected = exact(logits, states)
    assert features.dtype == dtype
    assert relative(features, expected) < ROUNDING[dtype]
    cotangent = torch.randn_like(features)
    (right,) = torch.autograd.grad(expected, logits, cotangent.double())
    (mine,) = torch.autograd.grad(features, logits, cotangent, retain_graph=True)
    assert relative(mine, right) < 1e-4
    (again,) = torch.autograd.grad(features, logits, cotangent)
    assert torch.equal(mine, again)
    assert used == ["softmax_sum", "softmax_sum_backward", "softmax_sum_backward"]


def test_kernels_in_a_cuda_graph(kernels):
    logits = torch.randn(13, device="cuda", requires_grad=True)
    states = torch.randn(13, 4, 50, 768, device="cuda", dtype=torch.bfloat16)
    cotangent = torch.randn_like(states[0])

    def step():
        features = products.softmax_sum(logits, states)
        return features, *torch.autograd.grad(features, logits, cotangent)

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    states.normal_()
    graph.replay()
    for mine, right in zip(captured, step(), strict=True):
        assert torch.equal(mine, right)


def test_kernels_beyond_int32(kernels):
    if torch.cuda.mem_get_info()[0] < 40 * 2**30:
        pytest.skip("needs 40 GiB of GPU memory")
    states = torch.zeros(2, 1, 2**21 + 1, 1024, device="cuda", dtype=torch.bfloat16)
    assert fusing.layout(states).large
    states[:, :, -1] = torch.tensor([1.0, 3.0], device="cuda")[:, None, None]
    logits = torch.tensor([0.0, 1.0], device="cuda", requires_grad=True)
    features = products.softmax_sum(logits, states)
    expected = exact(logits, states[:, :, -1:])
    torch.testing.assert_close(features[:, -1:].double(), expected, rtol=8e-3, atol=0)
    assert not features[:, :-1].any()
    (mine,) = torch.autograd.grad(features, logits, torch.ones_like(features))
    (right,) = torch.autograd.grad(expected.sum(), logits)
    torch.testing.assert_close(mine, right, rtol=1e-4, atol=1e-3)


def test_kernels_on_another_gpu(kernels):
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    logits, states = torch.randn(3, device="cuda:1"), torch.randn(3, 2, 5, 16, device="cuda:1")
    assert fusing.kernels_for(logits, states) is kernels
    assert relative(products.softmax_sum(logits, states), exact(logits, states)) < 1e-6
