"""From recordings whose paths a shell could read to the table; the rest of the road runs in such a
folder in test_smoke_dag.py."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

pytestmark = [pytest.mark.smoke, pytest.mark.timeout(600)]

NEEDED = ("Snakefile", "workflow", "interfaces", "analysis", "models", "notebooks", "profiles")
AWKWARD = "mañana data; it's $HOME & (uno)"


def test_a_corpus_whose_path_has_spaces_quotes_and_letters_beyond_ascii(
    tmp_path, repository, tone
) -> None:
    root = tmp_path / f"site {AWKWARD}"
    root.mkdir()
    for name in NEEDED:
        (root / name).symlink_to(repository / name)
    manifest = Path(AWKWARD) / "lista ñ.tsv"
    rows = []
    for split, count in (("train", 8), ("dev", 4), ("test", 4)):
        for i in range(count):
            name = f'{split} ø/voz {i}\'s "a".wav'
            tone(root / AWKWARD / name, seconds=0.6, hertz=300 + 300 * (i % 2))
            rows.append([name, split, ("sí", "no; $(exit)")[i % 2], f"speaker {i}"])
    with (root / manifest).open("w", newline="", encoding="utf-8") as file:
        written = csv.writer(file, delimiter="\t", quoting=csv.QUOTE_NONE, quotechar=None)
        written.writerows([["path", "split", "keyword", "speaker"], *rows])
    study = {
        "name": "awkward",
        "title": AWKWARD,
        "device": "cpu",
        "seeds": 1,
        "corpora": {"own": {"kind": "manifest", "path": str(manifest)}},
        "upstreams": {"fbank": {"kind": "fbank"}},
        "tasks": {"ks": {"kind": "ks", "corpus": "own", "hidden": 8}},
        "interfaces": ["last"],
        "training": {"recipe": "none", "steps": 2, "batch_seconds": 4, "evaluations": 1},
        "sweep": {"learning_rates": [1e-3], "steps": 0.5},
    }
    (root / f"study {AWKWARD}.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    code = [str(repository / name) for name in ("workflow", "interfaces", "")]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "snakemake", "results/awkward/tables/results.csv"),
            *("--cores", "2", "--configfile", f"study {AWKWARD}.yaml"),
        ],
        cwd=root,
        env={
            **os.environ,
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONPATH": os.pathsep.join(code),
            "MPLBACKEND": "agg",
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(pd.read_csv(root / "results" / "awkward" / "tables" / "results.csv")) == 1
    assert {path.name for path in root.iterdir()} == {
        *NEEDED,
        AWKWARD,
        f"study {AWKWARD}.yaml",
        "work",
        "results",
        ".snakemake",
    }
