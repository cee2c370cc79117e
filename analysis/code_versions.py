"""Which code trained the cells of a table, and one line where it was not one and the same."""

from typing import Any

import pandas as pd

from analysis.tables import CELL

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
    if len(found) < 2:
        return None
    listed = ", ".join(f"{_name(one)} ({one['cells']} cells)" for one in found)
    return f"Mixed code: the cells were trained by {len(found)} versions of the code: {listed}."


def _name(one: dict[str, Any]) -> str:
    commit, dirty, _ = one["git_commit"].partition("-dirty")
    return f"{commit[:12]}{dirty} of version {one['version']}"
