"""On a GPU every interface is what it is on a CPU, in full precision and under autocast."""

import copy

import pytest
import torch

import SSL_Interface

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
