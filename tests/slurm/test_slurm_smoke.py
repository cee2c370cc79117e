"""The smoke study on a real Slurm: a job cancelled, a node drained, a job preempted; and the same
tables as at home, byte for byte."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from fault_site import TABLES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

NEEDED = ("Snakefile", "workflow", "interfaces", "analysis", "models", "notebooks", "profiles")
TEST = [
    *("--slurm-status-command", "squeue"),  # there is no accounting, which sacct reads
    *("--slurm-init-seconds-before-status-checks", "5"),
    *("--latency-wait", "10"),
]


class Site:
    """A working directory with the repository's code and the smoke study."""

    def __init__(self, root: Path, repository: Path) -> None:
        self.root = root
        root.mkdir()
        for name in NEEDED:
            (root / name).symlink_to(repository / name)
        raw = yaml.safe_load((repository / "config" / "smoke.yaml").read_text())
        (root / "study.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
        code = [str(repository / name) for name in ("workflow", "interfaces", "")]
        self.environment = {
            **os.environ,
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONPATH": os.pathsep.join(code),
            "MPLBACKEND": "agg",
            "OMP_NUM_THREADS": "1",
            "GIT_COMMIT": "slurm",  # the checkout may move in the meantime
        }

    def use(self, cluster) -> None:
        """Let Slurm's commands find this cluster."""
        own = cluster.environment["SLURM_CONF"]
        path = os.pathsep.join([str(cluster.folder / "bin"), self.environment["PATH"]])
        self.environment |= {"SLURM_CONF": own, "PATH": path}

    def snakemake(self, *options: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "snakemake", "--configfile", "study.yaml"]
        command += ["--set-threads", "corpus=2", "features=1", *options]  # the same here and there
        with (self.root / "snakemake.log").open("a") as log:
            return subprocess.Popen(
                command,
                cwd=self.root,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def said(self) -> str:
        return (self.root / "snakemake.log").read_text()

    def tables(self) -> dict[str, bytes]:
        folder = self.root / "results" / "smoke" / "tables"
        return {name: (folder / name).read_bytes() for name in TABLES}


class Trouble:
    """What happens to the jobs of a run: each once, to the first that is far enough."""

    def __init__(self, cluster) -> None:
        self.cluster = cluster
        self.met: dict[str, dict[str, str]] = {}

    def stir(self) -> None:
        for job in self.cluster.jobs():
            if job["JobState"] != "RUNNING":
                continue
            rule, number, node = job.get("Comment", ""), job["JobId"], job["NodeList"]
            if "features" in rule:
                self.once("cancelled", job, "scancel", number)
            elif "similarity" in rule:
                drain = ("update", f"nodename={node}", "state=drain", "reason=test")
                self.once("drained", job, "scontrol", *drain)
            elif "cells" in rule and node != self.node("drained"):
                urgent = ("--partition=urgent", f"--nodelist={node}", "--gpus=1", "--wrap=sleep 3")
                self.once("preempted", job, "sbatch", "--output=/dev/null", *urgent)

    def once(self, what: str, job: dict[str, str], *command: str) -> None:
        if what not in self.met and (what != "preempted" or "drained" in self.met):
            self.cluster.run(*command)
            self.met[what] = job

    def node(self, what: str) -> str | None:
        return self.met[what]["NodeList"] if what in self.met else None


@pytest.fixture(scope="module")
def home(cluster, tmp_path_factory, repository) -> Site:
    """The study up to its tables, from this machine alone."""
    site = Site(tmp_path_factory.mktemp("home") / "site", repository)
    table = "results/smoke/tables/results.csv"
    assert site.snakemake("--cores", "2", table).wait() == 0, site.said()
    return site


def test_a_study_in_trouble_ends_in_the_same_tables(cluster, home, tmp_path, repository) -> None:
    site = Site(tmp_path / "site", repository)
    site.use(cluster)
    began = time.monotonic()
    run = site.snakemake("--profile", "profiles/slurm", *TEST)
    trouble = Trouble(cluster)
    try:
        while run.poll() is None:
            trouble.stir()
            time.sleep(1)
    finally:
        run.kill()
    assert run.returncode == 0, site.said() + cluster.said()
    print(f"\non Slurm: {time.monotonic() - began:.0f} s")

    jobs = {job["JobId"]: job for job in cluster.jobs() if job["Partition"] == "main"}
    for job in jobs.values():
        print("{JobId} {Comment} {JobState} {NodeList} restarts={Restarts}".format(**job))
    assert set(trouble.met) == {"cancelled", "drained", "preempted"}
    assert jobs[trouble.met["cancelled"]["JobId"]]["JobState"] == "CANCELLED"
    assert jobs[trouble.met["preempted"]["JobId"]]["Restarts"] == "1"
    drained = trouble.met["drained"]
    assert jobs[drained["JobId"]]["JobState"] == "COMPLETED"
    later = [job for job in jobs.values() if job["StartTime"] > drained["StartTime"]]
    assert trouble.node("drained") not in {job["NodeList"] for job in later}
    # One corpus, two upstreams, features twice and once more, similarity, five cells in two
    # groups, and the rest: 23 rules' jobs.
    assert len(jobs) == 10
    assert (site.root / "results" / "smoke" / "report.html").is_file()
    assert site.tables() == home.tables()


def test_gpus_that_are_asked_for_by_gres(cluster, home) -> None:
    for node in ("n1", "n2"):
        cluster.run("scontrol", "update", f"nodename={node}", "state=resume", check=False)
    home.use(cluster)
    target = "work/smoke/similarity/hubert-mini-13.words.csv"
    again = ("--forcerun", "similarity", "--", target)
    run = home.snakemake("--profile", "profiles/slurm-gres", *TEST, *again)
    assert run.wait() == 0, home.said() + cluster.said()
    last = max(cluster.jobs(), key=lambda job: int(job["JobId"]))
    assert last["JobState"] == "COMPLETED"
    assert last["TresPerNode"] == "gres:gpu:1"
    assert "TresPerJob" not in last  # which --gpus sets
