"""To a hub and back, without one: its client and its download are replaced by a folder."""

import shutil

import huggingface_hub
import pytest
import torch
from huggingface_hub import hub_mixin

import SSL_Interface
from SSL_Interface import InterfaceError, _hub

FILES = ["README.md", "config.json", "model.safetensors"]
UPSTREAMS = [(5, 8), (3, 6), (4, 8)]
"""Layers and widths of three upstreams."""


class Hub:
    """A hub in a folder: what the mixin's client and the download function are replaced by."""

    def __init__(self, root):
        self.root = root
        self.calls = []

    def create_repo(self, repo_id, **options):
        self.calls.append(options)
        return huggingface_hub.RepoUrl(f"https://huggingface.co/{repo_id}")

    def upload_folder(self, repo_id, folder_path, **options):
        self.calls.append(options)
        shutil.copytree(folder_path, self.root / repo_id)
        return f"https://huggingface.co/{repo_id}/commit/1"

    def download(self, repo_id, name, **options):
        self.calls.append(options)
        path = self.root / repo_id / name
        if not path.is_file():
            raise huggingface_hub.errors.EntryNotFoundError(f"404: no {name}\nsecond line")
        return str(path)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    hub = Hub(tmp_path / "hub")
    monkeypatch.setattr(hub_mixin, "HfApi", lambda token=None: hub)
    monkeypatch.setattr(_hub, "hf_hub_download", hub.download)
    return hub


def test_to_a_hub_and_back(hub, build, draw, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    interface = build("cls_pooling", 3, 6)
    address = interface.push_to_hub("someone/pooling", private=True, commit_message="First")
    assert address == "https://huggingface.co/someone/pooling/commit/1"
    assert sorted(path.name for path in (hub.root / "someone" / "pooling").iterdir()) == FILES
    assert hub.calls[0]["private"] is True
    assert hub.calls[1]["commit_message"] == "First"
    loaded = SSL_Interface.from_pretrained("someone/pooling", revision="main")
    assert hub.calls[2:] == [{"revision": "main"}] * 2
    states = draw(3, 2, 4, 6)
    assert torch.equal(loaded(states), interface.eval()(states))
    fusion = SSL_Interface.fuse("chconv", UPSTREAMS)
    assert fusion.push_to_hub("someone/fusion").startswith("https://huggingface.co/someone/fusion/")
    loaded = SSL_Interface.Fusion.from_pretrained("someone/fusion")
    states = [draw(layers, 2, 4, dim).float() for layers, dim in UPSTREAMS]
    assert torch.equal(loaded(states), fusion.eval()(states))
    with pytest.raises(InterfaceError, match=r"or config.json of a hub repository, .*404: no conf"):
        SSL_Interface.from_pretrained("someone/else")


def test_from_the_cache_of_the_hub(tmp_path, build, draw):
    """The real download function, on a cache laid out as it lays it out."""
    interface, commit = build("hconv", 3, 6), "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "models--someone--hconv"
    interface.save_pretrained(repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    offline = {"cache_dir": tmp_path, "local_files_only": True}
    loaded = SSL_Interface.from_pretrained("someone/hconv", **offline)
    states = draw(3, 2, 4, 6)
    assert torch.equal(loaded(states), interface(states))
    with pytest.raises(InterfaceError, match=r"found 'someone/nothing' \("):
        SSL_Interface.from_pretrained("someone/nothing", **offline)
    with pytest.raises(InterfaceError, match=r"found 'not an id' \("):
        SSL_Interface.from_pretrained("not an id")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"revison": "main"}, r"option: expected one of .*mean 'revision'\?\), found 'revison'"),
        ({"dry_run": True}, r"option: expected one of .*, found 'dry_run'"),
        ({"filename": "x"}, r"option: expected one of .*, found 'filename'"),
    ],
)
def test_unknown_options_of_loading(options, message, hub, build, tmp_path):
    """Told for a folder too, where they would have no effect."""
    build("mean", 3, 6).save_pretrained(tmp_path / "saved")
    for source in ("someone/mean", tmp_path / "saved"):
        with pytest.raises(InterfaceError, match=f"^from_pretrained: {message}$"):
            SSL_Interface.from_pretrained(source, **options)
    SSL_Interface.from_pretrained(tmp_path / "saved", revision="main")
    assert not hub.calls


@pytest.mark.parametrize("option", ["privat", "config", "repo_type"])
def test_unknown_options_of_an_upload(option, hub):
    with pytest.raises(InterfaceError, match=rf"^push_to_hub: option: expected .*'{option}'$"):
        SSL_Interface.create("mean", 3, 6).push_to_hub("someone/mean", **{option: True})
    assert not hub.calls
