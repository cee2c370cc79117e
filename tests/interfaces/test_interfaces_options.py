"""What a user can get wrong, each told by interface, argument, expected and found value."""

import pytest
import torch

import SSL_Interface
from SSL_Interface import InterfaceError, working


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("single_layer", {"layer": 7}, "layer: expected a layer from -7 to 6, found 7"),
        ("single_layer", {"layer": 2, "layers": [4, 5]}, "layer: expected a layer from -2 to 1"),
        ("hconv", {"layers": [3]}, "layers: expected at least 2 layers, found 1"),
        ("hconv", {"stride": 1}, "stride: expected at least 2, found 1"),
        ("hconv", {"kernel_size": 0}, "kernel_size: expected a whole number above zero, found 0"),
        ("hconv", {"output_dim": -1}, "output_dim: expected a whole number above zero, found -1"),
        ("hconv", {"kernel_size": 1, "stride": 6, "dim": 1}, "dim: expected at least 2"),
        ("grouped_weighted_sum", {"groups": 8}, "groups: expected at most one for each of 7"),
        ("grouped_weighted_sum", {"groups": 0}, "groups: expected a whole number"),
        ("weighted_sum_mlp", {"match": "concat"}, "match: expected 'hconv', found 'concat'"),
        ("weighted_sum_mlp", {"parameters": 0}, "parameters: expected a whole number"),
        ("weighted_sum_mlp", {"layers": [1]}, "parameters: expected a number"),
        ("cls_pooling", {"heads": 5}, "heads: expected a divisor of 12, found 5"),
        ("cls_pooling", {"dropout": 1.0}, "dropout: expected from 0 to below 1, found 1.0"),
        ("cls_pooling", {"feedforward": 0}, "feedforward: expected a whole number"),
        ("cls_pooling", {"dropout": "1"}, "dropout: expected from 0 to below 1, found '1'"),
        ("lap", {"dropout": None}, "dropout: expected from 0 to below 1, found None"),
        ("gumbel_selection", {"temperature": "1"}, "temperature: expected above zero, found '1'"),
        ("gumbel_selection", {"temperature": True}, "temperature: expected above zero, found True"),
        ("pca_concat", {"components": 13}, "components: expected at most 12, found 13"),
    ],
)
def test_option(name, options, message):
    sizes = {"num_layers": 7, "dim": 12}
    with pytest.raises(InterfaceError) as caught:
        SSL_Interface.create(name, **sizes | options)
    assert str(caught.value).startswith(f"{name}: {message}")


def zeros(*shape, **options):
    return torch.zeros(*shape, **options)


def poisoned(value):
    states = torch.zeros(7, 2, 4, 12)
    states[-1, 1, 2, 5] = value
    return states


GOOD = zeros(7, 2, 4, 12)
WRONG_INPUT = {
    # what is wrong: (states, lengths, the error after the interface's name)
    "L": (zeros(6, 2, 4, 12), None, "states: expected (7, B, T, 12), found (6, 2, 4, 12)"),
    "D": (zeros(7, 2, 4, 11), None, "states: expected (7, B, T, 12), found (7, 2, 4, 11)"),
    "rank": (zeros(7, 4, 12), None, "states: expected (7, B, T, 12), found (7, 4, 12)"),
    "integers": (
        zeros(7, 2, 4, 12, dtype=torch.int64),
        None,
        "states: expected floating point of 16, 32 or 64 bits, found torch.int64",
    ),
    "8 bits": (
        zeros(7, 2, 4, 12).to(torch.float8_e4m3fn),
        None,
        "states: expected floating point of 16, 32 or 64 bits, found torch.float8_e4m3fn",
    ),
    "sparse": (
        GOOD.to_sparse(),
        None,
        "states: expected a dense tensor, found torch.sparse_coo",
    ),
    "nested": (
        torch.nested.nested_tensor([zeros(2, 4, 12)] * 7, layout=torch.jagged),
        None,
        "states: expected a dense tensor, found a nested tensor",
    ),
    "a list with sparse ones": (
        [*GOOD[:6], GOOD[6].to_sparse()],
        None,
        "states: expected a dense tensor, found torch.sparse_coo",
    ),
    "a list on two devices": (
        [*GOOD[:6], GOOD[6].to("meta")],
        None,
        "states: expected tensors on one device, found cpu, meta",
    ),
    "an array": (
        GOOD.numpy(),
        None,
        "states: expected a tensor or a list of tensors, found ndarray",
    ),
    "a list of arrays": (
        [state.numpy() for state in GOOD],
        None,
        "states: expected a tensor or a list of tensors, found list",
    ),
    "a short list": (
        [zeros(2, 4, 12)] * 6,
        None,
        "states: expected 7 tensors of one shape (B, T, 12), found 6 of (2, 4, 12)",
    ),
    "an uneven list": (
        [zeros(2, 4, 12)] * 6 + [zeros(2, 5, 12)],
        None,
        "states: expected 7 tensors of one shape (B, T, 12), found 7 of (2, 4, 12), (2, 5, 12)",
    ),
    "a list of D": (
        [zeros(2, 4, 11)] * 7,
        None,
        "states: expected 7 tensors of one shape (B, T, 12), found 7 of (2, 4, 11)",
    ),
    "a list with integers": (
        [*GOOD[:6], zeros(2, 4, 12, dtype=torch.int32)],
        None,
        "states: expected floating point of 16, 32 or 64 bits, found torch.int32",
    ),
    "nothing": (
        [],
        None,
        "states: expected 7 tensors of one shape (B, T, 12), found 0 of nothing",
    ),
    "lengths of another batch": (
        GOOD,
        torch.tensor([4]),
        "lengths: expected integers (2,), found torch.int64 (1,)",
    ),
    "lengths as fractions": (
        GOOD,
        torch.tensor([1.0, 0.5]),
        "lengths: expected integers (2,), found torch.float32 (2,)",
    ),
    "lengths as a mask": (
        GOOD,
        torch.tensor([True, True]),
        "lengths: expected integers (2,), found torch.bool (2,)",
    ),
    "sparse lengths": (
        GOOD,
        torch.tensor([4, 4]).to_sparse(),
        "lengths: expected a dense tensor, found torch.sparse_coo",
    ),
    "lengths as a list": (
        GOOD,
        [4, 4],
        "lengths: expected a tensor of integers (2,), found [4, 4]",
    ),
    "lengths over T": (
        GOOD,
        torch.tensor([4, 5]),
        "lengths: expected values from 1 to 4 frames, found [4, 5]",
    ),
    "a length of zero": (
        GOOD,
        torch.tensor([0, 4]),
        "lengths: expected values from 1 to 4 frames, found [0, 4]",
    ),
    "NaN": (
        poisoned(torch.nan),
        torch.tensor([4, 3]),
        "states: expected finite values (check_finite is on), found NaN or infinity in 1 vectors, "
        "the first in layer 6, utterance 1, frame 2",
    ),
    "infinity": (
        poisoned(-torch.inf),
        None,
        "states: expected finite values (check_finite is on), found NaN or infinity in 1 vectors, "
        "the first in layer 6, utterance 1, frame 2",
    ),
}


@pytest.mark.parametrize("name", SSL_Interface.names())
@pytest.mark.parametrize("wrong", WRONG_INPUT)
def test_input(name, wrong, build):
    states, lengths, message = WRONG_INPUT[wrong]
    interface = build(name, 7, 12, check_finite=True).float()
    with pytest.raises(InterfaceError) as caught:
        interface(states, lengths)
    assert str(caught.value) == f"{name}: {message}"
    assert f"expected {caught.value.expected}, found {caught.value.found}" in message


@pytest.mark.parametrize("name", SSL_Interface.names())
def test_finite_values_are_checked_where_asked_and_valid(name, build):
    states = poisoned(torch.nan)
    assert build(name, 7, 12).float()(states).shape[:2] == (2, 4)
    features = build(name, 7, 12, check_finite=True).float()(states, torch.tensor([4, 2]))
    assert features.isfinite().all()
    some = build(name, 7, 12, layers=[1, 3, 5], check_finite=True).float()
    assert some(states).isfinite().all()


@pytest.mark.parametrize("name", SSL_Interface.names())
@pytest.mark.parametrize("layers", [[7], [-8], [], [1, 1], [1, -6], [0.5], "01", 3])
def test_layers(name, layers):
    with pytest.raises(InterfaceError, match=f"{name}: layers: expected .* found"):
        SSL_Interface.create(name, 7, 12, layers=layers)


@pytest.mark.parametrize("name", SSL_Interface.names())
@pytest.mark.parametrize("sizes", [(0, 12), (7, 0), (7.0, 12), (7, True)])
def test_sizes(name, sizes):
    with pytest.raises(InterfaceError, match=f"{name}: (num_layers|dim): expected .* found"):
        SSL_Interface.create(name, *sizes)


@pytest.mark.parametrize("name", SSL_Interface.names())
@pytest.mark.parametrize("option", ["normalize", "check_finite"])
@pytest.mark.parametrize("value", ["no", 0, None])
def test_flags(name, option, value):
    """A string is no flag: "no" would be taken for yes."""
    with pytest.raises(InterfaceError) as caught:
        SSL_Interface.create(name, 7, 12, **{option: value})
    assert str(caught.value) == f"{name}: {option}: expected True or False, found {value!r}"


@pytest.mark.parametrize("name", SSL_Interface.names())
def test_another_configuration(name):
    kind = SSL_Interface.find(name)
    with pytest.raises(InterfaceError) as caught:
        kind(SSL_Interface.configs.HierarchicalConvInterfaceConfig())
    assert str(caught.value) == (
        f"{name}: config: expected a {kind.Config.__name__}, "
        "found HierarchicalConvInterfaceConfig without 'num_layers'"
    )


@pytest.mark.parametrize("name", SSL_Interface.names())
def test_another_device(name, build):
    interface = build(name, 7, 12).float()
    if not interface.state_dict():
        pytest.skip(f"{name} has nothing that lies anywhere")
    with pytest.raises(InterfaceError) as caught:
        interface(GOOD.to("meta"))
    assert str(caught.value) == f"{name}: states: expected on cpu, as the parameters, found meta"


ANY_TYPE = {"weighted_sum", "concat", "hconv", "gumbel_selection", "mean", "last", "single_layer"}


@pytest.mark.parametrize("name", SSL_Interface.names())
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
def test_another_type(name, dtype, build, draw, monkeypatch):
    """States are of the parameters' type, or autocast sees to it; some take any type."""
    interface, states = build(name, 7, 12).float(), draw(7, 2, 4, 12).to(dtype)
    if name in ANY_TYPE | {"pca_concat"}:
        wide = torch.float32 if name == "pca_concat" and dtype == torch.bfloat16 else dtype
        assert interface(states).dtype == wide
        exact = interface(states.float())
        assert (interface(states) - exact).norm() < 0.03 * exact.norm()
        torch._dynamo.reset()
        compiled = torch.compile(interface, fullgraph=True, backend="eager")(states)
        assert compiled.dtype == wide
        assert (compiled - exact).norm() < 0.03 * exact.norm()
        monkeypatch.setattr(working, "SMALL", 50_000)
        assert interface(states).dtype == wide
    else:
        with pytest.raises(InterfaceError) as caught:
            interface(states)
        expected = "torch.float32, as the parameters, or autocast"
        assert str(caught.value) == f"{name}: states: expected {expected}, found {dtype}"


def test_another_type_before_a_projection(build, draw):
    interface, states = build("hconv", 7, 12, output_dim=5).float(), draw(7, 2, 4, 12)
    with pytest.raises(InterfaceError, match=r"hconv: states: expected torch\.float32, as the par"):
        interface(states)
    with torch.autocast("cpu", torch.bfloat16):
        assert interface(states.bfloat16()).dtype == torch.bfloat16
        with pytest.raises(InterfaceError, match=r"or autocast, found torch\.float64"):
            interface(states)


@pytest.mark.parametrize("name", SSL_Interface.names())
def test_a_profile_of_nothing(name, build):
    with pytest.raises(InterfaceError, match=rf"{name}: states: expected at least one frame, fou"):
        build(name, 7, 12).float().layer_profile(GOOD[:, :, :0])


def test_pca_concat_refuses_to_fit_what_is_not_finite(draw):
    interface, states = SSL_Interface.create("pca_concat", 3, 6, layers=[0, 2]), draw(3, 2, 9, 6)
    wrong = states.float()
    wrong[2, 0, 3, 1] = torch.nan
    interface.fit_batch(wrong)
    with pytest.raises(InterfaceError) as caught:
        interface.fit_finish()
    assert str(caught.value) == (
        "pca_concat: fit: expected finite states, found NaN or infinity in layer 2"
    )
    assert not interface.fitted
    interface.fit_batch(states.float())
    interface.fit_finish()
    assert interface.frames == 18


def test_pca_concat_refuses_to_run_unfitted(build):
    interface = SSL_Interface.create("pca_concat", 3, 6)
    with pytest.raises(InterfaceError, match="pca_concat: forward: expected fit_batch"):
        interface(torch.zeros(3, 1, 2, 6))
    with pytest.raises(
        InterfaceError, match="pca_concat: fit: expected at least 2 frames, found 0"
    ):
        interface.fit_finish()
    fitted = build("pca_concat", 3, 6)
    unfitted = SSL_Interface.create("pca_concat", 3, 6).state_dict()
    fitted.load_state_dict(unfitted)
    with pytest.raises(InterfaceError, match="no fitted components"):
        fitted(torch.zeros(3, 1, 2, 6, dtype=torch.float64))


def test_pca_concat_refuses_too_few_frames(draw):
    interface = SSL_Interface.create("pca_concat", 3, 12).double()
    interface.fit_batch(draw(3, 2, 2, 12), torch.tensor([2, 1]))
    with pytest.raises(InterfaceError, match="fit: expected at least 4 frames, found 3"):
        interface.fit_finish()
    interface.fit_batch(draw(3, 1, 1, 12))
    interface.fit_finish()
    assert interface.frames == 4


def test_pca_concat_fits_anew(draw):
    states = draw(3, 2, 30, 6)
    twice, once = (SSL_Interface.create("pca_concat", 3, 6).double() for _ in range(2))
    twice.fit_batch(5 + 2 * draw(3, 2, 30, 6, seed=9))
    twice.fit_finish()
    for interface in (twice, once):
        interface.fit_batch(states)
        interface.fit_finish()
    assert twice.frames == 60
    torch.testing.assert_close(twice(states), once(states))
    assert not SSL_Interface.create("concat", 3, 6).needs_fit
    assert once.needs_fit
