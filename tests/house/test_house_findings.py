"""docs/findings.md: no interval and no p that the tables do not have."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest

from analysis.__main__ import main

NUMBER = r"([+−]?\d+\.\d)"
STATED = re.compile(
    rf"{NUMBER}(?: %| points)? \[{NUMBER}, {NUMBER}\](?:, p (?P<sign>[=<]) (?P<p>0\.\d+))?"
)


class Row(NamedTuple):
    """A value with its interval, to the page's one decimal, and the corrected p."""

    value: float
    low: float
    high: float
    p: float


def rows(tables: Path) -> Iterator[Row]:
    """Every comparison of claims.csv and every part of paper_claims.csv, both ways round."""
    claims, paper = (pd.read_csv(tables / f"{name}.csv") for name in ("claims", "paper_claims"))
    columns = ["relative", "relative_low", "relative_high"]
    parts = [(claims, columns), (paper, ["estimate", "low", "high"])]
    for frame, names in parts:
        for value, low, high, p in frame[[*names, "p_holm"]].dropna(subset=names).to_numpy():
            yield Row(*(round(x, 1) for x in (value, low, high)), p)
            yield Row(*(round(-x, 1) for x in (value, high, low)), p)


@pytest.fixture(scope="module")
def page(repository):
    return (repository / "docs" / "findings.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def known(page, repository, tmp_path_factory):
    """Rows of the committed tables, and of those that the page says how to make."""
    place = tmp_path_factory.mktemp("findings")
    (place / "results").symlink_to(repository / "results")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        exec(re.search(r"```python\n(.*?)```", page, re.DOTALL)[1], {})
        command = re.search(r"^    python -m analysis (tables .*)$", page, re.MULTILINE)[1]
        with pytest.raises(SystemExit) as ended:
            main(command.split())
        assert not ended.value.code
    committed = repository / "results" / "reference" / "tables"
    return {*rows(committed), *rows(place / "work" / "without-asr")}


@pytest.mark.slow
def test_every_interval_is_in_a_table(page, known):
    stated = list(STATED.finditer(page.replace("\n", " ")))
    assert len(stated) > 30
    for match in stated:
        value, low, high = (float(n.replace("−", "-")) for n in match.groups()[:3])
        found = {row.p for row in known if row[:3] == (value, low, high)}
        assert found, f"no table has {match[0]!r}"
        if match["p"]:
            p, decimals = float(match["p"]), len(match["p"]) - 2
            below = match["sign"] == "<"
            assert any(x < p if below else round(x, decimals) == p for x in found), (
                f"{match[0]!r}: the table's p is {sorted(found)}"
            )
