"""The featurizer on an upstream that only looks like s3prl's: sizes, lengths, mistakes."""

from types import SimpleNamespace

import pytest
import torch

import SSL_Interface
from SSL_Interface import Featurizer, InterfaceError


def upstream(widths=(12,) * 7, rates=(320,) * 7):
    return SimpleNamespace(
        num_layers=len(widths), hidden_sizes=list(widths), downsample_rates=list(rates)
    )


def lengths(*frames, layers=7):
    return [torch.tensor(frames) for _ in range(layers)]


@pytest.mark.parametrize("name", SSL_Interface.names())
def test_every_interface(name, build, draw):
    interface = build(name, 7, 12)
    featurizer = Featurizer(upstream(), interface=interface)
    states, all_lens = draw(7, 2, 6, 12), lengths(6, 4)
    features, found = featurizer(list(states), all_lens)
    torch.testing.assert_close(features, interface(states, all_lens[0]), rtol=1e-12, atol=1e-12)
    assert found is all_lens[interface.layers[0]]
    assert not features[1, 4:].any()
    assert features.shape[-1] == featurizer.output_size == interface.output_dim
    assert featurizer.downsample_rate == 320
    named = Featurizer(upstream(), normalize=True, interface=name)
    assert type(named.interface) is type(interface)
    assert named.interface.normalize
    assert not Featurizer(upstream(), interface=name).interface.normalize


def test_options_go_to_the_interface():
    featurizer = Featurizer(upstream(), interface="hconv", kernel_size=3, output_dim=20)
    assert featurizer.interface.kernel_size == 3
    assert featurizer.output_size == 20


@pytest.mark.parametrize("name", SSL_Interface.names())
def test_layer_selections(name, draw):
    featurizer = Featurizer(upstream(), [5, -1, 2], interface=name)
    last = name in ("last", "single_layer")
    assert featurizer.interface.layers == ((6,) if last else (2, 5, 6))


@pytest.mark.parametrize("layer", [0, 3, -1])
def test_one_selected_layer(layer, draw):
    states = draw(7, 2, 4, 12)
    features, _ = Featurizer(upstream(), [layer]).double()(list(states), lengths(4, 4))
    torch.testing.assert_close(features, states[layer])


def test_only_the_joined_layers_lengths_count(draw):
    states, all_lens = list(draw(7, 2, 6, 12)), lengths(6, 4)
    all_lens[0] = torch.tensor([6, 6])
    _, found = Featurizer(upstream(), [2, 3]).double()(states, all_lens)
    assert found.tolist() == [6, 4]
    with pytest.raises(InterfaceError, match=r"all_lens: expected the same lengths .*\[6, 6\]"):
        Featurizer(upstream())(states, all_lens)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"upstream": upstream((12,) * 6 + (16,))}, "upstream.hidden_sizes: expected one width"),
        ({"upstream": upstream(rates=(160,) + (320,) * 6)}, "upstream.downsample_rates: expected"),
        ({"upstream": object()}, "upstream: expected an upstream of s3prl.nn, with hidden_sizes"),
        ({"upstream": upstream(())}, "upstream: expected an upstream of s3prl.nn"),
        ({"interface": SSL_Interface.create("mean", 6, 12)}, "interface: expected one for the"),
        ({"interface": SSL_Interface.create("mean", 7, 13)}, "found mean for 7 of 13"),
        ({"interface": "hcomv"}, "did you mean 'hconv'"),
        ({"interface": SSL_Interface.interfaces.WeightSumInterface}, "interface: expected one of"),
        ({"interface": "hconv", "layer_selections": [3]}, "layers: expected at least 2 layers"),
        ({"layer_selections": [7]}, "layers: expected a layer from -7 to 6, found 7"),
        ({"layer_selections": []}, "layers: expected a non-empty list"),
        ({"layer_selections": [2, 2]}, "layers: expected each layer once"),
        ({"layer_selections": "01"}, "layers: expected a layer"),
        ({"normalize": "yes"}, "weighted_sum: normalize: expected True or False, found 'yes'"),
        ({"groups": 2}, "weighted_sum: option: expected"),
        (
            {"interface": SSL_Interface.create("mean", 7, 12), "layer_selections": [1]},
            "layer_selections: expected nothing",
        ),
        (
            {"interface": SSL_Interface.create("mean", 7, 12), "normalize": True},
            "normalize: expected nothing",
        ),
        ({"interface": SSL_Interface.create("mean", 7, 12), "groups": 2}, "groups: expected"),
        (
            {"interface": SSL_Interface.fuse("hconv", [(7, 12)])},
            r"interface: expected a name or an Interface, found Fusion",
        ),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(InterfaceError, match=message):
        Featurizer(**{"upstream": upstream()} | arguments)


@pytest.mark.parametrize(
    ("states", "all_lens", "message"),
    [
        (torch.zeros(6, 2, 4, 12), lengths(4, 4), "states: expected 7 tensors"),
        (torch.zeros(7, 2, 4, 12), lengths(4, 4, layers=6), "all_lens: expected .* 7 .* found 6"),
        (torch.zeros(7, 2, 4, 12), None, "all_lens: expected lengths of 7 layers, found NoneType"),
        (torch.zeros(7, 2, 4, 12), [4] * 7, "all_lens: expected a tensor of .*, found 4"),
        (torch.zeros(7, 2, 4, 12), lengths(4, 5), "lengths: expected values from 1 to 4"),
        (torch.zeros(7, 2, 4, 12), lengths(4), r"lengths: expected integers \(2,\)"),
    ],
)
def test_wrong_batch(states, all_lens, message):
    with pytest.raises(InterfaceError, match=message):
        Featurizer(upstream())(list(states), all_lens)
