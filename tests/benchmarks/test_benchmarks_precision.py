"""Both precisions are trained alike, and what is between them is measured."""

import importlib
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from ssl_bench.features import Features

TINY = ["--encoders", "tiny", "--seeds", "2", "--steps", "2", "--batch-seconds", "4"]


@pytest.fixture(scope="module")
def precision():
    return importlib.import_module("precision")


def call(module, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["precision", *map(str, arguments)])
    module.main()


def test_a_tiny_table(precision, monkeypatch, tmp_path, capsys):
    options = ["--utterances", 100, 6, 8, "--device", "cpu", "--out", tmp_path / "out"]
    call(precision, monkeypatch, *TINY, *options)
    table = pd.read_csv(tmp_path / "out" / "precision.csv")
    assert table[["task", "interface"]].to_numpy().tolist() == [
        ["pr", "weighted_sum"],
        ["pr", "hconv"],
        ["ks", "weighted_sum"],
        ["ks", "hconv"],
    ]
    # bf16 keeps 8 bits of every number, so no state is further off than 2⁻⁹ of its length.
    assert (table["largest_error"] <= 2**-8).all()
    assert (table["mean_error"] > 2**-12).all()
    assert (table["mean_error"] < table["largest_error"]).all()
    np.testing.assert_allclose(table["difference"], table["bf16"] - table["fp32"], atol=1e-9)
    assert ((table["low"] <= table["difference"]) & (table["difference"] <= table["high"])).all()
    page = (tmp_path / "out" / "precision.md").read_text(encoding="utf-8")
    assert page in capsys.readouterr().out
    assert page.count("\n") == 2 + len(table)


def test_errors_by_hand(precision):
    frames = np.array([3, 5])
    starts = torch.tensor([0, 3])
    flat = torch.randn(9, 2, 4)
    flat[-1] = 0
    off = flat.clone()
    off[4, 1] *= 1.5
    exact, stored = (
        Features(2, 4, 320, frames, torch.device("cpu"), starts, one, None, dtype=torch.float32)
        for one in (flat, off)
    )
    most, mean = precision.errors(exact, stored)
    assert most == pytest.approx(0.5)
    assert mean == pytest.approx(0.5 / 16)


def test_the_interval_is_paired(precision):
    fp32 = np.array([10.0, 20.0, 30.0])
    mean, low, high = precision.paired(fp32, fp32 + np.array([0.1, 0.2, 0.3]))
    assert mean == pytest.approx(0.2)
    assert high - mean == pytest.approx(4.302653 * 0.1 / 3**0.5, rel=1e-5)
    assert mean - low == pytest.approx(high - mean)
    assert np.isnan(precision.paired(fp32[:1], fp32[:1])[1])


def test_no_voice(precision, monkeypatch):
    monkeypatch.setattr(precision, "find_spec", lambda _: None)
    with pytest.raises(SystemExit, match=r"^precision.py: generated speech needs the package"):
        call(precision, monkeypatch, *TINY)
