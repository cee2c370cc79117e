"""Cells of several commits in one table are flagged where it is made and where it is shown."""

import json

import pandas as pd
import pytest

from analysis.__main__ import main
from analysis.code_versions import code, mixed
from analysis.report import report
from analysis.tables import load

LINE = (
    "Mixed code: the cells were trained by 2 versions of the code: "
    "000000000000 of version 0.1.0 (26 cells), abcdef012345-dirty of version 0.2.0 (10 cells)."
)


@pytest.fixture
def two(small_frames):
    """The small study with one task's cells (and no other) of a second commit."""
    results = small_frames["results"].copy()
    other = results["task"] == "pr"
    other |= (results["task"] == "ks") & (results["interface"] == results["interface"].iloc[0])
    results.loc[other, ["git_commit", "version"]] = ["abcdef0123456789-dirty", "0.2.0"]
    return {**small_frames, "results": results}


def tables(folder) -> int:
    options = ["--tables", str(folder), "--out", str(folder), "--resamples", "100"]
    with pytest.raises(SystemExit) as end:
        main(["tables", *options])
    return end.value.code


def test_every_version_is_counted_in_cells_not_in_runs(two) -> None:
    assert code(two["results"]) == [
        {"git_commit": "0" * 40, "version": "0.1.0", "cells": 26},
        {"git_commit": "abcdef0123456789-dirty", "version": "0.2.0", "cells": 10},
    ]
    assert mixed(two["results"]) == LINE


def test_one_version_is_no_line(small_frames) -> None:
    assert len(code(small_frames["results"])) == 1
    assert mixed(small_frames["results"]) is None


def test_a_commit_that_is_not_known_is_one_of_them() -> None:
    frame = pd.DataFrame(
        {"task": ["a", "b"], "upstream": "u", "interface": "i", "git_commit": [None, "1" * 40]}
    )
    assert [one["git_commit"] for one in code(frame)] == ["1" * 40, "unknown"]
    assert "111111111111 of version unknown (1 cells)" in mixed(frame)


def test_tables_and_report_say_so(two, small_frames, write, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr("analysis.report.FIGURES", {})  # drawn elsewhere
    for name, frames, expected in (("two", two, 1), ("one", small_frames, 0)):
        folder = tmp_path / name / "tables"
        write(frames, folder)
        assert tables(folder) == 0
        assert capsys.readouterr().err.splitlines() == [f"warning: {LINE}"] * expected
        for table in ("comparison", "comparison_main"):
            assert (folder / f"{table}.md").read_text().count(LINE) == expected
        assert report(load(folder), tmp_path).count(LINE) == expected


def test_the_committed_provenance_counts_the_committed_cells(repository) -> None:
    folder = repository / "results" / "reference"
    origin = json.loads((folder / "provenance.json").read_text())
    results = pd.read_csv(folder / "tables" / "results.csv", dtype=str)
    assert origin["code"] == code(results)
    assert origin["git_commits"] == sorted({one["git_commit"] for one in origin["code"]})
