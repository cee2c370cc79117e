"""Options that are wrong for one interface, each told by name."""

import pytest
import torch

import SSL_Interface
from SSL_Interface import InterfaceError


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
        ("pca_concat", {"components": 13}, "components: expected at most 12, found 13"),
    ],
)
def test_option(name, options, message):
    sizes = {"num_layers": 7, "dim": 12}
    with pytest.raises(InterfaceError) as caught:
        SSL_Interface.create(name, **sizes | options)
    assert str(caught.value).startswith(f"{name}: {message}")


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
