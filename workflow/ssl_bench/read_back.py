"""Read back what an earlier stage wrote; what is not whole is told in one line."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pandas as pd

from ssl_bench.documents import not_json, not_utf8
from ssl_bench.errors import StudyError, no_column

AGAIN = "delete it and run its stage again"


def json_of(path: Path) -> Any:
    """Return what a JSON file holds.

    Raises:
        StudyError: it is not there, or not JSON.
    """
    _demand(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}"
        raise StudyError(f"{path}: {not_json(error)} at {place}; {AGAIN}") from None
    except UnicodeDecodeError:
        raise StudyError(f"{not_utf8(path)}; {AGAIN}") from None


def csv_of(path: Path, columns: Collection[str] = (), **options: Any) -> pd.DataFrame:
    """Return a CSV file as ``pandas.read_csv`` does with ``options``.

    Raises:
        StudyError: it is not there, cannot be read, or lacks one of ``columns``.
    """
    _demand(path)
    try:
        frame = pd.read_csv(path, **options)
    except (ValueError, OSError) as error:
        raise StudyError(
            f"{path}: not readable: expected CSV, found: {_line(error)}; {AGAIN}"
        ) from None
    for name in columns:
        if name not in frame:
            raise StudyError(f"{path}: {no_column(name, frame, columns)}")
    return frame


def parquet_of(path: Path) -> pd.DataFrame:
    """Return a Parquet file as a table.

    Raises:
        StudyError: it is not there, or cannot be read.
    """
    _demand(path)
    try:
        return pd.read_parquet(path)
    except (ValueError, OSError) as error:
        found = f"found {path.stat().st_size:,} bytes that are none"
        raise StudyError(
            f"{path}: expected a whole Parquet file, {found} ({_line(error)}); {AGAIN}"
        ) from None


def demand_size(path: Path, expected: int) -> None:
    """Raise StudyError unless a file has so many bytes."""
    _demand(path)
    found = path.stat().st_size
    if found != expected:
        raise StudyError(f"{path}: {found} bytes found, {expected} expected; {AGAIN}")


def _demand(path: Path) -> None:
    if not path.is_file():
        raise StudyError(f"{path}: no such file; expected what an earlier stage makes: run that")


def _line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
