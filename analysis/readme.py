"""README's blocks of results: the comparison of a study, written anew between two marks.

A block stands between ``<!-- NAME table -->`` and ``<!-- /NAME table -->``. It is the study's
``comparison_main.md``. Where git keeps no results it has the figure too, of which README's own copy
is kept, the code that trained the cells, and a fingerprint of them, so that a test can hold the
block to the study as it is.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from analysis import captions
from analysis.code_versions import trained_by
from analysis.tables import CELL, load
from ssl_bench.errors import StudyError, no_column, suggest
from ssl_bench.whole import whole

FIGURE = "interface_comparison"


class Block(NamedTuple):
    """Where a block's numbers come from; paths are relative to the page."""

    results: str
    """``results/<study>``."""
    picture: str | None = None
    """README's own copy of the figure; None where git keeps the study's."""


BLOCKS = {
    "main": Block("results/reference"),
    "default": Block("results/mini", "docs/pictures/default_study.png"),
}


def renew(name: str, page: Path) -> list[Path]:
    """Write a block of a page anew from its study's results; return the files written.

    Raises:
        StudyError: there is no such block, the page lacks its marks, or the study is not finished.
    """
    if name not in BLOCKS:
        raise StudyError(f"readme: unknown block {name!r}; {suggest(name, BLOCKS)}")
    block = BLOCKS[name]
    results = page.parent / block.results
    parts = split(_bytes(page).decode(), name, str(page))
    text = _bytes(results / "tables" / "comparison_main.md").decode().strip()
    written = [page]
    if block.picture:
        picture = _bytes(results / "figures" / f"{FIGURE}.png")
        text = "\n\n".join(
            [
                f"<!-- cells {_cells(results)} -->",
                f"![{captions.TITLES[FIGURE]}]({block.picture})",
                text,
                trained_by(load(results / "tables").results),
            ]
        )
        written.append(page.parent / block.picture)
        with whole(written[-1]) as place:
            place.write_bytes(picture)
    with whole(page) as place:
        place.write_text(f"{parts[0]}\n{text}\n{parts[2]}", encoding="utf-8")
    return written


def split(text: str, name: str, source: str) -> tuple[str, str, str]:
    """Split a page into what ends with a block's first mark, the block, and what follows.

    Raises:
        StudyError: the page does not have both marks, once each and in their order.
    """
    first, last = f"<!-- {name} table -->", f"<!-- /{name} table -->"
    if not text.count(first) == text.count(last) == 1 or text.index(first) > text.index(last):
        raise StudyError(f"{source}: expected {first} and after it {last}, once each")
    before, _, rest = text.partition(first)
    block, _, after = rest.partition(last)
    return before + first, block.strip(), last + after


def digest(cells: Iterable[tuple[str, str, str, str]]) -> str:
    """Return 16 hex digits that name cells: (task, upstream, interface, fingerprint) of each."""
    lines = sorted({" ".join(cell) for cell in cells})
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _cells(results: Path) -> str:
    frame = load(results / "tables").results
    if "fingerprint" not in frame:
        lacks = no_column("fingerprint", frame, [*CELL, "fingerprint"])
        raise StudyError(f"{results}/tables/results.csv: {lacks}")
    return digest(frame[[*CELL, "fingerprint"]].itertuples(index=False, name=None))


def _bytes(path: Path) -> bytes:
    if not path.is_file():
        raise StudyError(f"{path}: no such file; expected README.md here, and the study's results")
    return path.read_bytes()
