"""What re-runs: a finished study whose jobs were stand-ins, and the plan after each change.

``benchmarks/trivial_jobs/python`` makes the files of every job, so the plan is Snakemake's own, on
the rules as they are.
"""

import copy
import importlib.util
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.slow
AXES = ("task", "upstream", "pack")


def of_benchmark(repository: Path) -> Any:
    path = repository / "benchmarks" / "overhead.py"
    spec = importlib.util.spec_from_file_location("overhead", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


STUDY = {
    "name": "many",
    "title": "as it was",
    "device": "cpu",
    "seeds": 2,
    "job": "interface",
    "corpora": {
        "words": {"kind": "synthetic", "recipe": "keywords", "train": 60},
        "more": {"kind": "synthetic", "recipe": "keywords", "train": 50},
    },
    "upstreams": {
        "one": {"kind": "transformers", "model": "models/hubert-mini-13"},
        "two": {"kind": "transformers", "model": "models/hubert-mini-25"},
    },
    "tasks": {
        "ks": {"kind": "ks", "corpus": "words"},
        "pr": {"kind": "pr", "corpus": "more", "training": {"recipe": "none", "steps": 9}},
    },
    "interfaces": {"mean": {}, "hconv": {}, "weighted_sum": {}},
    "sweep": {},
}
CELLS = {
    (task, upstream, interface)
    for task in STUDY["tasks"]
    for upstream in STUDY["upstreams"]
    for interface in STUDY["interfaces"]
}


class Finished:
    """A study that has run, in a folder with a copy of code and encoders of its own."""

    def __init__(self, folder: Path, repository: Path) -> None:
        self.folder, self.tool = folder, of_benchmark(repository)
        self.environment = self.tool.prepare(folder, STUDY)
        for name in ("workflow", "analysis", "interfaces", "models"):
            (folder / name).unlink()
            skipped = shutil.ignore_patterns("__pycache__")
            shutil.copytree(repository / name, folder / name, ignore=skipped)
        self.environment.pop("PYTHONPATH", None)  # the rules find the copy by themselves
        self._call()

    def _call(self, *options: str) -> str:
        return self.tool.snakemake(self.folder, self.environment, "--cores", "2", *options)[1]

    def plan(self, text: str | None = None, **keys: Any) -> dict[str, set[tuple[str, ...]]]:
        """Return rule → the cells of its jobs, of a changed study (or its file's text)."""
        text = text or yaml.safe_dump(changed(**keys), sort_keys=False)
        (self.folder / "study.yaml").write_text(text)
        printed = self._call("--dry-run")
        (self.folder / "study.yaml").write_text(yaml.safe_dump(STUDY, sort_keys=False))
        jobs: dict[str, set[tuple[str, ...]]] = {}
        for block in re.split(r"\n(?=(?:local)?rule )", printed)[1:]:
            rule = re.match(r"(?:local)?rule (\w+):", block)[1]
            given = re.search(r"^    wildcards: (.*)$", block, re.MULTILINE)
            pairs = dict(pair.split("=") for pair in given[1].split(", ")) if given else {}
            jobs.setdefault(rule, set()).add(tuple(pairs.values()))
        return jobs

    def edit(self, name: str, old: str, new: str) -> None:
        path = self.folder / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))


def changed(**keys: Any) -> dict[str, Any]:
    """Return the study with dotted keys (``__`` for the dot) set."""
    raw = copy.deepcopy(STUDY)
    for dotted, value in keys.items():
        *parents, last = dotted.split("__")
        place = raw
        for name in parents:
            place = place[name]
        place[last] = value
    return raw


@pytest.fixture(scope="module")
def finished(tmp_path_factory, repository) -> Finished:
    return Finished(tmp_path_factory.mktemp("reruns"), repository)


def trained(cells: set[tuple[str, str, str]]) -> dict[str, set[tuple[str, ...]]]:
    """Return the plan in which these cells are swept and trained again, and collected."""
    return {"sweep": cells, "train": cells, "collect": {()}}


def where(**axes: str) -> set[tuple[str, str, str]]:
    names = dict(zip(AXES, range(3), strict=True))
    return {c for c in CELLS if all(c[names[axis]] == value for axis, value in axes.items())}


def test_a_comment_or_another_layout_of_the_study_reruns_nothing(finished) -> None:
    text = yaml.safe_dump(STUDY, sort_keys=False, default_flow_style=True)
    assert finished.plan(f"# why this study\n{text}\n# an end\n") == {}
    # In another order the table's rows come in another order.
    text = yaml.safe_dump(STUDY, sort_keys=True)
    assert finished.plan(text) == {"collect": {()}}


def test_keys_that_no_number_depends_on_rerun_nothing(finished) -> None:
    assert finished.plan(title="another", cache_gb=7.0, device="auto") == {}


def test_edits_of_code_that_change_no_recipe_rerun_nothing(finished) -> None:
    before = {
        name: (finished.folder / name).read_text()
        for name in (
            "workflow/ssl_bench/training.py",
            "interfaces/SSL_Interface/interfaces/hconv.py",
            "analysis/figures/heatmap.py",
            "workflow/rules/train.smk",
        )
    }
    for name, text in before.items():
        (finished.folder / name).write_text(f"{text}\n# a comment\n")
    try:
        assert finished.plan() == {}
    finally:
        for name, text in before.items():
            (finished.folder / name).write_text(text)


def test_a_published_recipe_that_changes_reruns_the_tasks_that_follow_it(finished) -> None:
    old, new = "batch_utterances=32,", "batch_utterances=16,"
    finished.edit("workflow/ssl_bench/tasks/ks.py", old, new)
    try:
        assert finished.plan() == trained(where(task="ks"))
    finally:
        finished.edit("workflow/ssl_bench/tasks/ks.py", new, old)
    # One that a task does not follow changes nothing.
    old, new = "steps=100_000", "steps=90_000"
    finished.edit("workflow/ssl_bench/tasks/pr.py", old, new)
    try:
        assert finished.plan() == {}
    finally:
        finished.edit("workflow/ssl_bench/tasks/pr.py", new, old)


def test_a_tasks_training_reruns_its_cells(finished) -> None:
    assert finished.plan(tasks__pr__training__steps=10) == trained(where(task="pr"))


def test_an_interfaces_options_rerun_its_cells(finished) -> None:
    plan = finished.plan(interfaces__hconv={"layers": [0, 4, 8, 12]})
    assert plan == trained(where(pack="hconv"))


def test_another_interface_trains_its_own_cells_alone(finished) -> None:
    new = {(task, upstream, "last") for task in STUDY["tasks"] for upstream in STUDY["upstreams"]}
    assert finished.plan(interfaces__last={}) == trained(new)


def test_an_upstream_reruns_its_features_and_cells(finished) -> None:
    plan = finished.plan(upstreams__two__untrained=True)
    features = {"upstream": {("two",)}, "features": {("two", "words"), ("two", "more")}}
    assert plan == {**features, **trained(where(upstream="two"))}


def test_weights_replaced_in_place_rerun_what_was_made_of_them(finished) -> None:
    features = {"upstream": {("two",)}, "features": {("two", "words"), ("two", "more")}}
    for name, plan in {
        "model.safetensors": {**features, **trained(where(upstream="two"))},
        "README.md": {},
    }.items():
        path = finished.folder / "models" / "hubert-mini-25" / name
        content, before = path.read_bytes(), path.stat()
        path.write_bytes(content[:-1] + b"x")
        try:
            assert finished.plan() == plan, name
        finally:
            path.write_bytes(content)
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert finished.plan() == {}


def test_a_corpus_reruns_its_features_and_cells(finished) -> None:
    plan = finished.plan(corpora__more__train=51)
    features = {"corpus": {("more",)}, "features": {("one", "more"), ("two", "more")}}
    assert plan == {**features, **trained(where(task="pr"))}


def test_seeds_rerun_every_cell(finished) -> None:
    assert finished.plan(seeds=3) == trained(CELLS)
