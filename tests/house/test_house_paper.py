"""config/paper.yaml: every published cell, by the published recipes, and nothing besides."""

import re

import numpy as np
import pandas as pd
import pytest
import yaml

from analysis import paper, paper_tables, paper_verdicts
from analysis.evidence import Evidence
from analysis.paper import Finder
from analysis.tables import checked
from ssl_bench import metrics, registry
from ssl_bench.heads.specaugment import SpecAugmentConfig
from ssl_bench.recipe import FineTune, Training
from ssl_bench.study import Study, parse

KINDS = registry.kinds("tasks")
NEIGHBOURS = {
    "pr": ("sliding", 16),
    "sf": ("sliding", None),
    "asr": ("sorted", None),
    **dict.fromkeys(("mono_asr", "multi_asr", "multi_lid"), ("sorted", 8)),
    **{"sid": ("random", 8), "sv": ("random", 10), "er": ("random", 4)},
}
"""Kinds whose batches are of several groups, or not random: how they are made, and of how many."""
LAST = {
    **dict.fromkeys(("pr", "sf", "ks", "lid"), "filled"),
    **dict.fromkeys(("mono_asr", "multi_asr", "multi_lid"), "shared"),
    "asr": "halves",
}
"""What becomes of what is left of a pass, where it is no smaller batch."""
SEEDS, ROWS = 2, 24
CONTROL = "weighted_sum_mlp"


@pytest.fixture(scope="module")
def study(repository):
    """The paper's study."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(repository)
        text = (repository / "config" / "paper.yaml").read_text(encoding="utf-8")
        return parse(yaml.safe_load(text))


@pytest.fixture(scope="module")
def tables(study):
    """Made-up results and scores of every cell."""
    rng = np.random.default_rng(0)
    pool = {m: [scored(rng, m) for _ in range(10)] for m in ("eer", "accuracy", "cer")}
    values = {metric: [value(made, metric) for made in pool[metric]] for metric in pool}
    results, scores = [], []
    for task, upstream, interface in study.cells():
        kind = study.task_config(task).kind
        metric = {"pr": "per", "sv": "eer", "mono_asr": "cer", "multi_asr": "cer"}.get(kind)
        metric = getattr(study.task_config(task), "metric", metric or "accuracy")
        for seed in range(SEEDS):
            like = metric if metric in pool else "cer"
            drawn = rng.integers(len(pool[like]))
            cell = {"task": task, "upstream": upstream, "interface": interface, "seed": seed}
            results.append(
                {
                    **cell,
                    "study": "paper",
                    "layer": None,
                    "learning_rate": 1e-4,
                    "metric": metric,
                    "higher_is_better": metric == "accuracy",
                    "dev": 50.0,
                    "test": values[like][drawn],
                    "n_test": ROWS,
                    "interface_parameters": 13,
                }
            )
            scores.append(pool[like][drawn].assign(layer=None, **cell))
    return checked({"results": pd.DataFrame(results), "scores": pd.concat(scores)})


def scored(rng, metric):
    frame = pd.DataFrame({"id": [f"u{k}" for k in range(ROWS)]})
    if metric == "eer":
        frame["speaker"] = [f"s{k % 6}|s{(k + k % 2) % 6}" for k in range(ROWS)]
        return frame.assign(label=[1, 0] * (ROWS // 2), score=rng.normal(size=ROWS))
    frame["speaker"] = [f"s{k % 6}" for k in range(ROWS)]
    if metric == "accuracy":
        return frame.assign(correct=rng.permutation([1, 0] * (ROWS // 2)))
    return frame.assign(errors=rng.integers(1, 9, ROWS), reference_length=20)


def value(scores, metric):
    if metric == "eer":
        return metrics.equal_error_rate(scores["label"], scores["score"])
    if metric == "accuracy":
        return metrics.accuracy(scores["correct"])
    return metrics.error_rate(scores["errors"], scores["reference_length"])


@pytest.mark.parametrize("table", paper.NUMBERS)
def test_every_published_cell_is_found(tables, table):
    frame = paper_tables.filled(table, tables)
    assert frame["ours"].notna().all()
    assert set(frame["n_seeds"]) == {SEEDS}


def test_every_claim_can_be_tested(tables):
    claims = paper_verdicts.claims(Evidence(tables, 40))
    assert claims["p"].notna().all()
    assert paper_verdicts.UNTESTED not in set(claims["verdict"])


def test_no_cell_is_trained_in_vain(study):
    """Each belongs to a published one, or is the control beside one of Table 2."""
    cells = set(study.cells())
    finder = Finder(frozenset(cells))

    def behind(table):
        found = map(finder.find, paper.places(paper.published(table)))
        return {cell for groups in found for group in groups for cell in group}

    controls = {(task, upstream, CONTROL) for task, upstream, _ in behind("table2")}
    assert cells == controls.union(*map(behind, paper.NUMBERS))


def test_recipes_are_the_published_ones(study):
    assert not study.normalize
    for task in study.tasks:
        training, recipe = study.training_of(task), study.recipe_of(task)
        hour = {"steps": 150_000} if task in ("multi_1h", "lid_1h") else {}
        assert training == recipe.training.model_copy(update=hour), task
        assert training.layer_weight_scale == 1
        assert study.rates_of(task) == recipe.learning_rates
    sets = {task.removesuffix("_large") for task in study.tasks if task.startswith("mono_1h")}
    assert len(sets) == 13
    phones = {task for task in sets if study.task_config(task).metric == "per"}
    assert phones == {"mono_1h_jpn", "mono_1h_cmn"}


def test_only_table_3_enlarges(study):
    enlarged = {task for task in study.tasks if study.enlarge_by(task)}
    assert enlarged == {task for task in study.tasks if task.endswith("_large")}
    assert {study.enlarge_by(task) for task in enlarged} == {"hconv"}
    for task in enlarged:
        plain = task.removesuffix("_large")
        assert study.task_config(task) == study.task_config(plain)


def test_averages_are_those_of_the_tables(study):
    """The study's own means weigh tasks as the tables do."""
    known = paper.names()
    for name, groups in study.averages.items():
        entry = known["tasks"][name.removesuffix("_large")]
        ending = "_large" if name.endswith("_large") else ""
        members = known["groups"][entry["over"]]
        listed = [[entry["members"][0].format(m) + ending for m in group] for group in members]
        assert list(groups.values()) == listed
    assert set(study.averages) == {"er", "mono_10min", "mono_1h", "mono_1h_large"}


# ---- the table of deviations


def deviations(repository):
    """Return the rows of the table: what, published, here, option."""
    page = (repository / "docs" / "recipes.md").read_text(encoding="utf-8")
    part = page.split("## Deviations, and their options\n")[1]
    lines = [line for line in part.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[1:]]


def test_every_deviation_has_an_option_or_a_reason(repository):
    rows = deviations(repository)
    assert len(rows) > 25
    for row in rows:
        assert len(row) == 4, row
        option = row[3]
        named = re.findall(r"`(\w+): ", option)
        assert named or option.startswith(("same numbers", "none: ")), row


def test_every_option_is_a_key_and_every_test_is_there(repository):
    known = set(Study.model_fields) | set(Training.model_fields) | set(FineTune.model_fields)
    for room in ("tasks", "corpora"):
        for kind in registry.kinds(room):
            known |= set(registry.load(room, kind).Config.model_fields)
    known |= set(SpecAugmentConfig.model_fields)
    for row in deviations(repository):
        text = " ".join(row[2:])
        assert set(re.findall(r"`(\w+): ", text)) <= known, row
        assert all((repository / path).is_file() for path in re.findall(r"tests/[\w/.]+py", text))


def test_what_the_table_calls_the_default_is_the_default():
    of_kind = {kind: registry.load("tasks", kind).RECIPE.training for kind in KINDS}
    for kind, training in of_kind.items():
        expected = NEIGHBOURS.get(kind, ("random", None))
        assert (training.batches, training.neighbours) == expected, kind
        assert training.last_batch == LAST.get(kind, "smaller"), kind
        long = 18.75 if kind in ("pr", "sf") else None
        assert training.halve_seconds == long, kind
        assert training.encodes is (kind in ("sid", "sv")), kind
    assert {training.not_finite for training in of_kind.values()} == {"skip"}
    assert {training.layer_weight_scale for training in of_kind.values()} == {1}
    sv, corpus = of_kind["sv"], registry.load("corpora", "voxceleb1").Config
    assert (sv.evaluations, sv.select, sv.average) == (20, "dev_metric", 1)
    assert corpus.model_fields["dev_speakers"].default == 0
