"""Means over folds and over languages."""

import pandas as pd
import pytest

from analysis.averages import average
from ssl_bench.errors import StudyError

LANGUAGES = {"eng": ["eng1", "eng2", "eng3"], "fra": ["fra1"]}


def results(values: dict[str, tuple[float, float]], **columns: object) -> pd.DataFrame:
    """Two seeds of each task, the second one above the first; dev is half of test."""
    rows = [
        {
            "task": task,
            "upstream": "mini",
            "interface": "hconv",
            "layer": None,
            "seed": seed,
            "metric": "cer",
            "higher_is_better": False,
            "dev": value / 2,
            "test": value,
            **columns,
        }
        for task, pair in values.items()
        for seed, value in enumerate(pair)
    ]
    return pd.DataFrame(rows).astype({"layer": "Int64"})


SETS = results({"eng1": (10, 11), "eng2": (20, 21), "eng3": (30, 31), "fra1": (40, 41)})


def test_a_language_counts_once_however_many_sets_it_has() -> None:
    found = average(SETS, {"mono": LANGUAGES})
    assert found["test"].tolist() == [30.0, 31.0]  # the mean of 20 and 40, not of the four
    assert found["dev"].tolist() == [15.0, 15.5]
    assert found["seed"].tolist() == [0, 1]
    assert set(found["task"]) == {"mono"}
    assert set(found["tasks"]) == {"eng1 eng2 eng3; fra1"}
    assert set(found["metric"]) == {"cer"}


def test_folds_are_groups_of_one() -> None:
    folds = results({f"er_fold{n}": (60 + n, 70 + n) for n in range(1, 6)}, higher_is_better=True)
    found = average(folds, {"er": {task: [task] for task in folds["task"].unique()}})
    assert found["test"].tolist() == [63.0, 73.0]


def test_a_run_that_one_task_lacks_has_no_average() -> None:
    lacking = SETS[(SETS["task"] != "fra1") | (SETS["seed"] == 0)]
    assert average(lacking, {"mono": LANGUAGES})["seed"].tolist() == [0]
    assert average(SETS[SETS["task"] != "fra1"], {"mono": LANGUAGES}).empty


def test_upstreams_and_interfaces_are_kept_apart() -> None:
    both = pd.concat([SETS, results(dict.fromkeys(SETS["task"].unique(), (1, 1)), upstream="big")])
    found = average(both, {"mono": LANGUAGES}).set_index(["upstream", "seed"])["test"]
    assert found["big", 0] == 1
    assert found["mini", 0] == 30


def test_directions_are_not_mixed() -> None:
    mixed = pd.concat([SETS, results({"ks": (90, 91)}, higher_is_better=True, metric="accuracy")])
    with pytest.raises(StudyError, match=r"averages\.all: .*ks \(accuracy\)"):
        average(mixed, {"all": {"a": ["eng1"], "b": ["ks"]}})
