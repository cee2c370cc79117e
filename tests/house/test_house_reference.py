"""The committed results are those of the committed studies."""

import pandas as pd
import pytest
import yaml

from analysis import style
from analysis.readme import BLOCKS, digest, split
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


@pytest.fixture
def shown(repository):
    """Return README's block of a name."""
    readme = (repository / "README.md").read_text(encoding="utf-8")
    return lambda name: split(readme, name, "README.md")[1]


def test_the_readme_shows_their_table(shown, tables):
    assert shown("main") == (tables / "comparison_main.md").read_text(encoding="utf-8").strip()


def test_the_readme_shows_the_default_study_as_it_is(repository, shown):
    mini = parse(yaml.safe_load((repository / "config" / "mini.yaml").read_text()))
    block = shown("default")
    assert (
        f"<!-- cells {digest((*cell, mini.fingerprint(cell)) for cell in mini.cells())} -->"
        in block
    )
    head, _, *rows = [line for line in block.splitlines() if line.startswith("|")]
    columns, *values = [
        [part.strip() for part in line.strip("|").split("|")] for line in (head, *rows)
    ]
    assert [column.split(" (")[0] for column in columns[1:]] == [
        style.task_name(task) for task in style.ordered(mini.tasks, style.TASKS)
    ]
    assert [name for name, *_ in values] == [
        style.interface_name(name) for name in style.ordered(mini.interfaces, style.INTERFACES)
    ]
    assert all("±" in value for _, *row in values for value in row)
    picture = BLOCKS["default"].picture
    assert f"]({picture})" in block
    assert (repository / picture).read_bytes().startswith(b"\x89PNG")
