"""Where a number came from."""

import os
import platform
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

JOINED = " + "
"""Stands between the commits of a training that went on under another one."""


@cache
def commit() -> str:
    """Return the git commit of the code, ``-dirty`` if tracked files differ, or ``unknown``.

    ``GIT_COMMIT`` in the environment says it where the code was copied without its repository.
    """
    if "GIT_COMMIT" in os.environ:
        return os.environ["GIT_COMMIT"]
    here = Path(__file__).parent
    try:
        head = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"], cwd=here, capture_output=True, text=True
        )
        if head.returncode:
            return "unknown"
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            cwd=here,
            capture_output=True,
            text=True,
        )
    except FileNotFoundError:
        return "unknown"
    return head.stdout.strip() + ("-dirty" if changed.stdout.strip() else "")


@cache
def hardware() -> dict[str, Any]:
    """Return what this machine is, its GPU aside: processor, cores, memory in GB (10⁹ bytes)."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(pages / 1e9, 1),
        "system": platform.platform(),
    }


def _processor() -> str:
    """Return the processor's name; Linux tells it in a file alone."""
    known = Path("/proc/cpuinfo")
    lines = known.read_text().splitlines() if known.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return (names or [platform.processor() or platform.machine()])[0]
