"""How many frames are computed for a frame of speech."""

import importlib

import pytest


@pytest.fixture(scope="module")
def padding(monkeypatch_module):
    module = importlib.import_module("padding")
    monkeypatch_module.setattr(module, "STEPS", 300)
    return module


@pytest.fixture(scope="module")
def monkeypatch_module():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


def published(padding, kind: str):
    return padding.registry.load("tasks", kind).RECIPE.training


def test_neighbours_pad_less_than_utterances_at_random(padding):
    found = {kind: padding.padding(published(padding, kind), 1) for kind in padding.PUBLISHED}
    assert all(1 < value < 1.5 for value in found.values())
    assert found["asr"] < found["sf"] < found["ic"]
    assert padding.padding(padding.BUCKETS, 1) < found["ic"]


def test_runs_of_several_seeds_share_a_width(padding):
    made = published(padding, "asr")
    assert padding.padding(made, 5) > padding.padding(made, 1)
