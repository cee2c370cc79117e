"""The published package's API: its names, defaults, state dicts and outputs."""

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import SSL_Interface
from SSL_Interface import configs, interfaces


def published_hconv(states, weights, dim, kernel=5, stride=3):
    """The published formula: Conv1d and ReLU by turns over (frames, D, L), flattened."""
    modules = nn.Sequential()
    for index in range(0, len(weights), 2):
        out = weights[f"transforms.{index}.weight"].shape[0]
        modules.append(nn.Conv1d(dim, out, kernel, stride, kernel // 2))
        modules.append(nn.ReLU())
    wrapped = nn.ModuleDict({"transforms": modules})
    wrapped.load_state_dict(weights)
    layers, batch, time, _ = states.shape
    frames = states.permute(1, 2, 3, 0).reshape(-1, dim, layers)
    return modules(frames).reshape(batch, time, -1)


def test_readme_example(monkeypatch):
    """Its calls, with CUDA where there is any."""
    if not torch.cuda.is_available():
        for kind in (torch.Tensor, nn.Module):
            monkeypatch.setattr(kind, "cuda", lambda self: self)
    summed = SSL_Interface.interfaces.WeightSumInterface(
        SSL_Interface.configs.WeightedSumInterfaceConfig(
            upstream_feat_dim=768, upstream_layer_num=13, normalize=False
        )
    ).cuda()
    convolved = SSL_Interface.interfaces.HierarchicalConvInterface(
        SSL_Interface.configs.HierarchicalConvInterfaceConfig(
            upstream_feat_dim=768,
            upstream_layer_num=13,
            normalize=False,
            conv_kernel_size=5,
            conv_kernel_stride=3,
            output_dim=768,
        )
    ).cuda()
    states = torch.randn(13, 2, 10, 768).cuda()
    assert summed(states).shape == (2, 10, 768)
    assert convolved(states).shape == (2, 10, 768)


def test_importing_the_package_is_enough():
    code = (
        "import sys, SSL_Interface as s; s.configs.BaseConfig; s.interfaces.WeightSumInterface; "
        "print(sorted({m.split('.')[0] for m in sys.modules} "
        "& {'s3prl', 'transformers', 'pydantic', 'pandas', 'sklearn'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_config_defaults():
    assert configs.BaseConfig() == configs.BaseConfig(name="BaseConfig")
    assert vars(configs.BaseInterfaceConfig()) == {
        "name": "BaseModelConfig",
        "upstream_layer_num": 13,
        "upstream_feat_dim": 768,
        "normalize": False,
    }
    assert configs.SingleLayerInterfaceConfig().selected_layer == -1
    assert configs.WeightedSumInterfaceConfig().name == "WeightedSumInterfaceConfig"
    hconv = configs.HierarchicalConvInterfaceConfig()
    assert (hconv.conv_kernel_size, hconv.conv_kernel_stride, hconv.output_dim) == (5, 3, None)
    assert hconv.channel_change_strategy == "same_upstream"
    assert issubclass(configs.HierarchicalConvInterfaceConfig, configs.BaseInterfaceConfig)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("num_layers", [3, 4, 7, 13, 25])
def test_outputs(num_layers, normalize):
    torch.manual_seed(num_layers)
    states = 3 * torch.randn(num_layers, 2, 5, 48)
    normed = F.layer_norm(states, (48,)) if normalize else states
    sizes = {"upstream_layer_num": num_layers, "upstream_feat_dim": 48, "normalize": normalize}

    summed = interfaces.WeightSumInterface(configs.WeightedSumInterfaceConfig(**sizes))
    assert list(summed.state_dict()) == ["weighte_sum_weights"]
    logits = torch.randn(num_layers)
    summed.load_state_dict({"weighte_sum_weights": logits})
    expected = (logits.softmax(-1)[:, None] * normed.flatten(1)).sum(0).view(2, 5, 48)
    torch.testing.assert_close(summed(states), expected, rtol=1e-5, atol=1e-5)

    convolved = interfaces.HierarchicalConvInterface(
        configs.HierarchicalConvInterfaceConfig(**sizes, output_dim=48)
    )
    weights = convolved.state_dict()
    depth = 1 if num_layers < 9 else 2
    assert list(weights) == [
        f"transforms.{2 * i}.{kind}" for i in range(depth) for kind in ("weight", "bias")
    ]
    expected = published_hconv(normed, weights, 48)
    assert expected.shape[-1] == convolved.output_dim == 48
    torch.testing.assert_close(convolved(states), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dim", [48, 35])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (1, 2), (2, 2), (4, 3), (7, 3), (5, 4)])
@pytest.mark.parametrize("num_layers", [4, 13, 25])
def test_hconv_of_other_kernels_and_strides(num_layers, kernel, stride, dim):
    torch.manual_seed(num_layers)
    states = torch.randn(num_layers, 1, 3, dim)
    convolved = interfaces.HierarchicalConvInterface(
        configs.HierarchicalConvInterfaceConfig(
            upstream_layer_num=num_layers,
            upstream_feat_dim=dim,
            conv_kernel_size=kernel,
            conv_kernel_stride=stride,
        )
    )
    expected = published_hconv(states, convolved.state_dict(), dim, kernel, stride)
    assert expected.shape[-1] == convolved.output_dim <= dim
    torch.testing.assert_close(convolved(states), expected, rtol=1e-5, atol=1e-5)


def test_another_output_dim_projects():
    sizes = {"upstream_layer_num": 13, "upstream_feat_dim": 48}
    states = torch.randn(13, 2, 3, 48)
    natural, wide = (
        interfaces.HierarchicalConvInterface(
            configs.HierarchicalConvInterfaceConfig(**sizes, output_dim=width)
        )
        for width in (None, 60)
    )
    assert list(wide.state_dict())[-2:] == ["projection.weight", "projection.bias"]
    natural.load_state_dict(
        {key: value for key, value in wide.state_dict().items() if key.startswith("transforms")}
    )
    projected = F.linear(natural(states), wide.projection.weight, wide.projection.bias)
    torch.testing.assert_close(wide(states), projected)


def test_published_configuration_is_kept():
    config = configs.HierarchicalConvInterfaceConfig(upstream_feat_dim=48)
    interface = interfaces.HierarchicalConvInterface(config)
    assert interface.config is config
    assert interface.name == "hconv"


def test_own_subclass_in_the_published_way():
    base = interfaces.baseInterface.BaseInterface

    class Loudest(base):
        def interface_forward(self, stacked_hs):
            return stacked_hs.amax(0)

    class Scaled(interfaces.WeightSumInterface):
        def interface_forward(self, stacked_hs):
            return 2 * super().interface_forward(stacked_hs)

    sizes = {"upstream_layer_num": 3, "upstream_feat_dim": 8, "normalize": True}
    states = torch.randn(3, 2, 5, 8)
    normed = F.layer_norm(states, (8,))
    loudest = Loudest(configs.BaseInterfaceConfig(**sizes))
    assert torch.equal(loudest(stacked_hs=states), normed.amax(0))
    assert not loudest(states, torch.tensor([5, 2]))[1, 2:].any()
    scaled = Scaled(configs.WeightedSumInterfaceConfig(**sizes))
    torch.testing.assert_close(scaled(states), 2 * normed.mean(0))
    with pytest.raises(SSL_Interface.InterfaceError, match=r"states: expected \(3, B, T, 8\)"):
        loudest(states[:2])


def test_single_layer():
    config = configs.SingleLayerInterfaceConfig(upstream_layer_num=3, upstream_feat_dim=4)
    states = torch.randn(3, 1, 2, 4)
    assert torch.equal(interfaces.SingleLayerInterface(config)(states), states[2])


def test_where_it_ended_the_process():
    def make(**options):
        config = configs.HierarchicalConvInterfaceConfig(upstream_feat_dim=1024, **options)
        with torch.device("meta"):
            return interfaces.HierarchicalConvInterface(config)

    assert make(upstream_layer_num=25).output_dim == 1023
    assert make(upstream_layer_num=25, output_dim=1024).output_dim == 1024
    with pytest.raises(SSL_Interface.InterfaceError, match="hconv: layers: expected at least 2"):
        make(upstream_layer_num=1)
    with pytest.raises(
        SSL_Interface.InterfaceError,
        match="hconv: upstream_layer_num: expected at least 3, the stride, found 2",
    ):
        make(upstream_layer_num=2)
    with pytest.raises(SSL_Interface.InterfaceError, match="hconv: channel_change_strategy"):
        make(channel_change_strategy="halve")
    with pytest.raises(
        SSL_Interface.InterfaceError,
        match="config: expected a HierarchicalConvInterfaceConfig, found WeightedSumInterfaceC",
    ):
        interfaces.HierarchicalConvInterface(configs.WeightedSumInterfaceConfig())
    with pytest.raises(SSL_Interface.InterfaceError, match=r"config: expected a .*, found dict wi"):
        interfaces.WeightSumInterface({"upstream_layer_num": 13})
    with pytest.raises(SSL_Interface.InterfaceError, match="normalize: expected True or False, f"):
        make(normalize="no")
    small = configs.WeightedSumInterfaceConfig(upstream_layer_num=3, upstream_feat_dim=4)
    with pytest.raises(
        SSL_Interface.InterfaceError, match=r"weighted_sum: states: expected \(3, B"
    ):
        interfaces.WeightSumInterface(small)(torch.zeros(2, 1, 1, 4))
