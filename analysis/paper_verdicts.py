"""Whether each of the paper's claims holds in a study: verdicts, and the table of them.

A part of a claim *holds* where its number is on the claimed side and the test rejects the bound at
5 % (Holm's correction over all parts that could be tested), *does not hold* where it rejects the
bound on the other side, and is *not shown* where the test does not reject. A claim holds if all its
parts do, and does not if one of them does not.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis import style
from analysis.claims import show_p
from analysis.comparison import ALPHA
from analysis.evidence import Evidence
from analysis.paper import Place, names
from analysis.paper_claims import CLAIMS, Finding
from analysis.paper_gains import Own, Printed
from analysis.statistics import holm
from ssl_bench.whole import whole

_SHOWN = ("claim", "verdict", "ours, %", "published", "p (Holm)", "test", "note")
HOLDS, FAILS, OPEN, UNTESTED = "holds", "does not hold", "not shown", "not testable"
COLUMNS = (
    "claim",
    "part",
    "statement",
    "needs",
    "test",
    "estimate",
    "low",
    "high",
    "p",
    "p_holm",
    "verdict",
    "claim_verdict",
    "published",
    "n_cells",
    "n_seeds",
    "n_speakers",
    "note",
)


def claims(evidence: Evidence) -> pd.DataFrame:
    """Return one row per part of a claim, with the verdict on the part and on the whole claim.

    ``estimate``, ``low`` and ``high`` are in percent; ``published`` is the same quantity made from
    the published numbers, which have no interval.
    """
    own, printed = Own(evidence), Printed()
    rows = []
    for claim, (_, parts) in CLAIMS.items():
        for part in parts:
            row: dict[str, Any] = {"claim": claim, "part": part.name, "statement": part.statement}
            row |= {"needs": part.needs, "test": part.test}
            said = part.find(printed)
            found = part.find(own)
            row["published"] = said.value if said else np.nan
            rows.append(row | _row(found, evidence))
    table = pd.DataFrame(rows)
    table["p_holm"] = holm(table["p"])
    table["verdict"] = [
        _verdict(agrees, p) for agrees, p in zip(table["agrees"], table["p_holm"], strict=True)
    ]
    whole = table.groupby("claim")["verdict"].agg(lambda parts: together(list(parts)))
    table["claim_verdict"] = table["claim"].map(whole)
    return table.reindex(columns=list(COLUMNS)).astype(
        {"n_cells": "Int64", "n_seeds": "Int64", "n_speakers": "Int64"}
    )


def _row(found: Finding | None, evidence: Evidence) -> dict:
    if found is None:
        gap = "cells" if evidence.tables.scores is not None else "cells or scores.parquet"
        return {"p": np.nan, "agrees": None, "note": f"the study lacks the {gap}"}
    cells = {cell for made in found.gains for cell in made.cells}
    return {
        "estimate": found.value,
        "low": found.low,
        "high": found.high,
        "p": found.p,
        "agrees": found.agrees,
        "n_cells": len(cells),
        "n_seeds": min(len(made.by_seed) for made in found.gains),
        "n_speakers": min(made.speakers for made in found.gains),
        "note": "; ".join(filter(None, [found.note, *_standing_in(cells, evidence)])),
    }


def _standing_in(cells: set[Place], evidence: Evidence) -> Iterator[str]:
    for axis, known in names()["stand_ins"].items():
        there = set(getattr(evidence.tables, axis))
        show = style.upstream_name if axis == "upstreams" else style.task_name
        for name in sorted({getattr(cell, axis.removesuffix("s")) for cell in cells}):
            taken = [own for own in known.get(name, []) if own in there]
            if taken and not there.intersection(_listed(axis, name)):
                yield f"{show(taken[0])} for {show(name)}"


def _listed(axis: str, name: str) -> list[str]:
    entry = names()[axis][name]
    return entry["names"] if isinstance(entry, dict) else entry


def _verdict(agrees: bool | None, p: float) -> str:
    if agrees is None or np.isnan(p):
        return UNTESTED
    if p > ALPHA:
        return OPEN
    return HOLDS if agrees else FAILS


def together(parts: list[str]) -> str:
    """Join the verdicts on a claim's parts: the first of these that one of them has."""
    return next(verdict for verdict in (FAILS, UNTESTED, OPEN, HOLDS) if verdict in parts)


def markdown(table: pd.DataFrame) -> str:
    """Return the claims as a Markdown table, the parts of each below it."""
    return pd.DataFrame(shown(table)).to_markdown(index=False, disable_numparse=True) + "\n"


def shown(table: pd.DataFrame) -> list[dict[str, str]]:
    """Return the rows as they are printed."""
    rows = []
    for claim, parts in table.groupby("claim", sort=False):
        title = CLAIMS[str(claim)][0]
        whole = {
            "claim": f"**{claim}. {title}**",
            "verdict": f"**{parts['claim_verdict'].iloc[0]}**",
        }
        rows.append(dict.fromkeys(_SHOWN, "") | whole)
        for _, part in parts.iterrows():
            texts = (
                part["statement"],
                part["verdict"],
                _interval(part),
                f"{part['published']:+.1f}",
                show_p(part["p_holm"]),
                part["test"],
                part["note"],
            )
            rows.append(dict(zip(_SHOWN, texts, strict=True)))
    return rows


def _interval(part: pd.Series) -> str:
    if pd.isna(part["estimate"]):
        return "–"
    text = f"{part['estimate']:+.1f}"
    return text if pd.isna(part["low"]) else f"{text} [{part['low']:+.1f}, {part['high']:+.1f}]"


def write(table: pd.DataFrame, out: Path, caption: str) -> list[Path]:
    """Write paper_claims.csv and paper_claims.md."""
    out.mkdir(parents=True, exist_ok=True)
    with whole(out / "paper_claims.csv") as place:
        table.to_csv(place, index=False, float_format="%.6g")
    with whole(out / "paper_claims.md") as place:
        place.write_text(f"{markdown(table)}\n{caption}\n", encoding="utf-8")
    return [out / "paper_claims.csv", out / "paper_claims.md"]
