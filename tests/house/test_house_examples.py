"""The files that README and docs/adding.md tell to add: they are whole, and the upstream works."""

import re
import sys
from types import ModuleType

import pytest
import torch

from ssl_bench.errors import StudyError
from SSL_Interface import Interface

PAGES = ("README.md", "docs/adding.md")
OFFERS = {"upstreams": "load", "corpora": "prepare", "tasks": "Task"}
FILE = re.compile(r"```python\n# ((?:workflow/ssl_bench|interfaces)/\S+\.py)\n(.*?)```", re.DOTALL)


def examples(repository):
    """Return the text of every example file by its path."""
    found = {}
    for page in PAGES:
        for path, text in FILE.findall((repository / page).read_text(encoding="utf-8")):
            assert path not in found, f"{path} is shown twice"
            found[path] = text
    return found


def run(path, text, monkeypatch):
    """Return the module that an example would be."""
    name = path.removesuffix(".py").split("/", 1)[1].replace("/", ".")
    module = ModuleType(name)
    monkeypatch.setitem(sys.modules, name, module)
    exec(compile(text, path, "exec"), vars(module))
    return module


def test_every_room_has_an_example_and_none_ships(repository, monkeypatch):
    found = examples(repository)
    assert {path.split("/")[2] for path in found} == {"interfaces", "upstreams", "corpora", "tasks"}
    for path, text in found.items():
        assert not (repository / path).exists(), f"{path} ships: it is no example"
        module = run(path, text, monkeypatch)
        assert module.__doc__
        if (room := path.split("/")[2]) == "interfaces":
            made = [x for x in vars(module).values() if x in Interface.__subclasses__()]
            assert [hasattr(x, "Config") for x in made] == [True]
        else:
            assert {"Config", OFFERS[room]} <= set(vars(module))


def test_readmes_upstream_encodes(repository, monkeypatch, tmp_path):
    from transformers import Wav2Vec2BertConfig, Wav2Vec2BertModel

    path = "workflow/ssl_bench/upstreams/w2v_bert.py"
    module = run(path, examples(repository)[path], monkeypatch)
    torch.manual_seed(0)
    config = Wav2Vec2BertConfig(
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=32,
        conv_depthwise_kernel_size=7,
    )
    model = Wav2Vec2BertModel(config)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(tmp_path)
    upstream = module.load(module.Config(kind="w2v_bert", model=str(tmp_path)))
    samples = (9_000, 16_000, 4_321, 560, 721)
    waves = [torch.randn(n) * 0.01 * 3**i for i, n in enumerate(samples)]
    states, lengths = upstream(waves)
    assert lengths.tolist() == [upstream.frames(n) for n in samples]
    assert states.shape == (4, len(samples), max(lengths), 16)
    for i, wave in enumerate(waves):
        alone, _ = upstream([wave])
        torch.testing.assert_close(states[:, i, : lengths[i]], alone[:, 0], atol=1e-4, rtol=0)
        assert not states[:, i, lengths[i] :].any()
    assert upstream.probe() == (4, 16)
    with pytest.raises(StudyError, match="559 samples"):
        upstream([torch.zeros(559)])
