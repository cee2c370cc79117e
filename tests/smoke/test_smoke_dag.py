"""The whole road at its smallest: `snakemake` on config/smoke.yaml, from speech to report."""

import html
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
import yaml

from ssl_bench.study import Study, parse

pytestmark = [pytest.mark.smoke, pytest.mark.timeout(600)]

NEEDED = ("Snakefile", "workflow", "interfaces", "analysis", "models", "notebooks", "profiles")
LAYERS = {"fbank": 1, "hubert-mini-13": 13}
CELL = ["task", "upstream", "interface"]
# Whatever is trained anew, these follow, and `all` is counted too.
AFTER = {"collect": 1, "tables": 1, "figures": 1, "notebook": 3, "report": 1, "all": 1}


class Road:
    """A working directory with the repository's code and a copy of the smoke study."""

    def __init__(self, root: Path, repository: Path) -> None:
        self.root = root
        for name in NEEDED:
            (root / name).symlink_to(repository / name)
        (root / "config").mkdir()
        self.raw = yaml.safe_load((repository / "config" / "smoke.yaml").read_text())
        code = [str(repository / name) for name in ("workflow", "interfaces", "")]
        self.environment = {
            **os.environ,
            # The rules call `python`, which must be the one that runs the tests.
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONPATH": os.pathsep.join(code),
            "MPLBACKEND": "agg",
        }

    @property
    def study(self) -> Study:
        return parse(self.raw)

    def snakemake(self, *options: str, **keys: object) -> str:
        """Run on the study with top-level keys changed; return what was printed."""
        file = self.root / "config" / "study.yaml"
        file.write_text(yaml.safe_dump({**self.raw, **keys}, sort_keys=False))
        command = [sys.executable, "-m", "snakemake", "--cores", "2", "--configfile", str(file)]
        command += ["--set-threads", "corpus=1", "features=1"]  # two small jobs at once are faster
        done = subprocess.run(
            [*command, *options],
            cwd=self.root,
            env=self.environment,
            capture_output=True,
            text=True,
        )
        printed = done.stdout + done.stderr
        assert done.returncode == 0, printed
        return printed

    def plan(self, **keys: object) -> dict[str, int]:
        """Count the jobs that a changed study would run, by rule."""
        printed = self.snakemake("--dry-run", **keys)
        if "Nothing to be done" in printed:
            return {}
        counts = re.findall(r"^(\w+) +(\d+)$", printed.partition("Job stats:")[2], re.MULTILINE)
        return {rule: int(count) for rule, count in dict(counts).items() if rule != "total"}

    def changed(self, axis: str, name: str, **keys: object) -> dict[str, object]:
        """Return an axis of the study with keys of one entry changed."""
        entries = self.raw[axis]
        return {axis: {**entries, name: {**entries[name], **keys}}}

    def times(self) -> dict[Path, int]:
        """When each file below results and work was written."""
        files = [f for part in ("results", "work") for f in (self.root / part).rglob("*")]
        return {file: file.stat().st_mtime_ns for file in files if file.is_file()}


@pytest.fixture(scope="module")
def road(tmp_path_factory, repository) -> Road:
    # A name that a shell could read: no command may fall for it.
    made = Road(tmp_path_factory.mktemp("smoke mañana; it's $HOME"), repository)
    before = made.plan()
    assert before["corpus"] == 1
    assert not (made.root / "work").exists()  # a plan writes nothing
    made.snakemake()
    return made


def expected_rows(study: Study) -> Counter:
    """One row a seed, or a seed and layer for the probes of single layers."""
    rows: Counter = Counter()
    for cell in study.cells():
        probes = LAYERS[cell.upstream] if cell.interface == "single_layer" else 1
        rows[tuple(cell)] = probes * len(study.seeds)
    return rows


def test_every_target_is_there(road) -> None:
    folder = road.root / "results" / "smoke"
    pages = [f"notebooks/{name}.html" for name in ("results", "layers", "explore")]
    tables = [f"tables/comparison.{ending}" for ending in ("csv", "md", "tex")]
    for name in (*pages, *tables, "tables/claims.md", "report.html"):
        assert (folder / name).stat().st_size > 100, name
    figures = json.loads((folder / "figures" / "captions.json").read_text())
    assert figures
    for name in figures:
        assert (folder / "figures" / f"{name}.png").stat().st_size > 1000, name
    for log in (road.root / "work" / "smoke" / "logs").rglob("*.log"):
        assert "Traceback" not in log.read_text(), log


def test_snakemakes_report_has_every_figure_and_table_with_its_caption(road) -> None:
    road.snakemake("--report", "snakemake_report.html")
    page = (road.root / "snakemake_report.html").read_text(encoding="utf-8")
    assert "system-message" not in page  # what docutils writes where a caption is not in order
    folder = road.root / "results" / "smoke"
    captions = json.loads((folder / "figures" / "captions.json").read_text())
    tables = {path.stem for path in (folder / "tables").glob("*.csv")}
    assert tables >= {"results", "costs", "sweep", "comparison", "claims", "paper_claims"}
    for name in (
        *(f"figures/{name}.png" for name in captions),
        *(f"tables/{t}.csv" for t in tables),
    ):
        entry = page.partition(f'"results/smoke/{name}": ')[2]
        found, _ = json.JSONDecoder().raw_decode(entry)
        assert len(re.sub("<[^>]+>", "", found["caption"])) > 30, name
    own = (folder / "report.html").read_text(encoding="utf-8")
    for name, entry in captions.items():
        assert f'id="{name}"' in own
        assert html.escape(entry["caption"], quote=False)[:60] in own.replace("&#39;", "'"), name


def test_the_table_has_a_row_for_every_cell_and_seed(road) -> None:
    table = pd.read_csv(road.root / "results" / "smoke" / "tables" / "results.csv")
    assert Counter(map(tuple, table[CELL].to_numpy())) == expected_rows(road.study)
    assert not table.duplicated([*CELL, "layer", "seed"]).any()
    assert table["test"].notna().all()
    assert set(table["seed"]) == set(road.study.seeds)
    sweep = pd.read_csv(road.root / "results" / "smoke" / "tables" / "sweep.csv")
    assert set(map(tuple, sweep[CELL].to_numpy())) == set(expected_rows(road.study))


def test_the_tables_say_what_the_cells_say(road) -> None:
    folder = road.root / "results" / "smoke"
    found = [
        run
        for file in (folder / "cells").rglob("metrics.json")
        for run in json.loads(file.read_text())["runs"]
    ]
    keys = [*CELL, "layer", "seed"]
    texts = {"git_commit": str}  # one such as 6e8529378724 would be read as a number
    table = pd.read_csv(folder / "tables" / "results.csv", dtype=texts)
    table = table.sort_values(keys, ignore_index=True)
    costs = pd.read_csv(folder / "tables" / "costs.csv").sort_values(keys, ignore_index=True)
    cells = pd.DataFrame(found)
    assert {*table, *costs} == {*cells}
    cells["layer"] = cells["layer"].astype(float)
    cells = cells.sort_values(keys, ignore_index=True)
    pd.testing.assert_frame_equal(table, cells[table.columns], check_dtype=False)
    pd.testing.assert_frame_equal(costs, cells[costs.columns], check_dtype=False)
    assert {*table} & {*costs} == {*keys}

    scores = pd.read_parquet(folder / "tables" / "scores.parquet")
    spotted = scores[scores["task"] == "ks"].groupby([*CELL, "seed"])["correct"].mean() * 100
    shown = table[(table["task"] == "ks") & table["layer"].isna()].set_index([*CELL, "seed"])
    pd.testing.assert_series_equal(
        spotted.astype(float), shown["test"].sort_index(), check_names=False
    )


def test_the_chosen_rates_are_those_that_were_trained(road) -> None:
    folder = road.root / "results" / "smoke" / "tables"
    sweep = pd.read_csv(folder / "sweep.csv").query("chosen")
    table = pd.read_csv(folder / "results.csv")
    keys = [*CELL, "layer"]
    chosen = set(map(tuple, sweep[[*keys, "learning_rate"]].fillna(-1).to_numpy()))
    trained = set(map(tuple, table[[*keys, "learning_rate"]].fillna(-1).to_numpy()))
    assert chosen == trained


def test_a_second_call_does_nothing(road) -> None:
    before = road.times()
    assert "Nothing to be done" in road.snakemake()
    assert road.times() == before


def test_an_interfaces_options_reach_its_own_jobs_only(road) -> None:
    before = road.times()
    plan = road.plan(**road.changed("interfaces", "hconv", layers=[0, 4, 8, 12]))
    assert plan == {"sweep": 2, "train": 2, **AFTER}  # pr and ks on the encoder; sv has no HConv
    assert road.times() == before


def test_a_tasks_training_reaches_its_own_jobs_only(road) -> None:
    plan = road.plan(**road.changed("tasks", "sv", training={"steps": 5}))
    assert plan == {"sweep": 1, "train": 1, **AFTER}


def test_another_upstream_makes_its_own_features_only(road) -> None:
    plan = road.plan(**road.changed("upstreams", "hubert-mini-13", untrained=True))
    again = {"upstream": 1, "features": 1, "similarity": 1, "sweep": 3, "train": 3}
    assert plan == {**again, **AFTER}


def test_jobs_of_one_interface_each(road) -> None:
    study = parse({**road.raw, "job": "interface"})
    plan = road.plan(job="interface")
    assert plan["train"] == plan["sweep"] == len(study.cells())
    assert "features" not in plan
