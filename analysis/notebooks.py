"""Run a notebook on a study's tables, and make a page of what it shows."""

from pathlib import Path

import papermill
from nbconvert import HTMLExporter

from ssl_bench.whole import whole


def run(source: Path, tables: Path, out: Path, page: Path) -> None:
    """Run a notebook in its folder; write it with its outputs, and a page without its code.

    Raises:
        StudyError: a file cannot be written: which, and why.
        PapermillExecutionError: a cell of it has failed.
    """
    with whole(out) as place:
        papermill.execute_notebook(
            source,
            place,
            parameters={"tables": str(tables)},
            cwd=source.parent,
            progress_bar=False,
        )
    exporter = HTMLExporter(
        exclude_input=True, exclude_input_prompt=True, exclude_output_prompt=True
    )
    html, _ = exporter.from_filename(str(out))
    with whole(page) as place:
        place.write_text(html, encoding="utf-8")
