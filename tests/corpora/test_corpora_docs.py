"""docs/corpora.md: every example is a study's, every kind has an entry, counts are the loaders'."""

import re

import pytest
import yaml

from ssl_bench import registry
from ssl_bench.corpora import fluent_speech_commands, iemocap, librispeech, ml_superb, voxceleb1
from ssl_bench.study import parse

OWN = {"manifest", "synthetic"}
REST = {
    "name": "page",
    "seeds": 1,
    "upstreams": {"fbank": {"kind": "fbank"}},
    "interfaces": ["last"],
    "sweep": {"learning_rates": [0.001]},
}


@pytest.fixture(scope="module")
def page(repository):
    return (repository / "docs" / "corpora.md").read_text(encoding="utf-8")


def test_every_example_is_read(page):
    blocks = [yaml.safe_load(block.split("```")[0]) for block in page.split("```yaml\n")[1:]]
    kinds = set()
    for block in blocks:
        study = parse({**REST, **block})
        kinds |= {study.corpus_config(name).kind for name in study.corpora}
    assert kinds == set(registry.kinds("corpora")) - OWN


def test_every_key_is_explained(page, repository):
    keys = (repository / "config" / "README.md").read_text(encoding="utf-8")
    for kind in set(registry.kinds("corpora")) - OWN:
        for name in registry.load("corpora", kind).Config.model_fields:
            if name != "kind":
                assert f"`{name}`" in page, (kind, name)
                assert f"`{name}`" in keys, (kind, name)


def test_counts_are_the_loaders(page):
    found = {int(number.replace(",", "")) for number in re.findall(r"\d[\d,]*", page)}
    assert {librispeech.UTTERANCES[part] for part in librispeech.DEFAULT_ARCHIVES} <= found
    assert set(fluent_speech_commands.UTTERANCES.values()) <= found
    for counts in voxceleb1.UTTERANCES.values():
        assert set(counts.values()) <= found
    for fold in iemocap.SESSIONS:
        config = iemocap.Config(kind="iemocap", root="", fold=fold)
        assert set(iemocap.published(config).values()) <= found


def test_lists_of_ml_superb_are_the_loaders(page):
    flat = " ".join(page.split())
    for track, dataset in ml_superb.MONOLINGUAL.items():
        assert f"{track} {dataset}" in flat
    assert f"({' '.join(sorted(ml_superb._few_shot()))})" in flat
    assert ", ".join(ml_superb.DATASETS) in flat
