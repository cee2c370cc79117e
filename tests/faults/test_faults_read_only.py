"""A folder that cannot be written is told in one line, before anything is computed."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_site import STAGES, Site

pytestmark = [pytest.mark.smoke, pytest.mark.slow]


@pytest.fixture
def read_only(tmp_path) -> Iterator[Path]:
    """A folder that is mounted without the right to write: root heeds no permission bits."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"mounts nothing read-only: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("part", ["results", "work"])
def test_snakemake_says_so_before_its_first_job(everything, site, read_only, part) -> None:
    made = site()
    (made.root / part).symlink_to(read_only)
    assert made.run() == 1
    errors = [line for line in made.said().splitlines() if "error" in line.lower()]
    line = f"error: {part}/small: cannot be written: Read-only file system"
    assert errors == [line], made.said()
    assert "localrule" not in made.said()
    other = {"results": "work", "work": "results"}[part]
    assert not list((made.root / other).rglob("*.json"))


def test_a_stage_says_so_before_it_computes(everything, site, read_only) -> None:
    made = site()
    (made.root / "results").symlink_to(read_only)
    for stage in STAGES:
        done = made.stage(*stage)
        if stage[0] in ("sweep", "train", "collect"):
            assert done.returncode == 2
            (line,) = done.stdout.splitlines()
            assert line.startswith("error: results/small/")
            assert line.endswith(": cannot be written: Read-only file system")
        else:
            assert done.returncode == 0, done.stdout


def test_the_whole_folder(everything, site: Site, read_only) -> None:
    """Snakemake keeps its own notes in it, and is the first to say so."""
    made = site()
    made.environment["HOME"] = str(made.root)
    folder = made.root / "folder"
    folder.mkdir()
    for name in [*made.root.iterdir()]:
        if name != folder:
            (folder / name.name).symlink_to(name)
    subprocess.run(["mount", "--bind", folder, folder], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=True)
        made.root = folder
        assert made.run() == 1
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
        made.root = folder.parent
    said = (folder.with_name("folder.log")).read_text()
    assert "Read-only file system" in said
    assert "localrule" not in said
