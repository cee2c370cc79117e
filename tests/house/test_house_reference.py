"""The committed results are those of the committed study."""

import pandas as pd
import pytest
import yaml

from ssl_bench.study import Cell, parse


@pytest.fixture(scope="module")
def study(repository):
    return parse(yaml.safe_load((repository / "config" / "reference.yaml").read_text()))


@pytest.fixture(scope="module")
def tables(repository):
    return repository / "results" / "reference" / "tables"


def test_results_are_of_the_study_as_it_is(study, tables):
    columns = ["task", "upstream", "interface", "seed", "fingerprint"]
    results = pd.read_csv(tables / "results.csv", usecols=columns, dtype=str)
    found = results.groupby(["task", "upstream", "interface"])
    assert set(found.groups) == {tuple(cell) for cell in study.cells()}
    for cell, rows in found:
        assert set(rows["fingerprint"]) == {study.fingerprint(Cell(*cell))}, cell
        assert set(rows["seed"]) == {str(seed) for seed in study.seeds}, cell


def test_learning_rates_are_those_that_the_sweep_chose(repository, tables):
    keys = ["task", "upstream", "interface", "layer", "learning_rate"]
    sweep = pd.read_csv(tables / "sweep.csv", dtype={"layer": "Int64"})
    chosen = sweep[sweep["chosen"]][keys].drop_duplicates()
    shipped = pd.read_csv(repository / "config" / "learning_rates.csv", dtype={"layer": "Int64"})
    merged = chosen.merge(shipped, how="outer", indicator=True)
    assert (merged["_merge"] == "both").all()


def test_the_readme_shows_their_table(repository, tables):
    readme = (repository / "README.md").read_text(encoding="utf-8")
    shown = readme.split("<!-- main table -->")[1].split("<!-- /main table -->")[0]
    assert (tables / "comparison_main.md").read_text(encoding="utf-8").strip() in shown
