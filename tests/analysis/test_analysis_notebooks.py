"""The notebooks run on any study's tables, and are stored without outputs."""

import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import nbformat
import papermill
import pytest

NAMES = ("results", "layers", "explore")


@pytest.mark.parametrize("name", NAMES)
def test_notebook_is_stored_clean(repository, name):
    notebook = nbformat.read(repository / "notebooks" / f"{name}.ipynb", as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    tagged = [cell for cell in code if "parameters" in cell.metadata.get("tags", [])]
    assert [cell.source for cell in tagged] == ['tables = "../results/mini/tables"']
    source = "\n".join(cell.source for cell in code)
    imports = [line for line in source.splitlines() if line.startswith(("import", "from"))]
    assert imports
    assert all("analysis" in line for line in imports)


@pytest.mark.parametrize("name", NAMES)
def test_notebook_runs(repository, small_folder, tmp_path, monkeypatch, name):
    pictures, out = run(repository, small_folder, tmp_path, monkeypatch, name)
    assert len(pictures) >= {"results": 6, "layers": 3, "explore": 2}[name]
    assert Path(out).stat().st_size > 10_000


@pytest.mark.parametrize("kept", [["hconv", "concat"], ["hconv"]], ids="+".join)
def test_explore_runs_without_a_weighted_sum(
    repository, small_frames, write, tmp_path, monkeypatch, kept
):
    frames = {k: f[f["interface"].isin(kept)] for k, f in small_frames.items() if f is not None}
    write(frames, tmp_path / "tables")
    pictures, _ = run(repository, tmp_path / "tables", tmp_path, monkeypatch, "explore")
    assert len(pictures) == len(kept)


def run(repository, tables, tmp_path, monkeypatch, name):
    roots = [repository, repository / "workflow", repository / "interfaces"]
    known = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([*map(str, roots), known]))
    out = tmp_path / f"{name}.ipynb"
    papermill.execute_notebook(
        repository / "notebooks" / f"{name}.ipynb",
        out,
        parameters={"tables": str(tables)},
        cwd=repository / "notebooks",
        progress_bar=False,
        kernel_name="python3",
    )
    notebook = nbformat.read(out, as_version=4)
    outputs = [o for cell in notebook.cells for o in cell.get("outputs", [])]
    pictures = [o for o in outputs if "image/png" in o.get("data", {})]
    return pictures, out


def test_a_page_shows_what_the_notebook_does_but_no_code(repository, small_folder, tmp_path):
    out, page = tmp_path / "explore.ipynb", tmp_path / "explore.html"
    done = notebook_command(repository, small_folder, out, page)
    assert done.returncode == 0, done.stderr
    cells = nbformat.read(out, as_version=4).cells
    shown = page.read_text(encoding="utf-8")
    assert "data:image/png;base64," in shown
    assert "import" in "".join(cell.source for cell in cells)
    assert "jp-InputArea-editor" not in re.sub(r"(?s)<style.*?</style>", "", shown)


def test_a_disk_that_is_full_is_one_line(repository, small_folder, tmp_path):
    """A file that may not grow beyond 512 bytes is as a disk without room."""
    out, page = tmp_path / "explore.ipynb", tmp_path / "explore.html"
    done = notebook_command(
        *(repository, small_folder, out, page),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (512, 512)),
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == f"error: {out}: cannot be written: File too large"
    assert "Traceback" not in done.stderr
    assert not page.exists()


def notebook_command(repository, tables, out, page, **options):
    source = repository / "notebooks" / "explore.ipynb"
    roots = [repository / "workflow", repository / "interfaces", repository]
    return subprocess.run(
        [
            *(sys.executable, "-m", "analysis", "notebook", "--source", source),
            *("--tables", tables, "--out", out, "--page", page),
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, roots))},
        **options,
    )
