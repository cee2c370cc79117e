"""Two studies started in one folder: the same one is refused, different ones run side by side."""

import os
import signal
import time

import pytest
from fault_site import SMALL, TINY, Site

pytestmark = [pytest.mark.smoke, pytest.mark.slow]

OTHER = {**TINY, "name": "other"}
REFUSED = "another Snakemake is at work on this study in this folder"


def started(site: Site, name: str = "small"):
    """Start a study; return when its first job runs."""
    process = site.start("--", f"results/{name}/tables/results.csv", file=f"{name}.yaml")
    while not list((site.root / "work" / name).glob("logs/*/*")):
        assert process.poll() is None, site.said()
        time.sleep(0.01)
    return process


@pytest.fixture
def folder(everything, site) -> Site:
    made = site()
    made.write(SMALL, "small.yaml")
    made.write(OTHER, "other.yaml")
    return made


def test_the_same_study_twice(folder, by_hand) -> None:
    first = started(folder)
    assert folder.run() == 1
    assert "Directory cannot be locked" in folder.said()
    assert first.wait() == 0, folder.said()
    assert folder.tables() == by_hand


def test_the_same_study_twice_at_the_same_moment(folder, by_hand) -> None:
    """Snakemake looks for a lock and then writes one: two may pass; the second line holds."""
    both = [folder.start() for _ in range(2)]
    status = sorted(process.wait() for process in both)
    assert status == [0, 1], folder.said()
    assert REFUSED in folder.said() or "Directory cannot be locked" in folder.said()
    assert folder.tables() == by_hand


def test_unlocked_while_it_runs(folder, by_hand) -> None:
    """``--unlock`` believes that nobody is at work; the study itself knows better."""
    first = started(folder)
    os.kill(first.pid, signal.SIGSTOP)
    assert folder.run("--unlock") == 0
    assert folder.run() == 1
    os.kill(first.pid, signal.SIGCONT)
    assert first.wait() == 0, folder.said()
    assert REFUSED in folder.said()
    assert folder.tables() == by_hand


def test_two_studies_side_by_side(folder, site, by_hand) -> None:
    alone = site(OTHER)
    alone.end()
    first = started(folder)
    second = started(folder, "other")
    assert [second.wait(), first.wait()] == [0, 0], folder.said()
    assert folder.tables() == by_hand
    folder.name = "other"
    assert folder.tables() == alone.tables()
