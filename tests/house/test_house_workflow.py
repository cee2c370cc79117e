"""The workflow is clean under Snakemake's own linter."""

import subprocess
import sys
from pathlib import Path

ONE_ENVIRONMENT = "Specify a conda environment or container for each rule.:"
"""Not followed: all rules run in the one pinned environment of `make` and environment.yml."""


def test_snakemake_lint_finds_nothing_else(repository: Path) -> None:
    lint = subprocess.run(
        [sys.executable, "-m", "snakemake", "--lint"],
        cwd=repository,
        capture_output=True,
        text=True,
    )
    said = lint.stdout + lint.stderr
    found = {line.strip()[2:] for line in said.splitlines() if line.startswith("    * ")}
    assert found, f"the linter's output is not understood: {said[:500]}"
    assert found == {ONE_ENVIRONMENT}
