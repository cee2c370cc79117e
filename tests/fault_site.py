"""A study in a folder of its own, started, hurt and started again as a user would."""

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import yaml

from ssl_bench import warm

NEEDED = ("Snakefile", "workflow", "interfaces", "analysis", "models", "notebooks", "profiles")
TABLES = (
    *("results.csv", "sweep.csv", "history.csv", "layer_profile.csv", "similarity.csv"),
    "scores.parquet",
)
"""All that ``collect`` writes but costs.csv, which a clock and a memory measure."""
SMALL: dict[str, Any] = {
    "name": "small",
    "device": "cpu",
    "cache": "disk",
    "seeds": 1,
    "job": "stream",
    "corpora": {
        "words": {
            **{"kind": "synthetic", "recipe": "keywords", "train": 24, "dev": 8, "test": 10},
            **{"speakers": 2, "seed": 5},
        }
    },
    "upstreams": {"fbank": {"kind": "fbank"}},
    "tasks": {
        "ks": {"kind": "ks", "corpus": "words", "hidden": 8},
        "pr": {"kind": "pr", "corpus": "words", "hidden": 8},
    },
    "interfaces": ["last", "weighted_sum"],
    "training": {
        **{"recipe": "none", "steps": 4, "batch_seconds": 4, "evaluations": 2, "buckets": 2},
    },
    "sweep": {"learning_rates": [1e-3, 1e-2], "steps": 0.5},
}
"""The smoke study's shape in ten jobs of a moment."""

ANALYSIS = ("collect", "tables", "figures", "notebook", "report", "crate")
TINY: dict[str, Any] = {**SMALL, "tasks": {"ks": SMALL["tasks"]["ks"]}}
"""The same with one task."""


def stages(study: dict[str, Any]) -> list[tuple[str, ...]]:
    """List the commands of a study's rules, up to the tables that later stages read."""
    return [
        ("corpus", "--name", "words"),
        ("upstream", "--name", "fbank"),
        ("features", "--upstream", "fbank", "--corpus", "words"),
        *(
            (stage, "--task", task, "--upstream", "fbank", "--pack", "all")
            for stage in ("sweep", "train")
            for task in study["tasks"]
        ),
        ("collect",),
    ]


STAGES = stages(SMALL)
_TABLES = ("--tables", "results/small/tables")
_REPORT = "results/small/report.html"
LATER: list[tuple[str, ...]] = [
    ("tables", *_TABLES, "--out", "results/small/tables", "--resamples", "100"),
    ("figures", *_TABLES, "--out", "results/small/figures"),
    (
        "report",
        *_TABLES,
        "--figures",
        "results/small/figures",
        "--out",
        "results/small/report.html",
    ),
    ("crate", "--results", "results/small"),
    (
        "similarity",
        *("--upstream", "fbank", "--corpus", "words"),
        *("--out", "work/small/similarity/fbank.words.csv"),
    ),
]
"""Those of the rules after them, and of one that the small study does without."""


class Site:
    """A working directory with the repository's code and a study.

    Args:
        root: the folder, which is made.
        repository: where the code is.
        study: what the study says.
        place: the socket of a warm listener; "" starts every job by itself, as users do.
    """

    def __init__(self, root: Path, repository: Path, study: dict[str, Any], place: str) -> None:
        self.root, self.name = root, study["name"]
        self.always: list[str] = []
        """Options of every call of Snakemake."""
        root.mkdir(exist_ok=True)
        for name in NEEDED:
            (root / name).symlink_to(repository / name)
        self.write(study)
        code = [str(repository / name) for name in ("workflow", "interfaces", "")]
        self.environment = {
            **os.environ,
            # The rules call `python`, which must be the one that runs the tests.
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONPATH": os.pathsep.join(code),
            "MPLBACKEND": "agg",
            "GIT_COMMIT": "faults",  # the checkout may move in the meantime
            "SSL_BENCH_CHECKPOINT_SECONDS": "0",
            warm.VARIABLE: place,
        }

    def write(self, study: dict[str, Any], file: str = "study.yaml") -> None:
        (self.root / file).write_text(yaml.safe_dump(study, sort_keys=False))

    @property
    def target(self) -> str:
        return f"results/{self.name}/tables/results.csv"

    def start(self, *options: str, file: str = "study.yaml") -> subprocess.Popen:
        """Start Snakemake; what it prints is added to ``said``, which lies beside the folder."""
        command = [sys.executable, "-m", "snakemake", "--cores", "2", "--configfile", file]
        command += ["--set-threads", "corpus=1", "features=1", *self.always]
        command += options or ["--", self.target]
        with self.log.open("a") as log:
            return subprocess.Popen(
                command,
                cwd=self.root,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def run(self, *options: str, file: str = "study.yaml") -> int:
        """Run Snakemake to its end; return its exit status."""
        return self.start(*options, file=file).wait()

    def stage(self, name: str, *options: str) -> subprocess.CompletedProcess[str]:
        """Run one stage as its rule does; ``name``: that of its command."""
        if name == "collect" or name not in ANALYSIS:
            options = ("--study", "study.yaml", *options)
        package = "analysis" if name in ANALYSIS else "ssl_bench"
        return subprocess.run(
            [sys.executable, "-m", package, name, *options],
            cwd=self.root,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def end(self) -> None:
        """Run the study to its end."""
        assert self.run() == 0, self.said()

    @property
    def log(self) -> Path:
        return self.root.with_name(f"{self.root.name}.log")

    def said(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def processes(self) -> list[psutil.Process]:
        """List what runs in this folder, those who start it left out."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                at_home = Path(process.cwd()) == self.root.resolve()
                if at_home and process.pid != os.getpid() and process.status() != "zombie":
                    found.append(process)
        return found

    def tables(self) -> dict[str, bytes]:
        """Return the study's tables, byte for byte."""
        folder = self.root / "results" / self.name / "tables"
        found = {name: (folder / name).read_bytes() for name in TABLES}
        assert {path.name for path in folder.glob("*")} >= {*TABLES, "costs.csv"}
        assert found["results.csv"].count(b"\n") > 1
        return found

    def leftovers(self) -> list[str]:
        """List what a run should not leave: things half-written, checkpoints of what is done."""
        return sorted(
            str(path.relative_to(self.root))
            for part in ("results", "work")
            for path in (self.root / part).rglob("*")
            if "partial" in path.name or ("checkpoints" in path.parts and path.is_file())
        )


def kill_all(site: Site) -> None:
    """Kill whatever runs in a folder, and what that starts in the meantime."""
    while found := site.processes():
        for process in found:
            with suppress(psutil.Error):
                process.kill()
        time.sleep(0.01)
