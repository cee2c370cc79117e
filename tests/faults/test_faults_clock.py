"""A clock that jumps: no number changes, no training is repeated, nothing waits for a time."""

import ast
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from fault_site import SMALL, Site

from ssl_bench import lease

HOUR = 3600
JUMPY = """
import random, sys, time
real, dice = time.time, random.Random(0)
time.time = lambda: real() + dice.uniform(-86400, 86400)
from ssl_bench.__main__ import main
main(sys.argv[1:])
"""
HOLDER = """
import sys, time
from ssl_bench import lease
with lease.one_of(["0"], 1, lambda: None):
    print("held", flush=True)
    time.sleep(0.5)
"""


def test_the_engine_asks_no_clock_that_can_be_set(repository) -> None:
    """``time.monotonic`` measures; ``time.time`` and ``datetime.now`` are a clock's."""
    found = []
    for path in sorted((repository / "workflow" / "ssl_bench").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                name = f"{node.value.id}.{node.attr}"
                if name in ("time.time", "time.time_ns", "datetime.now", "datetime.datetime"):
                    found.append(f"{path.name}: {name}")
    assert not found


def test_the_line_for_a_device_does_not_look_at_the_clock(
    monkeypatch, tmp_path, repository
) -> None:
    monkeypatch.setenv("SSL_BENCH_LOCKS", str(tmp_path))
    dice, real = random.Random(0), time.time
    code = os.pathsep.join([str(repository / "workflow"), os.environ.get("PYTHONPATH", "")])
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER],
        env={**os.environ, "PYTHONPATH": code},
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        monkeypatch.setattr(time, "time", lambda: real() + dice.uniform(-86400, 86400))
        began, waited = time.monotonic(), []
        with lease.one_of(["0"], 1, lambda: waited.append(1)):
            assert holder.wait() == 0
    assert waited == [1]
    assert time.monotonic() - began < 20


@pytest.mark.slow
@pytest.mark.smoke
def test_a_training_does_not_look_at_the_clock(everything, site, by_hand) -> None:
    made = site(place="")
    for stage in ("corpus --name words", "features --upstream fbank --corpus words"):
        name, *options = stage.split()
        assert made.stage(name, *options).returncode == 0
    for stage in ("sweep", "train"):
        for task in SMALL["tasks"]:
            options = [stage, "--study", "study.yaml", "--task", task, "--upstream", "fbank"]
            began = time.monotonic()
            done = subprocess.run(
                [sys.executable, "-c", JUMPY, *options],
                cwd=made.root,
                env=made.environment,
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, done.stderr
            took = time.monotonic() - began
    assert made.stage("collect").returncode == 0
    assert made.tables() == by_hand
    costs = pd.read_csv((made.root / made.target).with_name("costs.csv"))
    assert costs["seconds"].tail(2).between(0, took).all()


def shift(files, seconds: float) -> None:
    for path in files:
        found = path.stat()
        os.utime(path, (found.st_atime + seconds, found.st_mtime + seconds))


def every(site: Site) -> list[Path]:
    folders = [site.root / part for part in ("results", "work")]
    return [path for folder in folders for path in folder.rglob("*") if path.is_file()]


def trained(site: Site) -> dict[str, int]:
    """When each cell was written, to the nanosecond."""
    found = (site.root / "results").rglob("metrics.json")
    return {str(path): path.stat().st_mtime_ns for path in found}


@pytest.fixture(scope="module")
def done(everything, tmp_path_factory, repository, listener) -> Site:
    """The small study, at its end."""
    made = Site(tmp_path_factory.mktemp("clock") / "site", repository, SMALL, listener)
    made.end()
    return made


@pytest.fixture(scope="module")
def large(everything, tmp_path_factory, repository, listener) -> Site:
    """The same, its files taken for too large to compare by content."""
    made = Site(tmp_path_factory.mktemp("large") / "site", repository, SMALL, listener)
    made.always = ["--max-checksum-file-size", "0"]
    made.end()
    return made


def nothing_to_do(site: Site) -> bool:
    site.log.write_text("")
    assert site.run("--dry-run", "--", site.target) == 0
    return "Nothing to be done" in site.said()


@pytest.mark.slow
@pytest.mark.smoke
@pytest.mark.parametrize("hours", [-24, 48])
def test_a_clock_that_was_wrong_all_the_time(done, hours) -> None:
    """Two days ahead, or one behind, and now set right: the order of the files is what counts."""
    shift(every(done), hours * HOUR)
    try:
        assert nothing_to_do(done)
    finally:
        shift(every(done), -hours * HOUR)


@pytest.mark.slow
@pytest.mark.smoke
def test_a_small_input_that_has_become_newer(done) -> None:
    """Snakemake compares what it holds: the same, so nothing runs again."""
    time.sleep(0.01)
    os.utime(done.root / "work/small/corpora/words/table.parquet")
    assert nothing_to_do(done)


@pytest.mark.slow
@pytest.mark.smoke
def test_a_large_input_that_has_become_newer(large) -> None:
    """Its jobs run again, and find every cell trained."""
    before, table = trained(large), (large.root / large.target).read_bytes()
    time.sleep(0.01)
    os.utime(large.root / "work/small/corpora/words/table.parquet")
    assert not nothing_to_do(large)
    large.end()
    assert "rule sweep" in large.said()
    assert trained(large) == before
    assert (large.root / large.target).read_bytes() == table
    assert nothing_to_do(large)


@pytest.mark.slow
@pytest.mark.smoke
def test_a_clock_that_was_set_back_in_the_middle(large) -> None:
    """Snakemake refuses what is older than its input, and the documented way helps."""
    before, table = trained(large), (large.root / large.target).read_bytes()
    shift([large.root / "work/small/features/fbank/words/features.json"], HOUR)
    large.log.write_text("")
    assert large.run() == 1
    assert "has older modification time" in large.said()
    assert "clock skew" in large.said()
    command = ["find", "work", "results", "-newermt", "now", "-exec", "touch", "-d", "now", "{}"]
    subprocess.run([*command, "+"], cwd=large.root, check=True)
    large.end()
    assert trained(large) == before
    assert (large.root / large.target).read_bytes() == table
    assert nothing_to_do(large)
