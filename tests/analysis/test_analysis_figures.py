"""Figures, report and the command line."""

import base64
import json
import os
import re
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from figure_texts import overlapping, texts
from PIL import Image
from typer.testing import CliRunner

from analysis import captions, explore, figures, style
from analysis.__main__ import app, main
from analysis.evidence import Evidence
from analysis.figures.canvas import shape
from analysis.figures.rank_summary import ranks
from analysis.tables import checked
from ssl_bench.errors import StudyError

NOT_IN_SMALL = {"layer_probes", "layer_similarity", "learning_rates"}


@pytest.mark.parametrize("name", figures.FIGURES)
def test_every_figure_of_a_full_study(full, name):
    figure = figures.draw(name, full)
    assert not any("study key" in text for text in texts(figure))
    assert overlapping(figure) == []
    assert figure.get_size_inches()[0] <= 9.5


@pytest.mark.parametrize("name", figures.FIGURES)
def test_every_figure_of_a_small_study(small, name):
    figure = figures.draw(name, small)
    absent = any("study key" in text for text in texts(figure))
    assert absent == (name in NOT_IN_SMALL)
    assert overlapping(figure) == []


@pytest.mark.parametrize("name", figures.FIGURES)
def test_results_alone_are_enough_not_to_crash(small_frames, name):
    only = small_frames["results"].query("interface == 'weighted_sum' and task == 'pr'")
    tables = checked({"results": only})
    assert texts(figures.draw(name, tables))
    assert captions.caption(name, tables)


def test_heatmap_shows_the_values_of_the_table(small):
    shown = texts(figures.draw("table1_heatmap", small))
    means = small.results.groupby(["task", "interface"])["test"].mean()
    assert {f"{value:.1f}" for value in means} <= set(shown)


def test_comparison_points_are_the_improvements(small):
    axes = figures.draw("interface_comparison", small).axes[0]
    drawn = {
        float(line.get_xdata()[0])
        for line in axes.lines
        if len(line.get_xdata()) == 1 and line.get_marker() not in ("|", "None")
    }
    wanted = small.errors.query("task == 'pr'").groupby("interface")["improvement"].mean()
    assert sorted(drawn) == pytest.approx(sorted(wanted))


def test_ranks_leave_baselines_out(full):
    assert ranks(full).blocks == 6 * 2
    assert ranks(full).mean.index[-1] == "pca_concat"


@pytest.mark.parametrize("count", range(1, 14))
def test_panels_fit(count):
    rows, columns = shape(count)
    assert columns <= 4
    assert rows * columns - count < columns
    assert shape(3, 2) == (2, 2)


def test_captions_say_n(small, full):
    for name in figures.FIGURES:
        assert captions.caption(name, full)
    assert "n = 2 seeds a cell" in captions.caption("interface_comparison", small)
    assert "PR 120" in captions.caption("interface_comparison", small)
    assert "SV 360" in captions.caption("comparison", small)


def test_the_caption_of_the_layers_weights_names_what_is_drawn(full):
    everything = set(full.layer_profile["interface"])
    counts = {}
    for figure in ("layer_weights", "layer_weights_all"):
        told = captions.caption(figure, full)
        drawn = named(figures.draw(figure, full))
        for name in map(style.interface_name, everything):
            assert (f"{name}: " in told) == (name in drawn), name
        assert ("Other interfaces: layer_weights_all" in told) == (len(drawn) < len(everything))
        counts[figure] = len(drawn)
    assert counts == {"layer_weights": 4, "layer_weights_all": len(everything)}


def named(figure):
    """Return the interfaces beside the rows of a figure of layers' weights."""
    return {text.get_text().replace("\n", " ") for text in figure.axes[0].texts}


def labels(figure):
    return [text.get_text() for text in figure.axes[0].get_yticklabels()]


def test_an_interface_that_no_task_changes_has_one_row(small_frames):
    profile = small_frames["layer_profile"]
    uniform = profile[profile["interface"] == "weighted_sum"].assign(interface="mean", share=1 / 13)
    results = small_frames["results"]
    fixed = results[results["interface"] == "weighted_sum"].assign(interface="mean")
    tables = checked(
        {"results": pd.concat([results, fixed]), "layer_profile": pd.concat([profile, uniform])}
    )
    figure = figures.draw("layer_weights_all", tables)
    shown = labels(figure)
    assert (shown.count("every task"), shown.count("PR")) == (1, profile["interface"].nunique())
    assert shown[-1] == "every task"
    values = figure.axes[0].collections[0].get_array()
    assert values.shape == (len(shown), 13)
    assert values[-1].tolist() == pytest.approx([1] * 13)
    share = profile.query("interface == 'weighted_sum' and task == 'pr'").groupby("layer")["share"]
    assert values[0].tolist() == pytest.approx(list(13 * share.mean()))


def test_names_of_interfaces_have_room_beside_a_single_task(small_frames):
    frames = {
        name: frame[frame["task"] == "pr"]
        for name, frame in small_frames.items()
        if name != "scores"
    }
    figure = figures.draw("layer_weights_all", checked(frames))
    assert labels(figure) == ["PR"] * small_frames["layer_profile"]["interface"].nunique()
    assert overlapping(figure) == []


def test_the_caption_of_ranks_says_that_pairs_may_be_left_out(full):
    assert "that have all of them" in captions.caption("rank_summary", full)


def test_unknown_names_are_one_line(small):
    with pytest.raises(StudyError, match="did you mean 'rank_summary'"):
        figures.draw("rank_sumary", small)
    with pytest.raises(StudyError, match="did you mean 'embedded_13'"):
        figures.draw("table1_heatmap", small, upstream="embeded_13")


def test_files_are_deterministic_and_200_dpi(small, tmp_path):
    for folder in ("a", "b"):
        figures.write(small, tmp_path / folder, ["rank_summary"])
    for suffix in ("png", "svg"):
        first, second = ((tmp_path / f / f"rank_summary.{suffix}").read_bytes() for f in "ab")
        assert first == second
    with Image.open(tmp_path / "a" / "rank_summary.png") as picture:
        assert picture.size[0] == 1800
        assert picture.info["dpi"][0] == pytest.approx(200, abs=1)


def test_command_line_makes_everything_in_time(small_folder, tmp_path):
    runner = CliRunner()
    began = time.process_time()
    tables = ["--tables", str(small_folder)]
    done = runner.invoke(app, ["tables", *tables, "--out", str(tmp_path / "t")])
    assert done.exit_code == 0, done.output
    done = runner.invoke(app, ["figures", *tables, "--out", str(tmp_path / "f")])
    assert done.exit_code == 0, done.output
    assert time.process_time() - began < 25
    legends = json.loads((tmp_path / "f" / "captions.json").read_text())
    assert list(legends) == list(figures.FIGURES)
    page = tmp_path / "report.html"
    options = ["--figures", str(tmp_path / "f"), "--out", str(page)]
    done = runner.invoke(app, ["report", *tables, *options])
    assert done.exit_code == 0, done.output
    html = page.read_text()
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', html)
    assert len(pictures) == len(figures.FIGURES)
    assert base64.b64decode(pictures[0]).startswith(b"\x89PNG")
    assert not re.search(r'(src|href)="(?!data:|#)', html), "the page must be self-contained"
    assert "0" * 40 in html
    assert html.count("<b>") == 4
    assert "HConv vs weighted sum + MLP" in html


def test_command_line_errors_are_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        main(["figures", "--tables", str(tmp_path), "--out", str(tmp_path / "f")])
    assert end.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "f").exists()


def test_report_needs_its_figures(small_folder, tmp_path, capsys):
    options = ["--tables", str(small_folder), "--figures", str(tmp_path), "--out", "unused.html"]
    with pytest.raises(SystemExit) as end:
        main(["report", *options])
    assert end.value.code == 2
    assert "no such figure" in capsys.readouterr().err


def test_import_is_light():
    code = "import sys, analysis.__main__, analysis.figures; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ})


def test_explore_picks_and_compares(small):
    rows = explore.pick(small, task="pr", interface="hconv")
    assert len(rows) == 2
    with pytest.raises(StudyError, match="did you mean 'hconv'"):
        explore.pick(small, interface="hconvv")
    with pytest.raises(StudyError, match="unknown column 'tsk'"):
        explore.pick(small, tsk="pr")
    evidence = Evidence(small, 300)
    result, figure = explore.difference(evidence, "pr", "embedded_13", "hconv", "weighted_sum")
    means = small.results.query("task == 'pr'").groupby("interface")["test"].mean()
    assert result.value == pytest.approx(means["hconv"] - means["weighted_sum"])
    assert result.high < 0
    assert overlapping(figure) == []
    curve = explore.curve(small, "pr", "embedded_13", "hconv")
    assert np.array_equal(curve.axes[0].lines[0].get_xdata(), [100, 200, 300, 400, 500])
