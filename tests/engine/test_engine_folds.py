"""Folds of a corpus as tasks of one study, and their mean in the study's tables."""

import json

import pandas as pd
import pytest

from analysis.collect import collect
from ssl_bench import cells
from ssl_bench.study import save


def test_two_folds_are_two_cells_and_one_mean(ready, raw, recordings) -> None:
    """The second fold's test is the first one's dev, and the other way round."""
    swapped = (recordings / "list.tsv").read_text().replace("\tdev\t", "\t-\t")
    swapped = swapped.replace("\ttest\t", "\tdev\t").replace("\t-\t", "\ttest\t")
    (recordings / "swapped.tsv").write_text(swapped)
    tasks = {f"er_{n}": {**raw["tasks"]["ks"], "corpus": f"fold_{n}"} for n in (1, 2)}
    study = ready(
        corpora={
            "fold_1": {"kind": "manifest", "path": "list.tsv"},
            "fold_2": {"kind": "manifest", "path": "swapped.tsv"},
        },
        tasks=tasks,
        averages={"er": ["er_1", "er_2"]},
        sweep={"learning_rates": [1e-2]},
    )
    save(study)
    for task in study.tasks:
        cells.sweep(study, task, "mini", "all")
        cells.run(study, task, "mini", "all")
    collect(study.resolved)
    tables = study.results / "tables"
    results = pd.read_csv(tables / "results.csv")
    means = pd.read_csv(tables / "averages.csv").set_index(["interface", "seed"])
    assert len(means) == 2 * 2
    assert set(means["task"]) == {"er"}
    assert set(means["tasks"]) == {"er_1; er_2"}
    for (interface, seed), row in means.iterrows():
        own = results[(results["interface"] == interface) & (results["seed"] == seed)]
        assert sorted(own["n_test"]) == [6, 9]
        assert row["test"] == pytest.approx(own["test"].mean())
        assert row["dev"] == pytest.approx(own["dev"].mean())
    origin = json.loads((study.results / "provenance.json").read_text())
    assert origin["study"]["averages"] == {"er": {"er_1": ["er_1"], "er_2": ["er_2"]}}
