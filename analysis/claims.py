"""The paper's claims as paired tests: one row per claim, task and upstream, and a pooled verdict.

A comparison asks whether the first of two cells beats the second on the same test utterances.
``improvement`` is in points of the metric, positive where the first is better; ``relative`` is the
share of the second's error (metric, or 100 − metric where higher is better) that is gone, in
percent. Pooled rows average ``relative`` over tasks: with the same draws of speakers and the same
seeds in every cell, so that what cells have in common is not counted as independent.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from analysis import style
from analysis.comparison import ALPHA
from analysis.evidence import Evidence
from analysis.resampling import Draws, estimate, paired, paired_difference
from analysis.statistics import holm
from analysis.tables import Tables
from ssl_bench.whole import whole

PAIRS: tuple[tuple[str, str], ...] = (
    ("hconv", "weighted_sum"),
    ("hconv", "weighted_sum_mlp"),
    ("weighted_sum_mlp", "weighted_sum"),
    ("concat", "weighted_sum"),
    ("concat", "hconv"),
    ("cls_pooling", "weighted_sum"),
)
"""Interfaces compared on every task and upstream: (first, second)."""
RELU = "_relu"
"""Suffix of the task variant with one ReLU in its head."""
POOLED = "(pooled)"
COLUMNS = (
    "claim",
    "task",
    "upstream",
    "first",
    "second",
    "improvement",
    "low",
    "high",
    "relative",
    "relative_low",
    "relative_high",
    "p",
    "p_holm",
    "verdict",
    "n_seeds",
    "n_speakers",
    "n_test",
    "n_cells",
)


@dataclass(frozen=True)
class Test:
    """Two cells to compare."""

    claim: str
    task: str
    upstream: str
    first: tuple[str, str]
    """(task, interface) of the first cell; the second likewise."""
    second: tuple[str, str]


def planned(tables: Tables) -> list[Test]:
    """List the tests: every pair of interfaces, then the ReLU head against the linear one."""
    tests = [
        Test(_versus(*pair), task, upstream, (task, pair[0]), (task, pair[1]))
        for pair in PAIRS
        for upstream in tables.upstreams
        for task in tables.tasks
    ]
    for task in tables.tasks:
        if task + RELU in tables.tasks:
            claim = f"{style.task_name(task + RELU)} vs linear head"
            tests += [
                Test(claim, task, upstream, (task + RELU, interface), (task, interface))
                for upstream in tables.upstreams
                for interface in tables.interfaces
            ]
    return tests


def _versus(first: str, second: str) -> str:
    name = style.interface_name(second)
    name = name if name[1:2].isupper() else name[:1].lower() + name[1:]
    return f"{style.interface_name(first)} vs {name}"


def claims(tables: Tables, evidence: Evidence | None = None) -> pd.DataFrame:
    """Test every claim; a study that lacks one of a test's cells has no row for it.

    Holm's correction is over the tests of one claim; pooled rows are corrected over the claims.
    Pooled rows leave out baseline upstreams (a filterbank, random weights), whose own rows stay.
    """
    evidence = evidence or Evidence(tables)
    rows = []
    pools: dict[str, list[tuple[np.ndarray, np.ndarray, int]]] = {}
    for test in planned(tables):
        first = evidence.draws(test.first[0], test.upstream, test.first[1])
        second = evidence.draws(test.second[0], test.upstream, test.second[1])
        if first is None or second is None or not set(first.seeds) & set(second.seeds):
            continue
        higher = tables.metric(test.task)[1]
        rows.append(_row(test, first, second, higher))
        if not style.is_baseline(test.upstream):
            pools.setdefault(test.claim, []).append(relative_gain(*paired(first, second), higher))
    if not rows:
        return pd.DataFrame(columns=list(COLUMNS))
    table = pd.DataFrame(rows)
    for _, group in table.groupby("claim"):
        table.loc[group.index, "p_holm"] = holm(group["p"])
    pooled = pd.DataFrame([_pooled(claim, cells) for claim, cells in pools.items()])
    if len(pooled):
        pooled["p_holm"] = holm(pooled["p"])
        table = pd.concat([table, pooled], ignore_index=True)
    table["verdict"] = [
        _verdict(value, p) for value, p in zip(table["relative"], table["p_holm"], strict=True)
    ]
    return table.reindex(columns=list(COLUMNS))


def _row(test: Test, first: Draws, second: Draws, higher_is_better: bool) -> dict:
    points = paired_difference(first, second)
    sign = 1 if higher_is_better else -1
    low, high = sorted((sign * points.low, sign * points.high))
    first, second = paired(first, second)
    relative = estimate(*relative_gain(first, second, higher_is_better))
    return {
        "claim": test.claim,
        "task": test.task,
        "upstream": test.upstream,
        "first": test.first[1],
        "second": test.second[1],
        "improvement": sign * points.value,
        "low": low,
        "high": high,
        "relative": relative.value,
        "relative_low": relative.low,
        "relative_high": relative.high,
        "p": points.p,
        "n_seeds": len(first.seeds),
        "n_speakers": first.speakers,
        "n_test": first.utterances,
        "n_cells": 1,
    }


def relative_gain(
    first: Draws, second: Draws, higher_is_better: bool
) -> tuple[np.ndarray, np.ndarray, int]:
    """Return the share of the second's error that is gone in the first, in percent.

    Args:
        first: a cell, cut to the seeds of ``second`` (``resampling.paired``).
        second: the cell that it is compared with.
        higher_is_better: of the metric; the error is then 100 − metric.

    Returns:
        By seed (S,), on every resample (B,), and how many speakers were drawn from.
    """

    def error(values: np.ndarray) -> np.ndarray:
        return 100 - values if higher_is_better else values

    a, b = error(first.value), error(second.value)
    drawn_a, drawn_b = error(first.resampled).mean(1), error(second.resampled).mean(1)
    return 100 * (b - a) / b.mean(), 100 * (drawn_b - drawn_a) / drawn_b, first.speakers


def _pooled(claim: str, cells: Sequence[tuple[np.ndarray, np.ndarray, int]]) -> dict:
    seeds = min(len(per_seed) for per_seed, _, _ in cells)
    per_seed = np.mean([values[:seeds] for values, _, _ in cells], axis=0)
    joined = estimate(
        per_seed, np.mean([drawn for _, drawn, _ in cells], axis=0), min(k for _, _, k in cells)
    )
    return {
        "claim": claim,
        "task": POOLED,
        "upstream": POOLED,
        "relative": joined.value,
        "relative_low": joined.low,
        "relative_high": joined.high,
        "p": joined.p,
        "n_seeds": seeds,
        "n_cells": len(cells),
    }


def _verdict(value: float, p: float) -> str:
    if np.isnan(p):
        return "untested"
    if p > ALPHA:
        return "no difference shown"
    return "better" if value > 0 else "worse"


def markdown(table: pd.DataFrame) -> str:
    """Return the claims as Markdown: one section a claim, its pooled row last."""
    if table.empty:
        return "No claim can be tested: the study lacks the interfaces, or scores.parquet.\n"
    parts = []
    for claim, group in table.groupby("claim", sort=False):
        parts.append(f"### {claim}\n")
        shown = pd.DataFrame([_shown(row) for _, row in group.iterrows()])
        if group["first"].nunique() <= 1:
            shown = shown.drop(columns="interface")
        parts.append(shown.to_markdown(index=False, disable_numparse=True) + "\n")
    return "\n".join(parts)


def _shown(row: pd.Series) -> dict[str, str]:
    pooled = row["task"] == POOLED
    name = f"**pooled over {row['n_cells']} cells**" if pooled else style.task_name(row["task"])
    points = "" if pooled else f"{row['improvement']:+.2f} [{row['low']:+.2f}, {row['high']:+.2f}]"
    return {
        "task": name,
        "upstream": "" if pooled else style.upstream_name(row["upstream"]),
        "interface": "" if pooled else style.interface_name(row["first"]),
        "improvement, points": points,
        "relative, %": (
            f"{row['relative']:+.1f} [{row['relative_low']:+.1f}, {row['relative_high']:+.1f}]"
        ),
        "p": show_p(row["p"]),
        "p (Holm)": show_p(row["p_holm"]),
        "verdict": f"**{row['verdict']}**" if pooled else row["verdict"],
    }


def show_p(p: float) -> str:
    """Return a p value as it is printed."""
    return "–" if np.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def write(table: pd.DataFrame, out: Path, caption: str) -> list[Path]:
    """Write claims.csv and claims.md."""
    out.mkdir(parents=True, exist_ok=True)
    with whole(out / "claims.csv") as place:
        table.to_csv(place, index=False, float_format="%.6g")
    with whole(out / "claims.md") as place:
        place.write_text(f"{markdown(table)}\n{caption}\n", encoding="utf-8")
    return [out / "claims.csv", out / "claims.md"]
