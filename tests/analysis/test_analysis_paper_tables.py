"""Tables 1 to 4 beside the published numbers."""

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from analysis import paper, paper_tables
from analysis.__main__ import app
from analysis.report import report
from analysis.statistics import mean_interval
from analysis.tables import checked
from ssl_bench.errors import StudyError

SEEDS = (-1.0, 0.0, 2.0)


def cells(upstreams=("hubert_base", "wavlm_large")) -> pd.DataFrame:
    """Make results of every published cell of some upstreams: the published value + 0.5 + seed."""
    numbers = pd.concat([paper.published(name) for name in paper.NUMBERS])
    numbers = numbers.drop_duplicates(list(paper.Place._fields), keep="last")
    rows = []
    for place, value in zip(paper.places(numbers), numbers["value"], strict=True):
        if place.upstream not in upstreams:
            continue
        metric = numbers.set_index("task")["metric"].to_dict()[place.task]
        folds = [f"er_fold{k}" for k in range(1, 6)] if place.task == "er" else [place.task]
        for fold, task in enumerate(folds):
            if place.downstream == "large":
                task += "_large"
            upstream = place.upstream + ("_ft" if place.tuning == "fine_tuned" else "")
            for seed, off in enumerate(SEEDS):
                rows.append(
                    {
                        "study": "paper",
                        "task": task,
                        "upstream": upstream,
                        "interface": place.interface,
                        "layer": None,
                        "seed": seed,
                        "learning_rate": 1e-4,
                        "metric": metric,
                        "higher_is_better": metric == "accuracy",
                        "dev": 1.0,
                        "test": min(100.0, value + 0.5 + off + (fold - 2) * (len(folds) > 1)),
                        "n_test": 100,
                        "interface_parameters": 13,
                    }
                )
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def tables():
    return checked({"results": cells()})


@pytest.mark.parametrize(
    ("table", "there"), [("table1", 16), ("table2", 42), ("table3", 4), ("table4", 6)]
)
def test_every_cell_has_its_place(tables, table, there):
    frame = paper_tables.filled(table, tables)
    assert len(frame) == len(paper.published(table))
    own = frame[frame["ours"].notna()]
    assert len(own) == there
    assert set(own["n_seeds"]) == {3}
    assert f"{len(own)} of {len(frame)} published cells" in paper_tables.caption(frame)


def test_ours_is_a_mean_with_its_interval_and_difference(tables):
    frame = paper_tables.filled("table2", tables).set_index(["upstream", "interface", "task"])
    pr = frame.loc[("wavlm_large", "hconv", "pr")]
    by_hand = mean_interval([1.72 + 0.5 + off for off in SEEDS])
    assert pr["published"] == "1.72"
    assert pr["ours"] == pytest.approx(by_hand.mean)
    assert pr["half_width"] == pytest.approx(by_hand.half)
    assert pr["difference"] == pytest.approx(0.5 + np.mean(SEEDS))
    er = frame.loc[("hubert_base", "weighted_sum", "er")]
    assert er["ours"] == pytest.approx(64.92 + 0.5 + np.mean(SEEDS))
    assert er["tasks"] == "er_fold1 er_fold2 er_fold3 er_fold4 er_fold5"
    missing = frame.loc[("xlsr_53", "hconv", "pr")]
    assert missing[["ours", "half_width", "difference", "tasks"]].isna().all()


def test_rows_and_columns_are_the_papers(tables):
    shapes = {
        name: paper_tables.wide(paper_tables.filled(name, tables)).shape for name in paper.NUMBERS
    }
    assert shapes == {"table1": (8, 3), "table2": (15, 9), "table3": (5, 3), "table4": (3, 3)}
    third = paper_tables.wide(paper_tables.filled("table3", tables))
    assert list(third) == ["Upstream", "HConv", "Weighted sum + large downstream"]
    assert third.iloc[4, 1] == "30.6 / – / –"
    fourth = paper_tables.wide(paper_tables.filled("table4", tables))
    assert list(fourth["Interface"]) == [
        "Weighted sum",
        "HConv",
        "Weighted sum + large downstream",
    ]
    half = mean_interval([31.6 + 0.5 + off for off in SEEDS]).half
    assert fourth.iloc[2, 2] == f"31.6 / 32.43 ± {half:.2f} (3) / +0.83"


def test_files(tables, tmp_path):
    paths = paper_tables.write(tables, tmp_path)
    assert [path.name for path in paths] == [
        f"{table}.{end}" for table in paper.NUMBERS for end in ("csv", "md", "tex")
    ]
    latex = (tmp_path / "table2.tex").read_text()
    bodies = [line for line in latex.splitlines() if line.endswith(r"\\")]
    assert len(bodies) == 1 + 15
    assert {line.count("&") for line in bodies} == {8}
    assert latex.count(r"\midrule") == 5
    assert not {"±", "−", "–", "↓"} & set(latex)
    back = pd.read_csv(tmp_path / "table4.csv")
    assert list(back) == list(paper_tables.COLUMNS)
    assert "published cells are in this study" in (tmp_path / "table1.md").read_text()


def test_a_study_without_the_papers_cells_gets_none_of_its_tables(small, tmp_path):
    assert paper_tables.write(small, tmp_path) == []
    assert not list(tmp_path.iterdir())


def test_another_direction_is_refused():
    frame = cells(("hubert_base",))
    frame.loc[frame["task"] == "pr", ["metric", "higher_is_better"]] = ["accuracy", True]
    with pytest.raises(StudyError, match="task 'pr' is scored by accuracy; published is per"):
        paper_tables.filled("table2", checked({"results": frame}))


def test_the_command_and_the_report_have_them(tables, tmp_path, monkeypatch):
    cells().to_csv(tmp_path / "results.csv", index=False)
    options = ["tables", "--tables", str(tmp_path), "--out", str(tmp_path), "--resamples", "100"]
    done = CliRunner().invoke(app, options)
    assert done.exit_code == 0, done.output
    made = {path.name for path in tmp_path.iterdir()}
    assert {"table1.md", "table4.tex", "paper_claims.csv", "paper_claims.md"} <= made
    monkeypatch.setattr("analysis.report.FIGURES", {})
    page = report(tables, tmp_path)
    assert "34.2 / " in page
    assert "Table 3 of Shih &amp; Harwath" in page
    assert "7. HuBERT Base with HConv beats HuBERT Large" in page
