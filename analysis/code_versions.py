"""Which code trained the cells of a table, and one line where it was not one and the same.

A cell that was interrupted and went on under another commit names both, ``abc + def``.
"""

from typing import Any

import pandas as pd

from analysis.tables import CELL
from ssl_bench.provenance import JOINED

CODE = ["git_commit", "version"]
UNKNOWN = "unknown"


def code(results: pd.DataFrame) -> list[dict[str, Any]]:
    """Return every (git_commit, version) with the number of its cells, most cells first.

    Args:
        results: ``results.csv``; a column that it lacks counts as unknown.
    """
    known = results.reindex(columns=[*CELL, *CODE]).astype(dict.fromkeys(CODE, object))
    cells = known.fillna(dict.fromkeys(CODE, UNKNOWN)).drop_duplicates()
    counts = cells.groupby(CODE, sort=False).size().reset_index(name="cells")
    counts = counts.sort_values(["cells", *CODE], ascending=[False, True, True])
    return [
        {**{name: str(row[name]) for name in CODE}, "cells": int(row["cells"])}
        for row in counts.to_dict("records")
    ]


def mixed(results: pd.DataFrame) -> str | None:
    """Say in one line that cells come from several versions of the code; None if they do not."""
    found = code(results)
    versions = {(commit, one["version"]) for one in found for commit in _commits(one)}
    if len(versions) < 2:
        return None
    listed = ", ".join(f"{_name(one)} ({one['cells']} cells)" for one in found)
    return f"Mixed code: the cells were trained by {len(versions)} versions of the code: {listed}."


def trained_by(results: pd.DataFrame) -> str:
    """Say in one line which code trained the cells, and on which devices.

    Args:
        results: ``results.csv``; a column that it lacks counts as unknown.
    """
    devices = results.get("device", pd.Series([UNKNOWN])).fillna(UNKNOWN).unique()
    listed = ", ".join(f"{_name(one)} ({one['cells']} cells)" for one in code(results))
    return f"Trained by {listed}, on {' and '.join(sorted(devices))}."


def _commits(one: dict[str, Any]) -> list[str]:
    found: list[str] = one["git_commit"].split(JOINED)
    return found


def _name(one: dict[str, Any]) -> str:
    parts = (commit.partition("-dirty") for commit in _commits(one))
    short = JOINED.join(commit[:12] + dirty for commit, dirty, _ in parts)
    return f"{short} of version {one['version']}"
