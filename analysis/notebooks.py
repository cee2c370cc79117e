"""Run a notebook on a study's tables, and make a page of what it shows."""

from pathlib import Path

import papermill
from nbconvert import HTMLExporter

from ssl_bench.whole import named


def run(source: Path, tables: Path, out: Path, page: Path) -> None:
    """Run a notebook in its folder; write it with its outputs, and a page without its code.

    Raises:
        StudyError: a file cannot be written: which, and why.
        PapermillExecutionError: a cell of it has failed; the notebook is left as far as it came.
    """
    with named(out):
        papermill.execute_notebook(
            source,
            out,
            parameters={"tables": str(tables)},
            cwd=source.parent,
            progress_bar=False,
        )
    exporter = HTMLExporter(
        exclude_input=True, exclude_input_prompt=True, exclude_output_prompt=True
    )
    html, _ = exporter.from_filename(str(out))
    with named(page):
        page.write_text(html, encoding="utf-8")
