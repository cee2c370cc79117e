"""A study that is killed at any instant, and started again until it ends, ends in the same tables.

SIGKILL reaches one process of a job (its shell, the command, or what works for it), or Snakemake
with all that it started, or Snakemake alone, whose jobs work on beside those of the next start.
"""

import random
import time
from contextlib import suppress
from dataclasses import dataclass, field

import psutil
import pytest
from fault_site import Site, kill_all

pytestmark = pytest.mark.smoke

KINDS = ("a process", "all", "snakemake")
ROUNDS = 21
COLD = 3
"""Rounds whose jobs start as users start them; the others' start from the warm listener."""


@dataclass
class Fate:
    """When and how the starts of a study are killed: in turn, then it is left to end."""

    kills: list[tuple[str, float]]
    dice: random.Random
    met: list[str] = field(default_factory=list)

    def run(self, site: Site) -> None:
        """Start a study again and again until it ends; kill the starts that are to be killed."""
        for kind, after in self.kills:
            process = site.start()
            while process.poll() is None and not (site.root / "work").exists():
                time.sleep(0.01)  # it imports
            began = time.monotonic()
            while process.poll() is None and time.monotonic() - began < after:
                time.sleep(0.01)
            hit = process.poll() is None and self.kill(site, process, kind)
            status = process.wait()
            if not hit:
                assert status == 0, site.said()
                break
            self.met.append(f"{kind} after {after:.2f} s")
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


def test_a_study_that_is_killed_again_and_again(site, by_hand) -> None:
    """Part of what follows: Snakemake alone, then one of its processes."""
    made = site()
    fate = Fate([("snakemake", 1.0), ("a process", 5.0)], random.Random(0))
    fate.run(made)
    assert len(fate.met) == 2, made.said()
    assert made.tables() == by_hand
    assert made.leftovers() == []


@pytest.fixture(scope="module")
def expected(everything, tmp_path_factory, repository, listener, smoke) -> tuple[dict, dict]:
    """The smoke study's tables, undisturbed, and how long it took: warm, and cold."""
    tables, seconds = [], {}
    for place in (listener, ""):
        made = Site(tmp_path_factory.mktemp("smoke") / "site", repository, smoke, place)
        process = made.start()
        while not (made.root / "work").exists():
            assert process.poll() is None, made.said()
            time.sleep(0.01)
        began = time.monotonic()
        assert process.wait() == 0, made.said()
        seconds[place] = time.monotonic() - began
        tables.append(made.tables())
    assert tables[0] == tables[1]  # which says, too, that the study is deterministic
    return tables[0], seconds


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("number", range(ROUNDS))
def test_every_instant(number, site, smoke, expected, listener, capsys) -> None:
    tables, seconds = expected
    dice = random.Random(number)
    place = "" if number < COLD else listener
    kills = [(KINDS[number % len(KINDS)], dice.uniform(0, seconds[place]))]
    if number % 4 == 3:
        kills.append((dice.choice(KINDS), dice.uniform(0, seconds[place])))
    fate = Fate(kills, dice)
    made = site(smoke, place)
    began = time.monotonic()
    fate.run(made)
    check(made, tables)
    with capsys.disabled():
        took = time.monotonic() - began
        print(f"\n{number}: {'; '.join(fate.met) or 'not hit'}: the same tables, {took:.0f} s")
    assert fate.met
