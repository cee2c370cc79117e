"""The tables that all else is made from, as files inside the report."""

import base64
import gzip
from pathlib import Path
from typing import NamedTuple

from analysis.tables import FILES

CAPTIONS = Path(__file__).parents[1] / "workflow" / "report"
"""What each holds, as Snakemake's own report says it; scores are this package's to describe."""
SCORES = "Every test utterance or trial of every run: what was counted of it."


class Attachment(NamedTuple):
    """A table that the page offers as a file."""

    name: str
    address: str
    caption: str


def attachments(folder: Path) -> list[Attachment]:
    """Pack the tables that a study has; the same tables give the same bytes."""
    return [_attach(folder / file) for file in FILES.values() if (folder / file).is_file()]


def _attach(path: Path) -> Attachment:
    content, name, kind = path.read_bytes(), path.name, "application/vnd.apache.parquet"
    if path.suffix == ".csv":
        content, name, kind = gzip.compress(content, mtime=0), f"{name}.gz", "application/gzip"
    described = CAPTIONS / f"{path.stem}.rst"
    caption = described.read_text(encoding="utf-8") if described.is_file() else SCORES
    address = f"data:{kind};base64,{base64.b64encode(content).decode()}"
    return Attachment(name, address, " ".join(caption.replace("``", "").split()))
