"""Stages that start from a process which has everything imported: the same results and errors."""

import os
import shlex
import subprocess
import sys
import time

import pytest

from ssl_bench import warm

STUDY = """
name: small
seeds: 1
corpora: {words: {kind: synthetic, recipe: keywords, train: 2, dev: 1, test: 1}}
upstreams: {fbank: {kind: fbank}}
tasks: {ks: {kind: ks, corpus: words}}
interfaces: [last]
sweep: {learning_rates: [0.1]}
"""
PYTHON = shlex.quote(sys.executable)
SCRIPT = f"""
{PYTHON} -m ssl_bench check --study study.yaml
{PYTHON} -m ssl_bench check --study "no such.yaml" || echo ended with $?
cd inner && {PYTHON} -m ssl_bench upstream --study ../study.yaml --name fbank
exit $1
"""


@pytest.fixture(scope="module")
def ran(tmp_path_factory, repository):
    """A script of stages, run warm."""
    folder = tmp_path_factory.mktemp("warm")
    (folder / "study.yaml").write_text(STUDY)
    (folder / "inner").mkdir()
    code = os.pathsep.join(str(repository / name) for name in ("workflow", "interfaces", ""))
    done = subprocess.run(
        [sys.executable, "-m", "ssl_bench", "warm", "bash", "-c", SCRIPT, "--", "3"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": code},
        capture_output=True,
        text=True,
    )
    return folder, done


def test_streams_and_statuses_are_those_of_the_stage(ran):
    _, done = ran
    assert "small: 1 tasks × 1 upstreams, 1 cells × 1 seeds\n" in done.stdout
    line = "error: no such.yaml: no such study file; did you mean 'study.yaml'? known: study.yaml\n"
    assert line in done.stderr
    assert "ended with 2\n" in done.stdout
    assert done.returncode == 3  # the command's own


def test_a_stage_runs_in_the_folder_that_asks(ran):
    folder, _ = ran
    assert (folder / "inner" / "work" / "small" / "upstreams" / "fbank.json").is_file()


def test_nobody_listens(monkeypatch, tmp_path):
    monkeypatch.delenv(warm.VARIABLE, raising=False)
    assert warm.hand_over(["gpus"]) is None
    monkeypatch.setenv(warm.VARIABLE, str(tmp_path / "gone"))
    assert warm.hand_over(["gpus"]) is None


def test_the_listener_ends_with_the_command(monkeypatch, tmp_path):
    """With a stage that only says who runs it."""
    script = f'{PYTHON} -c "import os; print(os.environ[{warm.VARIABLE!r}])" > place'
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(warm, "_import", lambda: None)
    began = time.monotonic()
    assert warm.run(["bash", "-c", script]) == 0
    assert time.monotonic() - began < 30
    place = (tmp_path / "place").read_text().strip()
    monkeypatch.setenv(warm.VARIABLE, place)
    assert warm.hand_over(["gpus"]) is None
