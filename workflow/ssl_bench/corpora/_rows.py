"""Read a TSV, CSV or JSONL of recordings as rows of strings that know their line."""

import csv
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ssl_bench.documents import not_json, not_utf8
from ssl_bench.errors import StudyError


class Row(NamedTuple):
    """One recording: the number of its row in the file, and its cells, stripped; "" is empty."""

    number: int
    cells: dict[str, str]


def read(path: Path) -> tuple[list[str], list[Row]]:
    """Return the columns and the rows of a manifest.

    A TSV has no quoting; a CSV has the usual one. Rows are numbered as a spreadsheet does, the
    header being row 1; in a JSONL, as lines.

    Raises:
        StudyError: no such file, another kind of file, not UTF-8, no rows, a row of another width
            than the header, a column named twice, a line that is not a JSON object.
    """
    if not path.is_file():
        raise StudyError(
            f"{path}: no such manifest; expected a file that ends in .tsv, .csv or .jsonl"
        )
    kind = path.suffix.lower()
    if kind not in (".tsv", ".csv", ".jsonl"):
        raise StudyError(
            f"{path}: found a name that ends in {kind!r}, expected .tsv, .csv or .jsonl"
        )
    try:
        # A spreadsheet's export may begin with a byte-order mark, which is no part of a name.
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(_json(path, file) if kind == ".jsonl" else _separated(path, file, kind))
    except UnicodeDecodeError:
        raise not_utf8(path) from None
    if not rows:
        raise StudyError(f"{path}: lists no recording; expected a row for each")
    columns = list(dict.fromkeys(name for row in rows for name in row.cells))
    return columns, rows


def _separated(path: Path, file: Any, kind: str) -> Iterator[Row]:
    if kind == ".tsv":
        reader = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
    else:
        reader = csv.reader(file, strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        twice = [name for name, count in Counter(header).items() if count > 1]
        if twice:
            raise StudyError(f"{path}: row 1: two columns are named {twice[0]!r}, expected one")
        for number, cells in enumerate(reader, start=2):
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(header):
                raise StudyError(
                    f"{path}: row {number}: found {len(cells)} cells, expected {len(header)} as in "
                    "the header"
                )
            yield Row(number, dict(zip(header, (cell.strip() for cell in cells), strict=True)))
    except csv.Error as error:
        said = f"expected cells of a CSV, found: {error}"
        if "end of data" in str(error):
            said = "expected a cell's closing quote, found the end of the file"
        raise StudyError(f"{path}: line {reader.line_num}: {said}") from None


def _json(path: Path, file: Any) -> Iterator[Row]:
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except json.JSONDecodeError as error:
            raise StudyError(
                f"{path}: line {number}: {not_json(error)} at column {error.colno}"
            ) from None
        if not isinstance(values, dict):
            found = f"found {line.strip()[:40]}"
            raise StudyError(f"{path}: line {number}: expected an object of columns, {found}")
        yield Row(number, {str(name): _text(path, number, name, v) for name, v in values.items()})


def _text(path: Path, number: int, name: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list) and all(isinstance(part, str | int) for part in value):
        return " ".join(map(str, value))
    if isinstance(value, dict | list):
        raise StudyError(
            f"{path}: line {number}: {name!r}: expected text, a number or a list of symbols, "
            f"found {json.dumps(value)[:40]}"
        )
    return str(value).strip()
