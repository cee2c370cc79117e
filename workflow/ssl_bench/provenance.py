"""Where a number came from."""

import os
import subprocess
from functools import cache
from pathlib import Path


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
