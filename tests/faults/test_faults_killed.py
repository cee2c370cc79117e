"""A study that is killed at any instant, and started again until it ends, ends in the same tables.

SIGKILL reaches one process of a job (its shell, the command, or what works for it), or Snakemake
with all that it started, or Snakemake alone, whose jobs work on beside those of the next start.
"""

import random
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

import psutil
import pytest
from fault_site import TINY, Site, kill_all

pytestmark = pytest.mark.smoke

JOBS = 17
"""Jobs of the smoke study up to its tables."""
KINDS = ("a process", "all", "snakemake")
ROUNDS = 21
COLD = 3
"""Rounds whose jobs start as users start them; the others' start from the warm listener."""


class Kill(NamedTuple):
    """What is killed, and when: so many seconds after so many jobs have ended."""

    kind: str
    jobs: int
    seconds: float

    @classmethod
    def draw(cls, dice: random.Random, kind: str, most: int, seconds: float) -> "Kill":
        return cls(kind, dice.randrange(most), dice.uniform(0, seconds))


@dataclass
class Fate:
    """How the starts of a study are killed, one after the other; then it is left to end."""

    kills: list[Kill]
    dice: random.Random
    met: list[str] = field(default_factory=list)

    def run(self, site: Site) -> None:
        """Start a study again and again until it ends; kill the starts that are to be killed."""
        for kill in self.kills:
            before = ended(site)
            process = site.start()
            while process.poll() is None and ended(site) - before < kill.jobs:
                time.sleep(0.01)
            until = time.monotonic() + kill.seconds
            while process.poll() is None and time.monotonic() < until:
                time.sleep(0.01)
            hit = self.kill(site, process, kill.kind)
            status = process.wait()
            if not hit:
                assert status == 0, site.said()
                break
            self.met.append(f"{kill.kind} {kill.seconds:.2f} s after {kill.jobs} jobs")
            unlock(site)
        site.end()

    def kill(self, site: Site, snakemake, kind: str) -> bool:
        """Kill; False: it has ended before."""
        while snakemake.poll() is None:
            if kind == "all":
                snakemake.kill()
                kill_all(site)
                return True
            if kind == "snakemake":
                snakemake.kill()
                return True
            others = [one for one in site.processes() if one.pid != snakemake.pid]
            with suppress(psutil.Error):
                if others:
                    self.dice.choice(others).kill()
                    return True
            time.sleep(0.01)
        return False


def ended(site: Site) -> int:
    """Count the jobs that have ended well."""
    return site.said().count("Finished jobid")


def unlock(site: Site) -> None:
    """Do what Snakemake's message about a locked folder says."""
    if list((site.root / ".snakemake" / "locks").glob("*.lock")):
        assert site.run("--unlock") == 0, site.said()


def check(site: Site, expected: dict[str, bytes]) -> None:
    """Compare the tables; nothing half-written is left, and nothing is left to do."""
    found = site.tables()
    for name, content in expected.items():
        assert found[name] == content, f"{name}\n{site.said()}"
    while site.processes():  # jobs of a Snakemake that is gone
        time.sleep(0.05)
    assert site.tables() == found
    assert site.leftovers() == []
    assert site.run("--dry-run", "--quiet", "rules", "--", site.target) == 0
    assert "Nothing to be done" in site.said().splitlines()[-1] + site.said()[-400:]


def test_a_study_whose_snakemake_is_killed(site, tiny) -> None:
    """Part of what follows: a job works on beside the next start."""
    made = site(TINY)
    fate = Fate([Kill("snakemake", 2, 0.3)], random.Random(0))
    fate.run(made)
    assert len(fate.met) == 1, made.said()
    assert made.tables() == tiny
    assert made.leftovers() == []


@pytest.fixture(scope="module")
def hits() -> list[str]:
    """All kills that met something alive."""
    return []


@pytest.fixture(scope="module")
def expected(everything, tmp_path_factory, repository, listener, smoke) -> dict[str, bytes]:
    """The smoke study's tables, undisturbed: the same with a listener and without."""
    tables = []
    for place in (listener, ""):
        made = Site(tmp_path_factory.mktemp("smoke") / "site", repository, smoke, place)
        made.end()
        assert ended(made) == JOBS
        tables.append(made.tables())
    assert tables[0] == tables[1]  # which says, too, that the study is deterministic
    return tables[0]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("number", range(ROUNDS))
def test_every_instant(number, site, smoke, expected, hits, listener, capsys) -> None:
    dice = random.Random(number)
    cold = number < COLD
    pause = 6.0 if cold else 1.5  # about what a job takes
    kills = [Kill.draw(dice, KINDS[number % len(KINDS)], JOBS, pause)]
    if number % 4 == 3:
        kills.append(Kill.draw(dice, dice.choice(KINDS), 4, pause))
    fate = Fate(kills, dice)
    made = site(smoke, "" if cold else listener)
    began = time.monotonic()
    fate.run(made)
    check(made, expected)
    with capsys.disabled():
        took = time.monotonic() - began
        print(f"\n{number}: {'; '.join(fate.met) or 'not hit'}: the same tables, {took:.0f} s")
    hits.extend(fate.met)


@pytest.mark.slow
def test_instants_enough(everything, hits) -> None:
    assert len(hits) >= 20
