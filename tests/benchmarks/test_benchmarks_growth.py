"""Time and memory are measured at every size, fitted and drawn."""

import importlib
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.image import imread


@pytest.fixture(scope="module")
def growth():
    return importlib.import_module("growth")


def test_a_tiny_table_and_its_figure(growth, monkeypatch, tmp_path, capsys):
    sizes = ["--at", 4, 16, 2, "--runs", 1, 2, "--layers", 4, 8, "--dims", 16, 32]
    others = ["--audio", 2, 4, "--shape", "tiny", "--batch-seconds", 5, "--steps", 2]
    options = [*sizes, *others, "--device", "cpu", "--interfaces", "hconv"]
    monkeypatch.setattr(sys, "argv", list(map(str, ["growth", *options, "--out", tmp_path])))
    growth.main()
    points = pd.read_csv(tmp_path / "growth.csv")
    assert points.groupby(["axis", "name"]).size().to_dict() == {
        **{(axis, "hconv"): 2 for axis in "RLD"},
        ("audio", "features"): 2,
    }
    assert (points[["ms", "MiB"]] > 0).all(axis=None)
    at = points[points["axis"] == "L"].iloc[0]
    assert (at["R"], at["L"], at["D"]) == (2, 4, 16)
    memory = points.pivot_table(index=["axis", "name"], columns="value", values="MiB", sort=False)
    runs = memory.loc[("R", "hconv")].dropna()
    assert 1.5 < runs[2] / runs[1] < 2.5
    fitted = pd.read_csv(tmp_path / "exponents.csv")
    assert len(fitted) == 2 * 4
    assert "hconv, R = 2" in capsys.readouterr().out
    assert imread(tmp_path / "growth.png").std() > 0.05
    assert (tmp_path / "growth.svg").read_text(encoding="utf-8").startswith("<?xml")


def test_exponents_of_a_known_law(growth):
    value = np.array([1, 2, 4, 8, 16])
    own = {"axis": "R", "name": "hconv", "value": value}
    points = pd.DataFrame({**own, "ms": 3.0 * value**2, "MiB": np.where(value < 4, 4, value)})
    found = growth.exponents(points).set_index("quantity")
    assert found.loc["ms", "exponent"] == pytest.approx(2)
    assert found.loc["MiB", "upper"] == pytest.approx(1)
    assert 0 < found.loc["MiB", "exponent"] < 1
    assert growth.exponents(points.head(1))["exponent"].isna().all()
    assert growth.exponents(points.assign(MiB=0.0))["exponent"].isna().sum() == 1


def test_the_peak_is_what_is_held_at_once(growth):
    def hold():
        first = torch.zeros(1000, 1000)
        second = first + 1
        del first
        return float((second * 2).sum())

    assert growth.peak_of(hold, torch.device("cpu")) == pytest.approx(8e6, rel=1e-3)


def test_the_figure_says_exponents_and_hardware(growth):
    figure_of = importlib.import_module("growth_figure")
    value = np.array([1, 2, 4])
    own = {"axis": "R", "name": "weighted_sum", "value": value}
    points = pd.DataFrame({**own, "ms": 1.0 * value, "MiB": 5.0 * value})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = figure_of.draw(points, growth.exponents(points), "a GPU")
        figure.draw_without_rendering()
    assert "a GPU" in figure.get_suptitle()
    time, memory = figure.axes
    assert [text.get_text() for text in time.get_legend().get_texts()] == ["Weighted sum: 1.00"]
    np.testing.assert_array_equal(time.lines[0].get_ydata(), points["ms"])
    np.testing.assert_array_equal(memory.lines[0].get_ydata(), points["MiB"])
    assert memory.get_xlabel() == "runs R at once"
