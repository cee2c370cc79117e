"""Against the published package itself, which pip fetches into a temporary folder.

Without the package index these tests are skipped; test_interfaces_published.py holds the same
mathematics written out, and always runs.
"""

import dataclasses
import importlib
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import SSL_Interface as ours

pytestmark = pytest.mark.registry

REQUIREMENT = """SSL_Interface==0.1.0 \\
    --hash=sha256:172f2744d2887c54ed87d0f73fba20bd963b4cfadd2f288c6943b42648ba67cb
"""
CONFIGS = [
    "BaseConfig",
    "BaseInterfaceConfig",
    "SingleLayerInterfaceConfig",
    "WeightedSumInterfaceConfig",
    "HierarchicalConvInterfaceConfig",
]
CLASSES = [
    ("baseInterface", "BaseInterface"),
    ("weightedSumInterface", "WeightSumInterface"),
    ("hconvInterface", "HierarchicalConvInterface"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where the published package lies, or a skip that says why it does not."""
    root = tmp_path_factory.mktemp("published")
    (root / "requirements.txt").write_text(REQUIREMENT)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--retries=1", "--timeout=9"]
    options = ["--quiet", "--no-deps", "--require-hashes", "--only-binary=:all:"]
    target = ["--target", root / "site", "-r", root / "requirements.txt"]
    done = subprocess.run(
        [*pip, "install", *options, *target], capture_output=True, text=True, check=False
    )
    # Another package under this name is a finding, not an index out of reach.
    assert "DO NOT MATCH THE HASHES" not in done.stderr, done.stderr
    if done.returncode:
        why = (done.stderr.strip() or "pip said nothing").splitlines()[-1]
        pytest.skip(f"pip could not get SSL_Interface 0.1.0 from the package index: {why}")
    return root / "site"


def take_away() -> dict:
    """Remove the modules of whichever SSL_Interface is imported, and return them."""
    loaded = [name for name in sys.modules if name.split(".")[0] == "SSL_Interface"]
    return {name: sys.modules.pop(name) for name in loaded}


@pytest.fixture(scope="module")
def published(folder):
    """The published package, beside ours of the same name."""
    mine = take_away()
    sys.path.insert(0, str(folder))
    try:
        package = importlib.import_module("SSL_Interface")
        importlib.import_module("SSL_Interface.interfaces")
    finally:
        sys.path.remove(str(folder))
        take_away()
        sys.modules.update(mine)
    assert Path(package.__file__).is_relative_to(folder)
    assert importlib.import_module("SSL_Interface") is ours
    return package


@pytest.fixture
def compare(published):
    """Run an interface of both packages on the same states, with weights loaded there and back."""

    def run(interface, states, **options):
        theirs, mine = (
            getattr(package.interfaces, interface)(
                getattr(package.configs, SETTINGS[interface])(
                    upstream_layer_num=states.shape[0],
                    upstream_feat_dim=states.shape[-1],
                    **options,
                )
            )
            for package in (published, ours)
        )
        assert list(theirs.state_dict()) == list(mine.state_dict())
        assert mine.config.upstream_layer_num == theirs.config.upstream_layer_num
        for source, target in ((theirs, mine), (mine, theirs)):
            with torch.no_grad():
                for parameter in source.parameters():
                    parameter.add_(0.05 * torch.randn_like(parameter))
            target.load_state_dict(source.state_dict())
            expected, found = theirs(states), mine(states)
            assert found.shape == expected.shape
            assert found.shape[-1] == mine.output_dim == theirs.output_dim
            assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()

    return run


SETTINGS = {
    "WeightSumInterface": "WeightedSumInterfaceConfig",
    "HierarchicalConvInterface": "HierarchicalConvInterfaceConfig",
}


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("num_layers", [1, 2, 3, 8, 13, 25])
def test_weighted_sum(compare, num_layers, normalize):
    torch.manual_seed(num_layers)
    compare("WeightSumInterface", 3 * torch.randn(num_layers, 2, 7, 48), normalize=normalize)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("dim", [48, 35])
@pytest.mark.parametrize("num_layers", range(2, 28))
def test_hconv(compare, num_layers, dim, normalize):
    """Every kernel and stride that leave a convolution; the width is the one it insists on."""
    torch.manual_seed(num_layers)
    states = 3 * torch.randn(num_layers, 1, 3, dim)
    for kernel, stride in ((5, 3), (3, 2), (1, 2), (2, 2), (4, 3), (7, 3), (5, 4)):
        if num_layers < stride:
            continue
        natural = ours.create(
            "hconv", num_layers, dim, kernel_size=kernel, stride=stride
        ).output_dim
        compare(
            "HierarchicalConvInterface",
            states,
            normalize=normalize,
            conv_kernel_size=kernel,
            conv_kernel_stride=stride,
            output_dim=natural,
        )


@pytest.mark.parametrize("shape", [(13, 2, 20, 768), (25, 1, 20, 1024)], ids=str)
def test_base_and_large(compare, shape):
    torch.manual_seed(0)
    states = torch.randn(shape)
    compare("WeightSumInterface", states)
    compare("HierarchicalConvInterface", states, output_dim={768: 768, 1024: 1023}[shape[-1]])


def test_readme_example_as_written(folder, monkeypatch, capsys):
    if not torch.cuda.is_available():
        for kind in (torch.Tensor, nn.Module):
            monkeypatch.setattr(kind, "cuda", lambda self: self)
    (metadata,) = folder.glob("*.dist-info/METADATA")
    (example,) = re.findall(r"```python\n(.*?)```", metadata.read_text("utf-8"), re.DOTALL)
    exec(example, {})
    assert capsys.readouterr().out == "torch.Size([8, 100, 768])\n" * 2


@pytest.mark.parametrize("name", CONFIGS)
def test_configs(published, name):
    theirs, mine = getattr(published.configs, name), getattr(ours.configs, name)
    fields = [
        [(field.name, field.default) for field in dataclasses.fields(config)]
        for config in (mine, theirs)
    ]
    assert fields[0] == fields[1]
    assert [kind.__name__ for kind in mine.__mro__] == [kind.__name__ for kind in theirs.__mro__]
    module = theirs.__module__.removeprefix("SSL_Interface.")
    assert getattr(importlib.import_module(f"SSL_Interface.{module}"), name) is mine


@pytest.mark.parametrize(("module", "name"), CLASSES)
def test_classes(published, module, name):
    theirs = getattr(getattr(published.interfaces, module), name)
    mine = getattr(importlib.import_module(f"SSL_Interface.interfaces.{module}"), name)
    assert hasattr(ours.interfaces, name) == hasattr(published.interfaces, name)
    assert issubclass(mine, ours.interfaces.baseInterface.BaseInterface)
    public = [attribute for attribute in dir(theirs) if not attribute.startswith("_")]
    assert not [attribute for attribute in public if not hasattr(mine, attribute)]


def test_pickled_config(folder):
    code = (
        "import pickle, sys; from SSL_Interface.configs import *; "
        "config = HierarchicalConvInterfaceConfig(upstream_layer_num=25, output_dim=1023); "
        "sys.stdout.buffer.write(pickle.dumps(config))"
    )
    environment = os.environ | {"PYTHONPATH": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, check=True
    )
    assert b"interfaceConfig" in done.stdout
    config = pickle.loads(done.stdout)
    assert config == ours.configs.HierarchicalConvInterfaceConfig(
        upstream_layer_num=25, output_dim=1023
    )


@pytest.mark.parametrize(
    "options",
    [
        {"upstream_layer_num": 1, "output_dim": 48},
        {"upstream_layer_num": 2, "output_dim": 48},
        {"upstream_layer_num": 13, "conv_kernel_stride": 1, "output_dim": 48},
        {"upstream_layer_num": 13, "conv_kernel_stride": 2, "upstream_feat_dim": 1},
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning")
def test_what_neither_takes(published, options):
    """One layer, no convolution, no end of convolutions, no channel: it fails, ours says why."""
    options = {"upstream_feat_dim": 48} | options
    layers, dim = options["upstream_layer_num"], options["upstream_feat_dim"]
    with pytest.raises((SystemExit, RuntimeError, OverflowError)):
        published.interfaces.HierarchicalConvInterface(
            published.configs.HierarchicalConvInterfaceConfig(**options)
        )(torch.randn(layers, 2, 3, dim))
    with pytest.raises(ours.InterfaceError, match=r"^hconv: .*: expected at least .*, found \d"):
        ours.interfaces.HierarchicalConvInterface(
            ours.configs.HierarchicalConvInterfaceConfig(**options)
        )


@pytest.mark.parametrize(("width", "found"), [(None, 1023), (1024, 1024), (100, 100)])
def test_what_ours_takes_as_well(published, width, found):
    sizes = {"upstream_layer_num": 25, "upstream_feat_dim": 1024, "output_dim": width}
    with torch.device("meta"):
        with pytest.raises((SystemExit, NameError)):
            published.interfaces.HierarchicalConvInterface(
                published.configs.HierarchicalConvInterfaceConfig(**sizes)
            )
        mine = ours.interfaces.HierarchicalConvInterface(
            ours.configs.HierarchicalConvInterfaceConfig(**sizes)
        )
        assert mine(torch.zeros(25, 1, 2, 1024)).shape[-1] == mine.output_dim == found


@pytest.mark.parametrize("shape", [(12, 2, 3, 48), (13, 2, 3, 47)], ids=str)
def test_wrong_states(published, shape):
    options = {"upstream_layer_num": 13, "upstream_feat_dim": 48}
    theirs, mine = (
        package.interfaces.WeightSumInterface(package.configs.WeightedSumInterfaceConfig(**options))
        for package in (published, ours)
    )
    with pytest.raises(AssertionError):
        theirs(torch.zeros(shape))
    with pytest.raises(ours.InterfaceError, match=r"states: expected \(13, B, T, 48\), found"):
        mine(torch.zeros(shape))
