"""The paper's study made small: all of what `make paper-smoke` runs is there, and a part runs."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import paper_smoke
import published_layouts as layouts
import pytest
import yaml
from snakemake.utils import update_config

from analysis import paper
from ssl_bench import inventory, registry
from ssl_bench.study import Study, parse

FOLDER = "data/paper-smoke"
NEEDED = ("Snakefile", "workflow", "interfaces", "analysis", "config", "profiles")
PART = {
    "tasks": (
        *("mono_1h_xty", "mono_1h_xty_large", "mono_1h_cmn", "mono_1h_jpn"),
        *("lid_1h", "er_fold1", "ic", "sv", "pr"),
    ),
    "upstreams": ("hubert_base", "hubert_large"),
    "interfaces": ("weighted_sum", "hconv"),
}
"""A task of every layout and every script, an upstream of either format."""


def merged(repository: Path) -> dict[str, Any]:
    """The paper's study with the override on top, as Snakemake merges the two."""
    files = [repository / "config" / name for name in ("paper.yaml", "paper_smoke.yaml")]
    paper, override = (yaml.safe_load(file.read_text(encoding="utf-8")) for file in files)
    update_config(paper, override)
    return paper


def part(raw: dict[str, Any]) -> dict[str, Any]:
    """A study cut down to :data:`PART` and the corpora that it needs."""
    made = {axis: {name: raw[axis][name] for name in names} for axis, names in PART.items()}
    for task in made["tasks"].values():
        task["interfaces"] = {
            upstream: [name for name in listed if name in PART["interfaces"]]
            for upstream, listed in task["interfaces"].items()
            if upstream in PART["upstreams"]
        }
    used = {task["corpus"] for task in made["tasks"].values()}
    corpora = {name: entry for name, entry in raw["corpora"].items() if name in used}
    return {**raw, **made, "corpora": corpora, "averages": {}}


@pytest.fixture(scope="module")
def written(tmp_path_factory, repository) -> Path:
    """A working directory with the repository's code and what the study reads, in tones."""
    root = tmp_path_factory.mktemp("paper")
    for name in NEEDED:
        (root / name).symlink_to(repository / name)
    paper_smoke.everything(root / FOLDER, layouts.tones)
    return root


def test_nothing_of_the_paper_is_left_out(repository, monkeypatch):
    monkeypatch.chdir(repository)
    small = parse(merged(repository))
    whole = yaml.safe_load((repository / "config" / "paper.yaml").read_text(encoding="utf-8"))
    assert small.cells() == parse(whole).cells()
    assert small.name != whole["name"]
    assert small.averages == parse(whole).averages


def test_nothing_of_the_papers_is_read(repository, monkeypatch):
    monkeypatch.chdir(repository)
    small = parse(merged(repository))
    for name, entry in small.corpora.items():
        files = [entry["root"], *entry.get("lexicons", ())]
        assert all(file.startswith(f"{FOLDER}/corpora/") for file in files), name
    for name, entry in small.upstreams.items():
        assert entry.get("path", entry.get("model")).startswith(f"{FOLDER}/checkpoints/"), name
    for task in small.tasks:
        assert small.training_of(task).steps == 2, task
        assert "work/paper/" not in json.dumps(small.tasks[task]), task


def test_all_that_the_study_reads_is_written(written, repository, monkeypatch):
    monkeypatch.chdir(written)
    small = parse(merged(repository))
    inventory.check(small)
    kinds = set()
    for name in small.upstreams:
        config = small.upstream_config(name)
        kinds.add(config.kind)
        encoder = registry.load("upstreams", config.kind).load(config)
        assert encoder.probe() in {(5, 24), (9, 36)}, name
    assert kinds == {"s3prl", "transformers"}


@pytest.fixture(scope="module")
def ran(written, repository) -> Study:
    """The part, run by Snakemake to its tables."""
    raw = part(merged(repository))
    (written / "part.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    command = [sys.executable, "-m", "ssl_bench", "warm", sys.executable, "-m", "snakemake"]
    code = [str(repository / name) for name in ("workflow", "interfaces", "")]
    done = subprocess.run(
        [*command, "--cores", "2", "--configfile", "part.yaml", "--", "tables"],
        cwd=written,
        env={
            **os.environ,
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONPATH": os.pathsep.join(code),
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return parse(raw)


@pytest.mark.smoke
def test_every_cell_has_a_value(written, ran):
    table = pd.read_csv(written / ran.results / "tables" / "results.csv")
    keys = ["task", "upstream", "interface"]
    assert set(map(tuple, table[keys].to_numpy())) == set(map(tuple, ran.cells()))
    assert (table.groupby(keys)["seed"].nunique() == len(ran.seeds)).all()
    assert table["test"].notna().all()


@pytest.mark.smoke
def test_a_head_is_enlarged_by_what_hconv_has(written, ran):
    table = pd.read_csv(written / ran.results / "tables" / "results.csv")
    table = table[table["seed"] == 0].set_index(["task", "upstream", "interface"])
    for upstream in ran.upstreams:
        head = table["head_parameters"].loc[:, upstream, "weighted_sum"]
        wanted = table["interface_parameters"]["mono_1h_xty", upstream, "hconv"]
        wanted -= table["interface_parameters"]["mono_1h_xty", upstream, "weighted_sum"]
        grown = head["mono_1h_xty_large"] - head["mono_1h_xty"]
        assert grown == pytest.approx(wanted, rel=0.05)


@pytest.mark.smoke
def test_the_papers_table_has_ours_beside_the_published_values(written, ran):
    folder = written / ran.results / "tables"
    assert {f"{name}.md" for name in paper.held(ran.cells())} <= {p.name for p in folder.iterdir()}
    results = pd.read_csv(folder / "results.csv")
    table = pd.read_csv(folder / "table2.csv").set_index(["task", "upstream", "interface"])
    own = results.groupby(["task", "upstream", "interface"])["test"].mean()
    for task in ("lid_1h", "ic", "sv", "pr"):
        for upstream in ran.upstreams:
            for interface in ran.interfaces:
                cell = (task, upstream, interface)
                assert table.loc[cell, "ours"] == pytest.approx(own[cell], rel=1e-4), cell
    assert table["ours"].isna().any()  # of cells that the part has not
