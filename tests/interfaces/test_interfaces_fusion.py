"""Several upstreams at once against one utterance at a time and torch's interpolation, in fp64."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

import SSL_Interface
from SSL_Interface import InterfaceError, interpolation
from SSL_Interface.interpolation import stretch, stretch_valid

KINDS = ("weighted_sum", "hconv", "chconv")
SIZES = [(5, 8), (3, 6), (4, 8)]
"""Layers and widths of three upstreams."""
TIMES = (6, 9, 6)
LENGTHS = [torch.tensor([6, 2, 1]), torch.tensor([9, 3, 1]), torch.tensor([6, 1, 4])]
LONGEST = [9, 3, 4]


def make(kind, sizes=SIZES, **options):
    torch.manual_seed(0)
    fusion = SSL_Interface.fuse(kind, sizes, **options).double()
    with torch.no_grad():
        for parameter in fusion.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return fusion


@pytest.fixture
def states(draw):
    pairs = zip(SIZES, TIMES, strict=True)
    return [draw(layers, 3, time, dim, seed=time) for (layers, dim), time in pairs]


def resample(x, size, axis):
    """Interpolate one axis of one utterance by torch's own function."""
    rows = x.movedim(axis, -1)
    flat = rows.reshape(1, -1, rows.shape[-1])
    out = F.interpolate(flat, size=size, mode="linear")
    return out.view(*rows.shape[:-1], size).movedim(-1, axis)


def plain(fusion, states, time):
    """One utterance without padding: states (L_i, T_i, D_i) of each upstream."""
    states = [F.layer_norm(s, s.shape[-1:]) for s in states]
    states = [resample(s, time, 1) for s in states]
    if fusion.kind != "chconv":
        pairs = zip(fusion.projections, states, strict=True)
        states = [projection(s) for projection, s in pairs]
        if fusion.resize == "interpolate":
            states = [resample(s, fusion.dim, 2) for s in states]
    if fusion.kind == "weighted_sum":
        weights = fusion.interface.weighte_sum_weights.softmax(0)
        return sum(w * s for w, s in zip(weights, torch.cat(states), strict=True))
    most = max(len(s) for s in states)
    states = [resample(s, most, 0) for s in states]
    merged = sum(states) if fusion.kind == "hconv" else torch.cat(states, -1)
    if fusion.kind == "chconv":
        merged = fusion.projections[0](merged)
    x = merged.permute(1, 2, 0)  # (T, D, L)
    for module in fusion.interface.transforms:
        if isinstance(module, torch.nn.Conv1d):
            x = F.conv1d(x, module.weight, module.bias, module.stride, module.padding).relu()
    return x.flatten(1)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("weighted_sum", {}),
        ("weighted_sum", {"resize": "interpolate", "dim": 7}),
        ("hconv", {}),
        ("hconv", {"resize": "interpolate"}),
        ("chconv", {}),
        ("chconv", {"dim": 22}),
    ],
)
def test_each_utterance_as_if_alone(kind, options, states):
    """Values and gradients, with padding that would show."""
    fusion = make(kind, **options)
    leaves = [part.clone().requires_grad_() for part in states]
    rows = []
    for b, longest in enumerate(LONGEST):
        own = [leaf[:, b, : lengths[b]] for leaf, lengths in zip(leaves, LENGTHS, strict=True)]
        rows.append(F.pad(plain(fusion, own, longest), (0, 0, 0, 9 - longest)))
    expected = torch.stack(rows)
    inputs = [*leaves, *fusion.parameters()]
    cotangent = torch.randn_like(expected)
    grads = torch.autograd.grad(expected, inputs, cotangent)

    features = fusion(leaves, LENGTHS)
    assert features.shape == (3, 9, fusion.output_dim)
    torch.testing.assert_close(features, expected, rtol=1e-9, atol=1e-11)
    ours = torch.autograd.grad(features, inputs, cotangent)
    for mine, theirs in zip(ours, grads, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-8, atol=1e-10)
    for b, longest in enumerate(LONGEST):
        assert (features[b, longest:] == 0).all()
    for part, lengths in zip(states, LENGTHS, strict=True):
        for b, length in enumerate(lengths.tolist()):
            part[:, b, length:] = torch.nan
    torch.testing.assert_close(fusion(states, LENGTHS), expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("kind", KINDS)
def test_without_lengths_all_frames_count(kind, states):
    fusion = make(kind)
    full = [torch.full((3,), time) for time in TIMES]
    torch.testing.assert_close(fusion(states), fusion(states, full))
    lists = [list(part) for part in states]
    torch.testing.assert_close(fusion(lists), fusion(states))


@pytest.mark.parametrize("kind", KINDS)
def test_one_tensor_of_lengths_for_equal_frames(kind, draw):
    sizes, lengths = [(4, 6), (4, 6)], torch.tensor([5, 2])
    states = [draw(4, 2, 5, 6, seed=seed) for seed in range(2)]
    fusion = make(kind, sizes)
    torch.testing.assert_close(fusion(states, lengths), fusion(states, [lengths, lengths.clone()]))


@pytest.mark.parametrize("kind", ["weighted_sum", "hconv"])
def test_one_upstream_is_the_interface(kind, build, draw):
    states, lengths = draw(7, 2, 5, 12), torch.tensor([5, 3])
    fusion, interface = make(kind, [(7, 12)]), build(kind, 7, 12)
    fusion.interface.load_state_dict(interface.state_dict())
    assert torch.equal(fusion([states], lengths), interface(states, lengths))
    assert fusion.parameter_count() == interface.parameter_count()
    assert fusion.macs_per_frame() == interface.macs_per_frame()


def test_layers_selects_for_each_upstream(states):
    fusion = make("hconv", layers=[[4, 0, 2], None, [1]])
    sizes = [(3, 8), (3, 6), (1, 8)]
    alone = make("hconv", sizes)
    alone.load_state_dict(fusion.state_dict())
    chosen = [states[0][[4, 0, 2]], states[1], states[2][[1]]]
    torch.testing.assert_close(fusion(states, LENGTHS), alone(chosen, LENGTHS))
    profile = fusion.layer_profile(states, LENGTHS)
    assert (profile[0][[1, 3]] == 0).all()
    assert (profile[2][[0, 2, 3]] == 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_layer_profile(kind, states):
    fusion = make(kind)
    profile = fusion.layer_profile(states, LENGTHS)
    assert [len(part) for part in profile] == [5, 3, 4]
    assert torch.cat(profile).sum().item() == pytest.approx(1, abs=1e-5)
    assert all((part > 0).all() for part in profile)
    assert fusion.training
    assert all(parameter.grad is None for parameter in fusion.parameters())
    for part, lengths in zip(states, LENGTHS, strict=True):
        part[:, 1, lengths[1] :] = 1e3
    for louder, quiet in zip(fusion.layer_profile(states, LENGTHS), profile, strict=True):
        torch.testing.assert_close(louder, quiet)


def test_layer_profile_by_hand(draw):
    """For y = Σ w s the gradient of the norm is w y / |y|."""
    sizes = [(2, 4), (3, 4)]
    states = [draw(layers, 1, 2, 4, seed=layers) for layers, _ in sizes]
    fusion = make("weighted_sum", sizes, normalize=False)
    weights = fusion.interface.weighte_sum_weights.softmax(0)
    joined = torch.cat(states)
    y = (weights[:, None, None, None] * joined).sum(0)
    shares = (
        (joined * y / y.norm(dim=-1, keepdim=True)).sum(-1).abs().sum((1, 2)) * weights
    ).float()
    expected = (shares / shares.sum()).split([2, 3])
    for part, by_hand in zip(fusion.layer_profile(states), expected, strict=True):
        torch.testing.assert_close(part, by_hand.detach())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [{}, {"dim": 5}])
def test_macs_are_the_interfaces_and_those_of_the_projections(kind, options, draw):
    sizes = [(13, 12), (7, 10)]
    states = [draw(layers, 2, 3, dim) for layers, dim in sizes]
    fusion = make(kind, sizes, **options)
    inner = fusion.interface.macs_per_frame()
    fusion.interface.join = lambda merged: merged[0]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        fusion(states)
    assert (fusion.macs_per_frame() - inner) * 6 == counter.get_total_flops() / 2


@pytest.mark.parametrize("kind", KINDS)
def test_compiles_in_one_graph_and_stacks(kind, states):
    fusion = make(kind)
    compiled = torch.compile(fusion, fullgraph=True, backend="eager", dynamic=True)
    torch.testing.assert_close(compiled(states, LENGTHS), fusion(states, LENGTHS))
    runs = [make(kind) for _ in range(2)]
    with torch.no_grad():
        for parameter in runs[1].parameters():
            parameter.mul_(1.5)
    stacked = torch.func.stack_module_state(runs)
    together = torch.vmap(
        lambda parameters, buffers: torch.func.functional_call(
            runs[0], (parameters, buffers), (states, LENGTHS)
        )
    )(*stacked)
    for run, alone in zip(together, runs, strict=True):
        torch.testing.assert_close(run, alone(states, LENGTHS))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("resize", ["project", "interpolate"])
@pytest.mark.parametrize("low", [torch.bfloat16, torch.float16], ids=str)
def test_under_autocast(kind, resize, low, states):
    """Values and gradients, of states in the low type and in fp32."""
    fusion = make(kind, resize=resize).float()

    def run(inputs):
        features = fusion(inputs, LENGTHS)
        gradients = torch.autograd.grad(features.float().square().sum(), [*fusion.parameters()])
        return [features.detach(), *gradients]

    exact = run([part.float() for part in states])
    for dtype in (low, torch.float32):
        with torch.autocast("cpu", low):
            rounded = run([part.to(dtype) for part in states])
        assert rounded[0].dtype in (low, dtype)
        for mine, theirs in zip(rounded, exact, strict=True):
            assert (mine.float() - theirs).norm() < 0.03 * theirs.norm()


@pytest.mark.parametrize("low", [torch.bfloat16, torch.float16], ids=str)
def test_long_recordings_in_half_precision(low, draw):
    """Whole numbers up to twice the number of frames are not all numbers of the low type."""
    x = draw(1, 1, 3000, 1).cumsum(2) / 100  # smooth, so that neighbours are alike
    exact = stretch(x, 4001, 2)
    assert (stretch(x.to(low), 4001, 2) - exact).norm() < 0.01 * exact.norm()
    shares = interpolation._places(torch.arange(4001), 3000, 4001, low)[2]
    exact = interpolation._places(torch.arange(4001), 3000, 4001, torch.float64)[2]
    assert (shares - exact).abs().max() < 0.003


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("strict", [False, True])
def test_exports_with_dynamic_batch_and_one_time(kind, strict, draw):
    sizes, lengths = [(5, 8), (3, 6)], torch.tensor([9, 4, 1])
    states, fusion = [draw(layers, 3, 9, dim) for layers, dim in sizes], make(kind, sizes)
    batch, time = torch.export.Dim("batch"), torch.export.Dim("time")
    dynamic = ([{1: batch, 2: time}] * 2, {0: batch})
    program = export(fusion, (states, lengths), dynamic, strict)
    for rows, frames in ((3, 9), (2, 5), (1, 1), (3, 40)):
        states = [draw(layers, rows, frames, dim, seed=rows) for layers, dim in sizes]
        counts = torch.tensor([frames, 1, (frames + 1) // 2])[:rows]
        torch.testing.assert_close(program(states, counts), fusion(states, counts))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("padded", [True, False])
def test_exports_with_a_time_for_each_upstream(kind, padded, states, draw):
    """Which upstream has most frames may change; so may that they differ at all."""
    fusion, batch = make(kind), torch.export.Dim("batch")
    times = [torch.export.Dim(f"time_{number}") for number in range(3)]
    lengths = [part.clone() for part in LENGTHS] if padded else None
    dynamic = (
        [{1: batch, 2: time} for time in times],
        [{0: batch}] * 3 if padded else None,
    )
    program = export(fusion, (states, lengths), dynamic)
    for sizes in ((6, 9, 7), (12, 3, 5), (2, 2, 2), (1, 4, 1)):
        inputs = [
            draw(layers, 2, time, dim, seed=time)
            for (layers, dim), time in zip(SIZES, sizes, strict=True)
        ]
        counts = [torch.tensor([time, (time + 1) // 2]) for time in sizes] if padded else None
        torch.testing.assert_close(program(inputs, counts), fusion(inputs, counts))


def export(fusion, arguments, dynamic, strict=False):
    return torch.export.export(fusion, arguments, dynamic_shapes=dynamic, strict=strict).module()


def test_check_finite(states):
    states[1][2, 1, 4, 3] = torch.nan  # beyond the 3 valid frames
    fusion = make("hconv", check_finite=True)
    assert fusion(states, LENGTHS).isfinite().all()
    with pytest.raises(InterfaceError, match=r"upstream 1: states: .* layer 2, utterance 1, fra"):
        fusion(states)
    assert make("hconv")(states).isnan().any()


def test_documented_parameter_counts():
    documentation = " ".join(SSL_Interface.fusion.__doc__.split())
    with torch.device("meta"):
        for kind in KINDS:
            for size in ((13, 768), (25, 1024)):
                fusion = SSL_Interface.fuse(kind, [size, size])
                if kind == "hconv":
                    alone = SSL_Interface.create("hconv", *size)
                    assert fusion.parameter_count() == alone.parameter_count()
                else:
                    assert f"{fusion.parameter_count():,}" in documentation


@pytest.mark.parametrize(("size", "target"), [(1, 4), (4, 1), (3, 7), (7, 3), (13, 25), (49, 50)])
def test_stretch_is_torchs_interpolation(size, target, draw):
    x = draw(2, 3, size, 4)
    torch.testing.assert_close(stretch(x, target, 2), resample(x, target, 2))
    lengths = torch.tensor([size, 1, (size + 1) // 2])
    targets = torch.tensor([target, 3, 2])
    out = stretch_valid(x, lengths, targets, target + 3)
    for b in range(3):
        expected = resample(x[:, b, : lengths[b]], int(targets[b]), 1)
        torch.testing.assert_close(out[:, b, : targets[b]], expected)


@pytest.mark.parametrize(
    ("kind", "upstreams", "options", "message"),
    [
        ("mean", SIZES, {}, "fusion: kind: expected one of weighted_sum, hconv, chconv, found 'me"),
        ("hconv", [], {}, "fusion: upstreams: expected pairs"),
        ("hconv", [(13, 768, 2)], {}, "fusion: upstreams: expected pairs"),
        ("hconv", [13, 768], {}, "fusion: upstreams: expected pairs"),
        ("hconv", [(13, 8), (0, 8)], {}, "fusion: upstream 1: num_layers: expected a whole number"),
        ("hconv", SIZES, {"layers": [[0]]}, "fusion: layers: expected 3 lists"),
        ("hconv", SIZES, {"layers": [None, [3], None]}, "fusion: upstream 1: layers: expected a l"),
        ("hconv", SIZES, {"dim": 0}, "fusion: dim: expected a whole number above zero, found 0"),
        ("hconv", SIZES, {"normalize": "no"}, "fusion: upstream 0: normalize: expected True or Fa"),
        ("hconv", SIZES, {"resize": "pad"}, "fusion: resize: expected one of project, interp"),
        ("hconv", 3, {}, "fusion: upstreams: expected pairs (layers, width), found 3"),
        ("hconv", SIZES, {"layers": 3}, "fusion: layers: expected 3 lists of layers, one for each"),
        (
            "hconv",
            SIZES,
            {"kernel": 3},
            "fusion: hconv: option: expected one of layers, normalize, dim, resize, check_finite, "
            "kernel_size, stride, output_dim (did you mean 'kernel_size'?), found 'kernel'",
        ),
        ("weighted_sum", SIZES, {"output_dim": 3}, "fusion: weighted_sum: option: expected one of"),
        ("chconv", SIZES, {"num_layers": 3}, "fusion: chconv: option: expected one of layers, n"),
        ("hconv", [(1, 8), (1, 8)], {}, "hconv: layers: expected at least 2 layers"),
    ],
)
def test_wrong_options_are_named(kind, upstreams, options, message):
    with pytest.raises(InterfaceError) as caught:
        SSL_Interface.fuse(kind, upstreams, **options)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s, n: (s[:2], n), "fusion: states: expected a sequence of 3, one for each upstrea"),
        (lambda s, n: (None, n), "fusion: states: expected a sequence of 3, one for each upstream"),
        (lambda s, n: (iter(s), n), "one for each upstream, found list_iterator"),
        (lambda s, n: (s, 6), "fusion: lengths: expected one tensor for each of 3 upstreams, foun"),
        (lambda s, n: (s, [n[0], None, n[2]]), "lengths: expected one tensor for each of 3 upst"),
        (
            lambda s, n: ([s[0].float(), *s[1:]], n),
            "fusion: upstream 0: states: expected torch.float64, as the parameters, or autocast, f",
        ),
        (
            lambda s, n: ([s[0], s[1].to("meta"), s[2]], n),
            "fusion: upstream 1: states: expected on cpu, as the parameters, found meta",
        ),
        (
            lambda s, n: ([s[0], s[1][:, :, :0], s[2]], None),
            "fusion: states: expected frames of every upstream or of none, found [6, 0, 6]",
        ),
        (lambda s, n: (s, n[:2]), "fusion: lengths: expected one tensor for each of 3 upstreams"),
        (lambda s, n: (s, n[0]), "fusion: lengths: expected one tensor for each upstream, as they"),
        (lambda s, n: ([s[0], s[0], s[2]], n), "fusion: upstream 1: states: expected (3, B, T, 6)"),
        (lambda s, n: ([s[0][:, :2], *s[1:]], None), "fusion: states: expected one batch size, f"),
        (
            lambda s, n: (s, [n[0], n[1], n[1]]),
            "fusion: upstream 2: lengths: expected values from 1 to 6 frames, found [9, 3, 1]",
        ),
    ],
)
def test_wrong_input_is_named(change, message, states):
    arguments = change(states, LENGTHS)
    with pytest.raises(InterfaceError) as caught:
        make("hconv")(*arguments)
    assert message in str(caught.value)
