"""Where a number came from: what a cell records, and what the collected study says of it."""

import json
import os
import subprocess
import sys

import pytest
import torch

import ssl_bench
from analysis.collect import collect
from ssl_bench import cells, provenance, spending
from ssl_bench.study import save

GIT = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}


@pytest.fixture
def trained(ready):
    study = ready(tasks={"ks": {"kind": "ks", "corpus": "tones", "hidden": 8}})
    cells.sweep(study, "ks", "mini", "all")
    cells.run(study, "ks", "mini", "all")
    save(study)
    return study


def about(study, interface="hconv"):
    path = study.pack_dir("ks", "mini", "all") / interface / "metrics.json"
    return path, json.loads(path.read_text())


def test_a_cell_records_where_it_came_from(trained) -> None:
    _, found = about(trained)
    assert found["config"] == json.loads(trained.slice("ks", "mini", "hconv"))
    assert found["versions"]["torch"] == torch.__version__
    assert found["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    hardware = found["hardware"]
    assert hardware["cores"] == os.cpu_count()
    assert hardware["memory_gb"] > 0.1
    assert hardware["processor"]
    assert found["energy_joules"] is None  # a CPU
    assert found["starts"] == 1
    for run in found["runs"]:
        assert run["git_commit"] == provenance.commit()
        assert run["version"] == ssl_bench.__version__
        assert run["device"] == "cpu"
        assert run["seconds"] > 0
        assert run["peak_memory_mb"] > 10
        assert "energy_joules" not in run  # a column of results.csv it is not


def test_a_gpus_energy_is_recorded(ready, monkeypatch) -> None:
    class Meter:
        def __init__(self, device) -> None:
            self.device = device

        def joules(self) -> float:
            return 12.5

    monkeypatch.setattr(spending, "Meter", Meter)
    study = ready(tasks={"ks": {"kind": "ks", "corpus": "tones", "hidden": 8}})
    cells.sweep(study, "ks", "mini", "all")
    cells.run(study, "ks", "mini", "all")
    assert about(study)[1]["energy_joules"] == 12.5


def test_cells_of_another_commit_are_flagged_when_collected(trained, capsys) -> None:
    path, found = about(trained)
    collect(trained.resolved)
    assert "Mixed code" not in capsys.readouterr().err
    for run in found["runs"]:
        run["git_commit"] = "0123456789abcdef-dirty"
    path.write_text(json.dumps(found))
    collect(trained.resolved)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: Mixed code: the cells were trained by 2 versions of the code")
    assert "0123456789ab-dirty of version" in line
    origin = json.loads((trained.results / "provenance.json").read_text())
    assert [one["cells"] for one in origin["code"]] == [1, 1]
    assert "0123456789abcdef-dirty" in {one["git_commit"] for one in origin["code"]}


def test_a_commit_says_whether_files_differ(tmp_path, monkeypatch) -> None:
    def git(*words: str) -> str:
        author = ("-c", "user.name=a", "-c", "user.email=a@b")
        done = subprocess.run(
            ["git", *author, *words],
            cwd=tmp_path,
            env={**os.environ, **GIT},
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    monkeypatch.delenv("GIT_COMMIT", raising=False)
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "code.py"))
    fresh = provenance.commit.__wrapped__
    (tmp_path / "code.py").write_text("1\n")
    git("init", "-q")
    git("add", "code.py")
    git("commit", "-qm", "one")
    commit = git("rev-parse", "--short=12", "HEAD")
    assert fresh() == commit
    (tmp_path / "notes.txt").write_text("not of the code\n")
    assert fresh() == commit
    (tmp_path / "code.py").write_text("2\n")
    assert fresh() == f"{commit}-dirty"
    monkeypatch.setenv("GIT_COMMIT", "given")
    assert fresh() == "given"
