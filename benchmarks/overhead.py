"""What Snakemake itself takes for a study of many cells: time and memory of plan and run.

The jobs are stand-ins (``trivial_jobs/python``) that make empty files, so nearly all that is
measured is Snakemake: building the graph, starting jobs, keeping its records. A run goes up to the
collected table; what follows is the same few jobs for every study.

    python benchmarks/overhead.py --cells 200
"""

import argparse
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import yaml

ROOT = Path(__file__).resolve().parents[1]
NEEDED = ("Snakefile", "workflow", "interfaces", "analysis", "models", "profiles", "config")
INTERFACES = ("last", "mean", "weighted_sum", "hconv", "concat")
TASKS = 10


class Measured(NamedTuple):
    """One call of Snakemake."""

    seconds: float
    processor_seconds: float
    """Of Snakemake and of the jobs that it waited for."""
    memory_mb: float
    """The most resident of Snakemake's own process."""
    jobs: int


def study(cells: int) -> dict[str, Any]:
    """Return a study of so many cells: 10 tasks × 5 interfaces × upstreams, with a sweep."""
    upstreams, rest = divmod(cells, TASKS * len(INTERFACES))
    if rest or not upstreams:
        raise SystemExit(f"--cells: a multiple of {TASKS * len(INTERFACES)}, found {cells}")
    return {
        "name": "many",
        "device": "cpu",
        "seeds": 2,
        "job": "interface",
        "corpora": {"words": {"kind": "synthetic", "recipe": "keywords", "train": 60}},
        "upstreams": {
            f"mini-{number}": {"kind": "transformers", "model": "models/hubert-mini-13"}
            for number in range(upstreams)
        },
        "tasks": {f"ks-{number}": {"kind": "ks", "corpus": "words"} for number in range(TASKS)},
        "interfaces": list(INTERFACES),
        "sweep": {"learning_rates": [1e-3, 1e-2]},
    }


def prepare(folder: Path, made: dict[str, Any]) -> dict[str, str]:
    """Write a study into an empty folder beside the code; return the environment of its jobs."""
    for name in NEEDED:
        (folder / name).symlink_to(ROOT / name)
    (folder / "study.yaml").write_text(yaml.safe_dump(made, sort_keys=False))
    stand_in = str(ROOT / "benchmarks" / "trivial_jobs")
    return {**os.environ, "PATH": os.pathsep.join([stand_in, os.environ["PATH"]])}


def snakemake(folder: Path, environment: dict[str, str], *options: str) -> tuple[Measured, str]:
    """Run Snakemake up to the collected table; return what it took and what it printed."""
    target = "results/many/tables/results.csv"
    command = [sys.executable, "-m", "snakemake", target, "--configfile", "study.yaml", *options]
    began = time.monotonic()
    with (folder / "printed.txt").open("w+") as printed:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=printed, stderr=subprocess.STDOUT
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - began
        printed.seek(0)
        said = printed.read()
    if status:
        raise SystemExit(said)
    found = re.findall(r"^total +(\d+)$", said, re.MULTILINE)
    return Measured(
        seconds,
        usage.ru_utime + usage.ru_stime,
        usage.ru_maxrss / 1024,
        int(found[0]) if found else 0,
    ), said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, nargs="+", default=[50, 200, 1000])
    parser.add_argument("--cores", type=int, default=2)
    arguments = parser.parse_args()
    cores = ("--cores", str(arguments.cores))
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load", end=" ")
    print(" ".join(f"{load:.1f}" for load in os.getloadavg()))
    print("| cells | call | jobs | seconds | processor seconds | MB resident | ms a job |")
    print("|---|---|---|---|---|---|---|")
    for cells in arguments.cells:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            environment = prepare(folder, study(cells))
            for call, options in (
                ("plan of all", ("--dry-run", "--quiet", "rules")),
                ("run", ("--quiet", "rules")),
                ("plan of nothing", ("--dry-run",)),
                ("plan of all, cells forced", ("--dry-run", "--quiet", "rules", "-R", "train")),
            ):
                took, _ = snakemake(folder, environment, *cores, *options)
                each = f"{1000 * took.seconds / took.jobs:.0f}" if took.jobs else ""
                print(
                    f"| {cells} | {call} | {took.jobs} | {took.seconds:.1f} | "
                    f"{took.processor_seconds:.1f} | {took.memory_mb:.0f} | {each} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
