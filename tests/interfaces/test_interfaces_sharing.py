"""Saving, loading and sharing: the whole registry there and back, and what can be wrong."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file

import SSL_Interface
from SSL_Interface import Interface, InterfaceError, _hub, configs, interfaces
from SSL_Interface.sharing import describe

FILES = ["README.md", "config.json", "model.safetensors"]


UPSTREAMS = [(5, 8), (3, 6), (4, 8)]
"""Layers and widths of three upstreams."""


@pytest.fixture
def fused():
    """Make a fusion of three upstreams, in fp64, with parameters at no special value."""

    def make(kind, **options):
        torch.manual_seed(0)
        fusion = SSL_Interface.fuse(kind, UPSTREAMS, **options).double()
        with torch.no_grad():
            for parameter in fusion.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        return fusion

    return make


@pytest.fixture
def saved_fusion(tmp_path, fused):
    folder = tmp_path / "fusion"
    fused("hconv", layers=[[4, 0], None, None]).save_pretrained(folder)
    return folder


@pytest.fixture
def saved(tmp_path, build):
    """A saved hconv of 3 layers of width 6."""
    folder = tmp_path / "saved"
    build("hconv", 3, 6).save_pretrained(folder)
    return folder


def edit(folder, **keys):
    """Change keys of config.json; None removes one."""
    path = folder / "config.json"
    described = json.loads(path.read_text()) | keys
    path.write_text(json.dumps({k: v for k, v in described.items() if v is not None}))


@pytest.mark.parametrize("name", SSL_Interface.names())
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_round_trip(name, dtype, build, draw, tmp_path):
    interface = build(name, 7, 12, layers=[0, 2, 3, -1], normalize=False).to(dtype)
    interface.save_pretrained(tmp_path / "deep" / "folder")
    assert sorted(path.name for path in (tmp_path / "deep" / "folder").iterdir()) == FILES
    loaded = SSL_Interface.from_pretrained(tmp_path / "deep" / "folder")
    assert type(loaded) is type(interface)
    assert loaded.config == interface.config
    assert not loaded.training
    states, lengths = draw(7, 2, 5, 12).to(dtype), torch.tensor([5, 3])
    assert torch.equal(loaded(states, lengths), interface.eval()(states, lengths))
    for key, value in interface.state_dict().items():
        found = loaded.state_dict()[key]
        assert found.dtype == value.dtype
        assert torch.equal(found, value)
    assert [p.requires_grad for p in loaded.parameters()] == [True] * len([*loaded.parameters()])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("weighted_sum", {"layers": [[4, 0], None, range(1, 3)], "check_finite": True}),
        ("weighted_sum", {"resize": "interpolate", "dim": 7, "normalize": False}),
        ("hconv", {"layers": ((-1, 2, 0), (1, 2), None), "output_dim": 5}),
        ("hconv", {"resize": "interpolate", "kernel_size": 3, "stride": 2}),
        ("chconv", {"layers": [None, [2], None], "stride": 2}),
        ("chconv", {"dim": 22, "normalize": False}),
    ],
    ids=str,
)
def test_round_trip_of_a_fusion(kind, options, dtype, fused, draw, tmp_path):
    fusion = fused(kind, **options).to(dtype)
    fusion.save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES
    states = [draw(layers, 2, 3 + layers, dim).to(dtype) for layers, dim in UPSTREAMS]
    lengths = [torch.tensor([3 + layers, 2]) for layers, _ in UPSTREAMS]
    for load in (SSL_Interface.from_pretrained, SSL_Interface.Fusion.from_pretrained):
        loaded = load(tmp_path)
        assert type(loaded) is SSL_Interface.Fusion
        assert describe(loaded) == describe(fusion)
        assert not loaded.training
        assert loaded(states, lengths).dtype == dtype
        assert torch.equal(loaded(states, lengths), fusion.eval()(states, lengths))
        assert loaded.state_dict().keys() == fusion.state_dict().keys()
        for key, value in fusion.state_dict().items():
            assert loaded.state_dict()[key].dtype == value.dtype
            assert torch.equal(loaded.state_dict()[key], value)


@pytest.mark.parametrize(
    "interface",
    [
        interfaces.WeightSumInterface(configs.WeightedSumInterfaceConfig("label", 3, 6, True)),
        interfaces.SingleLayerInterface(
            configs.SingleLayerInterfaceConfig(
                upstream_layer_num=3, upstream_feat_dim=6, selected_layer=1
            )
        ),
        interfaces.HierarchicalConvInterface(
            configs.HierarchicalConvInterfaceConfig(
                upstream_layer_num=3, upstream_feat_dim=6, output_dim=5
            )
        ),
    ],
    ids=lambda interface: type(interface).__name__,
)
def test_published_classes(interface, tmp_path):
    interface.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["interface"] == (
        type(interface).__name__
    )
    loaded = SSL_Interface.from_pretrained(str(tmp_path))
    assert type(loaded) is type(interface)
    assert loaded.config == interface.config
    states = torch.randn(3, 1, 4, 6)
    assert torch.equal(loaded(states), interface(states))
    parent = SSL_Interface.find(interface.name)
    assert type(parent.from_pretrained(tmp_path)) is type(interface)


@pytest.mark.parametrize("layers", [range(1, 3), (2, 0)], ids=str)
def test_any_sequence_of_layers(layers, tmp_path):
    SSL_Interface.create("mean", 3, 6, layers=layers).save_pretrained(tmp_path)
    assert SSL_Interface.from_pretrained(tmp_path).layers == tuple(layers)


def test_unfitted_stays_unfitted(tmp_path):
    SSL_Interface.create("pca_concat", 3, 6).save_pretrained(tmp_path)
    with pytest.raises(InterfaceError, match="fit_batch and fit_finish first"):
        SSL_Interface.from_pretrained(tmp_path)(torch.zeros(3, 1, 1, 6))


def test_a_class_takes_its_own(saved):
    hconv = SSL_Interface.find("hconv")
    assert type(hconv.from_pretrained(saved)) is hconv
    assert type(Interface.from_pretrained(saved)) is hconv
    with pytest.raises(InterfaceError, match=r"interface: expected 'weighted_sum', found 'hconv'"):
        SSL_Interface.find("weighted_sum").from_pretrained(saved)
    with pytest.raises(InterfaceError, match=r"expected 'HierarchicalConvInterface', found 'hco"):
        interfaces.HierarchicalConvInterface.from_pretrained(saved)


def test_a_fusion_is_no_interface(saved, saved_fusion):
    with pytest.raises(InterfaceError, match=r"interface: expected 'Fusion', found 'hconv'"):
        SSL_Interface.Fusion.from_pretrained(saved)
    with pytest.raises(InterfaceError, match=r"interface: expected 'Interface', found 'Fusion'"):
        Interface.from_pretrained(saved_fusion)
    edit(saved, interface="Shareable")
    with pytest.raises(InterfaceError, match=r"expected one of .*Fusion.*, found 'Shareable'"):
        SSL_Interface.from_pretrained(saved)


class Loudest(Interface):
    def join(self, states):
        return states.amax(0)


def test_a_class_of_ones_own(tmp_path):
    interface = Loudest(Loudest.Config(num_layers=3, dim=6))
    interface.save_pretrained(tmp_path)
    assert type(Loudest.from_pretrained(tmp_path)) is Loudest
    with pytest.raises(InterfaceError, match=r"interface: expected one of .*, found 'Loudest'"):
        SSL_Interface.from_pretrained(tmp_path)


def test_views_and_transposed_tensors_are_saved(tmp_path, build, draw):
    interface, states = build("concat", 3, 6), draw(3, 1, 4, 6)
    shared = torch.randn(19, 6, dtype=torch.float64)
    interface.projection.weight = torch.nn.Parameter(shared[:18].T)
    interface.projection.bias = torch.nn.Parameter(shared[18])
    interface.save_pretrained(tmp_path)
    torch.testing.assert_close(SSL_Interface.from_pretrained(tmp_path)(states), interface(states))


def test_saving_again(saved, build, draw):
    (saved / "README.md").write_text("my own words")
    (saved / "notes.txt").write_text("kept")
    interface = build("weighted_sum", 3, 6)
    interface.save_pretrained(saved)
    assert sorted(path.name for path in saved.iterdir()) == [*FILES, "notes.txt"]
    assert (saved / "README.md").read_text() == "my own words"
    states = draw(3, 1, 4, 6)
    assert torch.equal(SSL_Interface.from_pretrained(saved)(states), interface(states))


@pytest.mark.parametrize("new", [True, False])
def test_nothing_is_left_half_written(saved, tmp_path, build, monkeypatch, new):
    def full(*_, **__):
        raise OSError("no space left")

    folder = tmp_path / "new" if new else saved
    before = {path.name: path.read_bytes() for path in folder.glob("*")}
    monkeypatch.setattr(_hub, "save_file", full)
    with pytest.raises(OSError, match="no space"):
        build("mean", 3, 6).save_pretrained(folder)
    assert {path.name: path.read_bytes() for path in folder.glob("*")} == before


def test_a_folder_left_half_way_does_not_load(saved, build, monkeypatch):
    replace = Path.replace

    def stops(self, target):
        if Path(target).name == "config.json":
            raise KeyboardInterrupt
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", stops)
    with pytest.raises(KeyboardInterrupt):
        build("hconv", 3, 6, seed=1).save_pretrained(saved)
    with pytest.raises(InterfaceError, match=r"expected config\.json"):
        SSL_Interface.from_pretrained(saved)


def test_card(saved, tmp_path):
    card = ModelCard.load(saved / "README.md")
    assert card.data.library_name == "SSL_Interface"
    assert "| states that it takes | 3 layers × batch × frames × 6 |" in card.text
    assert "| trainable parameters | 186 |" in card.text
    SSL_Interface.create("last", 13, 6).save_pretrained(tmp_path)
    assert "| layers that it joins | 12 |" in (tmp_path / "README.md").read_text()


def test_card_of_a_fusion(saved_fusion):
    text = ModelCard.load(saved_fusion / "README.md").text
    fusion = SSL_Interface.from_pretrained(saved_fusion)
    assert text.startswith("\n# Fusion\n") or text.startswith("# Fusion\n")
    assert "\nJoin the layers of several upstreams.\n" in text
    table = dict(re.findall(r"^\| (.+) \| (.+) \|$", text, re.MULTILINE))
    assert table == {
        "upstreams (states and lengths are lists, one entry for each)": "3",
        "merged by": "hconv",
        "width in which they meet": "8",
        "upstream 0: states that it takes": "5 layers × batch × frames × 8",
        "upstream 0: layers that it joins": "4, 0",
        "upstream 0: normalises the states first": "yes",
        "upstream 1: states that it takes": "3 layers × batch × frames × 6",
        "upstream 1: layers that it joins": "all",
        "upstream 1: normalises the states first": "yes",
        "upstream 2: states that it takes": "4 layers × batch × frames × 8",
        "upstream 2: layers that it joins": "all",
        "upstream 2: normalises the states first": "yes",
        "features that it gives": "batch × frames × 8",
        "trainable parameters": f"{fusion.parameter_count():,}",
    }


def change(folder, **tensors):
    path = folder / "model.safetensors"
    loaded = load_file(path) | tensors
    save_file({k: v for k, v in loaded.items() if v is not None}, path)


def options(folder, without=(), **changes):
    """Change options in config.json, and remove some."""
    described = json.loads((folder / "config.json").read_text())["options"] | changes
    edit(folder, options={k: v for k, v in described.items() if k not in without})


class Trap:
    """What a pickle would run while it is loaded."""

    def __reduce__(self):
        return pytest.fail, ("a pickle was loaded",)


def pickled(folder, name):
    (folder / "model.safetensors").unlink()
    torch.save({"transforms.0.weight": Trap()}, folder / name)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "config.json").unlink(), r"expected config.json in '.*saved', found none"),
        (lambda f: (f / "model.safetensors").unlink(), r"expected model.safetensors in '.*', foun"),
        (lambda f: (f / "config.json").write_text("{"), r"config.json: expected JSON, found"),
        (lambda f: (f / "config.json").write_bytes(b"\xff"), r"config.json: expected JSON"),
        (lambda f: (f / "config.json").write_text("[]"), r"expected the keys .*, found list"),
        (lambda f: edit(f, version=None), r"expected the keys version, .*, found 'interface'"),
        (lambda f: edit(f, version=2), r"config.json: version: expected 1, found 2"),
        (lambda f: edit(f, options=[1]), r"options: expected of type dict, found \[1\]"),
        (lambda f: edit(f, interface="hcomv"), r"did you mean 'hconv'\?\), found 'hcomv'"),
        (lambda f: edit(f, interface="WeightSumInterfaces"), r"did you mean 'WeightSumInterface'"),
        (lambda f: edit(f, options={"num_layer": 3}), r"option: .* mean 'num_layers'\?\), found"),
        (lambda f: edit(f, options={"num_layers": 3}), r"hconv: .*: expected 'dim', found no such"),
        (lambda f: options(f, normalize="no"), r"hconv: normalize: expected True or False, found"),
        (
            lambda f: options(f, dim=7),
            r"hconv: model.safetensors: expected transforms.0.* like .*, found",
        ),
        (lambda f: options(f, layers=[9]), r"hconv: layers: expected a layer from .*, found 9"),
        (lambda f: (f / "model.safetensors").write_bytes(b"no"), r"expected a safetensors file"),
        (lambda f: pickled(f, "model.safetensors"), r"s: expected a safetensors file, found"),
        (lambda f: pickled(f, "pytorch_model.bin"), r"expected model.safetensors in '.*', found n"),
        (
            lambda f: change(f, **{"transforms.0.bias": None}),
            r"hconv: model.safetensors: expected a tensor 'transforms.0.bias', found only 'tran",
        ),
        (
            lambda f: change(f, more=torch.ones(1)),
            r"expected only 'transforms.*, found also 'more'",
        ),
        (
            lambda f: change(f, **{"transforms.0.bias": torch.ones(7)}),
            r"expected transforms.0.bias \(6,\) like torch.float32, found \(7,\) of torch.float32",
        ),
        (
            lambda f: change(f, **{"transforms.0.bias": torch.ones(6, dtype=torch.int64)}),
            r"found \(6,\) of torch.int64",
        ),
    ],
)
def test_damaged_folders(saved, damage, message):
    damage(saved)
    with pytest.raises(InterfaceError, match=message) as caught:
        SSL_Interface.from_pretrained(saved)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: edit(f, interface="Fussion"), r"did you mean 'Fusion'\?\), found 'Fussion'"),
        (lambda f: options(f, ["upstreams"]), r"Fusion: .*: expected 'upstreams', found no such"),
        (lambda f: options(f, ["kind"]), r"Fusion: config.json: options: expected 'kind', fou"),
        (lambda f: options(f, kind="mean"), r"fusion: kind: expected one of .*, found 'mean'"),
        (lambda f: options(f, kinds="hconv"), r"option: .* mean 'kind'\?\), found 'kinds'"),
        (lambda f: options(f, upstreams=3), r"fusion: upstreams: expected pairs .*, found 3"),
        (lambda f: options(f, upstreams=["ab"]), r"fusion: upstreams: expected pairs"),
        (lambda f: options(f, layers=[1, 2, 3]), r"upstream 0: layers: expected a non-empty list"),
        (lambda f: options(f, interface_options=[3]), r"interface_options: expected options by n"),
        (
            lambda f: options(f, interface_options={"normalize": True}),
            r"fusion: hconv: option: expected one of .*, found 'normalize'",
        ),
        (
            lambda f: options(f, upstreams=[[5, 8], [3, 8], [4, 8]]),
            r"fusion: model.safetensors: expected only .*, found also 'projections.1.",
        ),
        (
            lambda f: change(f, **{"projections.1.weight": torch.ones(6, 8)}),
            r"expected projections.1.weight \(8, 6\) like torch.float32, found \(6, 8\)",
        ),
    ],
)
def test_damaged_fusions(saved_fusion, damage, message):
    damage(saved_fusion)
    with pytest.raises(InterfaceError, match=message) as caught:
        SSL_Interface.from_pretrained(saved_fusion)
    assert "\n" not in str(caught.value)


def test_a_fusion_of_a_version_with_fewer_options(saved_fusion):
    options(saved_fusion, ["layers", "resize", "check_finite", "interface_options"])
    assert SSL_Interface.from_pretrained(saved_fusion).resize == "project"


def test_options_that_came_later_take_their_defaults(saved):
    described = json.loads((saved / "config.json").read_text())
    del described["options"]["stride"]
    edit(saved, **described)
    assert SSL_Interface.from_pretrained(saved).stride == 3


def test_no_path(build):
    with pytest.raises(InterfaceError, match=r"from_pretrained: source: expected .*, found Non"):
        SSL_Interface.from_pretrained(None)
    with pytest.raises(InterfaceError, match="save_pretrained: folder: expected a path, found 3"):
        build("mean", 3, 4).save_pretrained(3)


@pytest.mark.parametrize("source", ["./nowhere", "a/b/c", Path("nowhere")], ids=str)
def test_no_such_folder(source):
    with pytest.raises(InterfaceError, match=r"expected a folder or a hub id, found no folder"):
        SSL_Interface.from_pretrained(source)


def test_a_file_in_the_way(saved):
    with pytest.raises(InterfaceError, match=r"expected a folder, found the file '.*config.json'"):
        SSL_Interface.create("mean").save_pretrained(saved / "config.json")


@pytest.mark.parametrize("package", ["huggingface_hub", "safetensors"])
def test_without_the_packages(saved, package, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "SSL_Interface._hub")
    monkeypatch.setitem(sys.modules, package, None)
    for action in (
        lambda: SSL_Interface.from_pretrained(saved),
        lambda: SSL_Interface.create("mean").save_pretrained(saved),
        lambda: SSL_Interface.create("mean").push_to_hub("someone/mean"),
    ):
        with pytest.raises(InterfaceError, match=rf"pip install both.*no package '{package}"):
            action()


def test_importing_the_library_imports_neither():
    code = (
        "import sys, SSL_Interface; from SSL_Interface import sharing; "
        "sys.exit(bool({'huggingface_hub', 'safetensors'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
