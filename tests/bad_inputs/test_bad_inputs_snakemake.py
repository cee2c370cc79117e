"""The same mistakes through Snakemake: one line of ours among its own, and no traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from bad_inputs import house
from bad_inputs.house import SPOILT, gone, keys, swap, text

TABLE = "work/tiny/corpora/tones/table.parquet"
MODEL = "models/hubert-mini-13"
CASES = {
    "unknown key": (keys(seedz=2), "study.yaml: unknown key 'seedz'; did you mean 'seeds'?"),
    "a name twice": (
        swap("study.yaml", "tasks:\n", "tasks:\n  ks: {kind: ks, corpus: tones}\n"),
        "study.yaml: line 18: key 'ks' stands twice",
    ),
    "a recording that is not there": (
        gone(SPOILT),
        f"corpora.tones: 1 files are missing: row 11: {SPOILT}",
    ),
    "a recording that is none": (
        text(SPOILT, "not audio"),
        f"list.tsv: 1 recordings cannot be used: row 11: {SPOILT}: not readable as audio",
    ),
}


@pytest.mark.parametrize(("spoil", "expected"), CASES.values(), ids=CASES)
def test_a_mistake_through_snakemake(repository, tmp_path, monkeypatch, spoil, expected) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("Snakefile", "workflow", "interfaces", "analysis", "models", "profiles"):
        Path(name).symlink_to(repository / name)
    house.build()
    spoil()
    swap("study.yaml", "model: encoder", f"model: {MODEL}")()
    code = [str(repository / name) for name in ("workflow", "interfaces", "")]
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", TABLE, "--cores", "1", "--configfile", "study.yaml"],
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONPATH": os.pathsep.join(code),
        },
    )
    said = done.stdout + done.stderr
    assert done.returncode == 1, said
    (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert expected in line
    assert "Traceback" not in said
    assert not Path("work/tiny/corpora/tones").exists()
