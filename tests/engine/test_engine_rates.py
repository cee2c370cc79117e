"""Learning rates from a table: its ceiling, and what of it determines a cell."""

import json
from pathlib import Path

import pandas as pd
import pytest

from ssl_bench import cells
from ssl_bench.errors import StudyError
from ssl_bench.rates import chosen_rates
from ssl_bench.study import Cell, load, parse, save
from ssl_bench.why import why

CELL = Cell("ks", "mini", "hconv")
TABLE = """task,upstream,interface,layer,learning_rate
ks,mini,weighted_sum,,0.03
ks,mini,hconv,,0.004
ks,mini,single_layer,0,0.01
ks,mini,single_layer,1,0.03
ks,mini,single_layer,2,0.001
"""


@pytest.fixture
def of_table(raw):
    """Return a function that gives the study of the tones with a table of rates."""
    del raw["sweep"]
    Path("rates.csv").write_text(TABLE)
    return lambda rates, **keys: parse({**raw, "learning_rates": rates, **keys})


@pytest.mark.parametrize(
    ("rates", "weighted_sum", "hconv"),
    [
        ("rates.csv", 0.03, 0.004),
        ({"table": "rates.csv"}, 0.03, 0.004),
        ({"table": "rates.csv", "at_most": None}, 0.03, 0.004),
        ({"table": "rates.csv", "at_most": 1}, 0.03, 0.004),
        ({"table": "rates.csv", "at_most": 0.01}, 0.01, 0.004),
        ({"table": "rates.csv", "at_most": "1e-3"}, 0.001, 0.001),
    ],
)
def test_a_ceiling_lowers_the_rates_above_it_alone(of_table, rates, weighted_sum, hconv):
    found = chosen_rates(of_table(rates), "ks", "mini", "all")
    assert found == {"weighted_sum": {None: weighted_sum}, "hconv": {None: hconv}}


def test_a_ceiling_holds_for_each_layer(of_table):
    rates = {"table": "rates.csv", "at_most": 0.01}
    study = of_table(rates, interfaces={"single_layer": {"layer": "each"}})
    found = chosen_rates(study, "ks", "mini", "all")
    assert found == {"single_layer": {0: 0.01, 1: 0.01, 2: 0.001}}


def test_a_bad_rate_is_told_below_a_ceiling_too(of_table):
    study = of_table({"table": "rates.csv", "at_most": 0.01})
    Path("rates.csv").write_text(TABLE.replace("0.03", "inf"))
    with pytest.raises(StudyError, match="expected a learning rate above 0, found inf"):
        chosen_rates(study, "ks", "mini", "all")


def test_cells_are_trained_below_the_ceiling_and_why_names_a_new_one(ready, raw):
    Path("rates.csv").write_text(TABLE)
    del raw["sweep"]
    raw["learning_rates"] = {"table": "rates.csv", "at_most": 0.01}
    study = ready()
    cells.run(study, "ks", "mini", "all")
    trained = pd.read_csv(study.pack_dir("ks", "mini", "all") / "train.csv")
    rates = trained.groupby("interface")["learning_rate"].unique().map(list).to_dict()
    assert rates == {"weighted_sum": [0.01], "hconv": [0.004]}
    assert list(why(study, CELL)) == ["up to date"]
    lower = parse({**raw, "learning_rates": {"table": "rates.csv", "at_most": 0.002}})
    assert list(why(lower, CELL)) == [
        "learning_rates.at_most: 0.01 then, 0.002 now",
        "learning rate: 0.004 then, 0.002 now",
    ]


def test_a_table_without_a_ceiling_is_its_name_alone(of_table):
    name, mapping = of_table("rates.csv"), of_table({"table": "rates.csv"})
    assert json.loads(name.slice(*CELL))["learning_rates"] == "rates.csv"
    assert name.fingerprint(CELL) == mapping.fingerprint(CELL)
    other = of_table({"table": "rates.csv", "at_most": 0.01})
    assert other.fingerprint(CELL) != name.fingerprint(CELL)
    for study in (name, mapping, other):
        save(study)
        assert load(study.resolved) == study
