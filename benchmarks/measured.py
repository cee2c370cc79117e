"""Measurements in the columns of ``workflow/ssl_bench/planning/throughput.csv``."""

import csv
import platform
from pathlib import Path
from typing import Any

import torch

COLUMNS = (
    "stage",
    "hardware",
    "layers",
    "dim",
    "task",
    "interface",
    "runs",
    "batch_seconds",
    "value",
    "unit",
    "source",
)
FOUND = ("value", "source")
"""Columns that say what was found; the others say of what."""


def hardware(device: torch.device) -> str:
    """Name the GPU or processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return platform.processor() or platform.machine()


def line(**columns: Any) -> dict[str, str]:
    """Return one measurement, ``columns`` that do not apply left empty.

    Raises:
        KeyError: ``columns`` has a name that the table does not have.
    """
    if unknown := columns.keys() - set(COLUMNS):
        raise KeyError(f"found {sorted(unknown)}, expected some of {', '.join(COLUMNS)}")
    return {name: str(columns.get(name, "")) for name in COLUMNS}


def record(path: Path, lines: list[dict[str, str]]) -> None:
    """Write measurements to a table; those of the same thing that are there are replaced.

    Raises:
        SystemExit: the file is there and has other columns.
    """
    kept: dict[tuple[str, ...], dict[str, str]] = {}
    if path.is_file():
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) != COLUMNS:
                raise SystemExit(
                    f"{path}: found columns {reader.fieldnames}, expected {', '.join(COLUMNS)}"
                )
            kept = {_what(row): row for row in reader}
    kept |= {_what(row): row for row in lines}
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept.values())


def _what(row: dict[str, str]) -> tuple[str, ...]:
    return tuple(row[name] for name in COLUMNS if name not in FOUND)
