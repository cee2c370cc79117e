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


def test_neighbours_pad_less_than_utterances_at_random(padding):
    found = {way: padding.padding(*padding.MADE[way], 4, 1) for way in padding.MADE}
    assert all(1 < value < 1.5 for value in found.values())
    assert found["sorted (ASR)"] < found["sliding (SF)"] < found["random"]


def test_runs_of_several_seeds_share_a_width(padding):
    made = padding.MADE["sorted (ASR)"]
    assert padding.padding(*made, 4, 5) > padding.padding(*made, 4, 1)
