"""Studies that are hurt: in folders of their own, over one process that has all imported."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from fault_site import SMALL, TINY, Site, kill_all, stages

from ssl_bench import warm

ALL = "SSL_BENCH_FAULTS"


@pytest.fixture(scope="session")
def everything() -> None:
    """Skip what takes minutes, unless all is asked for."""
    if ALL not in os.environ:
        pytest.skip(f"takes minutes: run by `make faults`, which sets {ALL}")


@pytest.fixture(scope="session")
def listened(tmp_path_factory, repository) -> Iterator[tuple[str, int]]:
    """A process that has all imported, for the stages of every study here: its socket, its id."""
    place = tmp_path_factory.mktemp("listener") / "place"
    script = f'echo "${warm.VARIABLE}" > {place}.partial; mv {place}.partial {place}; sleep 7200'
    code = [str(repository / name) for name in ("workflow", "interfaces", "")]
    process = subprocess.Popen(
        [sys.executable, "-m", "ssl_bench", "warm", "bash", "-c", script],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(code), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        while not place.exists():
            assert process.poll() is None
            time.sleep(0.05)
        children = psutil.Process(process.pid).children()
        (server,) = [child.pid for child in children if "ssl_bench" in child.cmdline()]
        yield place.read_text().strip(), server
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture(scope="session")
def listener(listened) -> str:
    """The socket of a process that has all imported."""
    return listened[0]


@pytest.fixture(scope="session")
def listening(listened) -> psutil.Process:
    """That process."""
    return psutil.Process(listened[1])


@pytest.fixture
def site(tmp_path_factory, repository, listener) -> Iterator[Callable[..., Site]]:
    """Return a function that makes a folder with a study; what runs there at the end is ended."""
    made: list[Site] = []

    def make(study: dict[str, Any] = SMALL, place: str = listener, root: Path | None = None):
        root = root or tmp_path_factory.mktemp("faults") / "site"
        made.append(Site(root, repository, study, place))
        return made[-1]

    yield make
    for one in made:
        kill_all(one)
        shutil.rmtree(one.root, ignore_errors=True)


@pytest.fixture(scope="session")
def smoke(repository) -> dict[str, Any]:
    """The smoke study, its states kept on disk."""
    raw = yaml.safe_load((repository / "config" / "smoke.yaml").read_text())
    return {**raw, "cache": "disk"}


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory, repository, listener) -> Site:
    """The small study, left alone."""
    made = Site(tmp_path_factory.mktemp("undisturbed") / "site", repository, SMALL, listener)
    made.end()
    return made


def made_by_hand(site: Site, study: dict[str, Any]) -> dict[str, bytes]:
    for stage in stages(study):
        done = site.stage(*stage)
        assert done.returncode == 0, (stage, done.stdout)
    return site.tables()


@pytest.fixture(scope="session")
def by_hand(tmp_path_factory, repository, listener) -> dict[str, bytes]:
    """The small study's tables, made by the stages' commands alone, without Snakemake."""
    made = Site(tmp_path_factory.mktemp("hand") / "site", repository, SMALL, listener)
    return made_by_hand(made, SMALL)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory, repository, listener) -> dict[str, bytes]:
    """The same of the tiny study."""
    made = Site(tmp_path_factory.mktemp("tiny") / "site", repository, TINY, listener)
    return made_by_hand(made, TINY)
