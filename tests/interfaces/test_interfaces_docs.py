"""The examples of docs/library.md, run in order, with a small upstream and a hub in a folder."""

import re
import shutil
from types import SimpleNamespace

import huggingface_hub
import torch
from huggingface_hub import hub_mixin

import SSL_Interface
from ssl_bench.upstreams import s3prl as shims
from SSL_Interface import _hub


def test_examples(repository, hubert_folder, tmp_path, monkeypatch):
    page = (repository / "docs" / "library.md").read_text(encoding="utf-8")
    examples = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(examples) == 7

    shims.hub()
    import s3prl.nn

    real = s3prl.nn.S3PRLUpstream
    monkeypatch.setattr(
        s3prl.nn, "S3PRLUpstream", lambda name: real("hf_hubert_custom", hubert_folder)
    )
    client = SimpleNamespace(
        create_repo=lambda repo_id, **_: huggingface_hub.RepoUrl(
            f"https://huggingface.co/{repo_id}"
        ),
        upload_folder=lambda folder_path, **_: shutil.copytree(folder_path, tmp_path / "uploaded"),
    )
    monkeypatch.setattr(hub_mixin, "HfApi", lambda token=None: client)
    monkeypatch.setattr(_hub, "hf_hub_download", lambda _, file, **__: tmp_path / "uploaded" / file)
    monkeypatch.chdir(tmp_path)

    names = {}
    for example in examples:
        exec(example, names)
    assert names["features"].shape == (2, 100, names["interface"].output_dim)
    assert not names["features"][1, 80:].any()
    assert names["joined"].shape == (2, 100, names["fusion"].output_dim)
    assert not names["joined"][1, 80:].any()
    assert names["convolved"].output_dim == 1023
    assert names["logits"].shape == (2, 10)
    assert names["pca"].interface.fitted
    assert type(names["again"]) is type(names["loaded"]) is SSL_Interface.find("hconv")
    for one, other in zip(names["again"].parameters(), names["loaded"].parameters(), strict=True):
        assert torch.equal(one, other)
