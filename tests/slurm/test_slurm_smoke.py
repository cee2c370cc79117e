"""The smoke study on a real Slurm: a job cancelled, a node drained, a job preempted; and the same
table as at home."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

NEEDED = ("Snakefile", "workflow", "interfaces", "analysis", "models", "notebooks", "profiles")
MEASURED = ["seconds", "peak_memory_mb"]
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
        }

    def use(self, cluster) -> None:
        """Let Slurm's commands find this cluster."""
        own = cluster.environment["SLURM_CONF"]
        path = os.pathsep.join([str(cluster.folder / "bin"), self.environment["PATH"]])
        self.environment |= {"SLURM_CONF": own, "PATH": path}

    def snakemake(self, *options: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "snakemake", "--configfile", "study.yaml", *options]
        command += ["--set-threads", "corpus=2", "features=1"]  # the same here and there
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

    def results(self) -> pd.DataFrame:
        return pd.read_csv(self.root / "results" / "smoke" / "tables" / "results.csv")


class Trouble:
    """What happens to the jobs of a run: each once, to the first that is far enough."""

    def __init__(self, cluster) -> None:
        self.cluster = cluster
        self.done: dict[str, dict[str, str]] = {}

    def stir(self) -> None:
        for job in self.cluster.jobs():
            if job["JobState"] != "RUNNING":
                continue
            rule, number, node = job.get("Comment", ""), job["JobId"], job["NodeList"]
            if "cancelled" not in self.done and "features" in rule:
                self.cluster.run("scancel", number)
                self.done["cancelled"] = job
            elif "drained" not in self.done and "similarity" in rule:
                self.cluster.run(
                    "scontrol", "update", f"nodename={node}", "state=drain", "reason=test"
                )
                self.done["drained"] = job
            elif "drained" in self.done and "preempted" not in self.done and "cells" in rule:
                if node != self.done["drained"]["NodeList"]:
                    self.cluster.run(
                        *("sbatch", "--partition=urgent", f"--nodelist={node}", "--gpus=1"),
                        *("--output=/dev/null", "--wrap", "sleep 3"),
                    )
                    self.done["preempted"] = job


@pytest.fixture(scope="module")
def home(cluster, tmp_path_factory, repository) -> pd.DataFrame:
    """The study's table from this machine alone."""
    site = Site(tmp_path_factory.mktemp("home") / "site", repository)
    table = "results/smoke/tables/results.csv"
    assert site.snakemake("--cores", "2", table).wait() == 0, site.said()
    return site.results()


def test_a_study_in_trouble_ends_in_the_same_table(cluster, home, tmp_path, repository) -> None:
    site = Site(tmp_path / "site", repository)
    began = time.monotonic()
    site.use(cluster)
    run = site.snakemake("--profile", "profiles/slurm", *TEST)
    trouble = Trouble(cluster)
    try:
        while run.poll() is None:
            trouble.stir()
            time.sleep(1)
    finally:
        run.kill()
    assert run.returncode == 0, site.said() + cluster.said()
    print(f"on Slurm: {time.monotonic() - began:.0f} s")

    jobs = {job["JobId"]: job for job in cluster.jobs() if job["Partition"] == "main"}
    for job in jobs.values():
        print(
            {key: job.get(key) for key in ("JobId", "Comment", "JobState", "NodeList", "Restarts")}
        )
    assert set(trouble.done) == {"cancelled", "drained", "preempted"}
    assert jobs[trouble.done["cancelled"]["JobId"]]["JobState"] == "CANCELLED"
    assert jobs[trouble.done["preempted"]["JobId"]]["Restarts"] == "1"
    assert (site.root / "results" / "smoke" / "report.html").is_file()
    pd.testing.assert_frame_equal(
        site.results().drop(columns=MEASURED), home.drop(columns=MEASURED), check_exact=True
    )
