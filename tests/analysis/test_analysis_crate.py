"""The folder of a study as an RO-Crate: every file, what it is, and what made it."""

import hashlib
import json
from pathlib import Path

import pytest
from rocrate.rocrate import ROCrate

from analysis import crate
from ssl_bench.errors import StudyError

FILES = {
    "tables/results.csv": b"task,test\nks,50\n",
    "figures/layers of ñ.png": b"png",
    "figures/captions.json": b'{"layers of \xc3\xb1": {"title": "Layers", "caption": "Which."}}',
    "cells/ks/fbank/all/last/weights.safetensors": b"weights",
    "report.html": b"<html></html>",
}
ORIGIN = {
    "cells": 1,
    "runs": 2,
    "git_commits": ["abc", "def"],
    "versions": {"torch": ["2.11.0"], "numpy": ["2.4", "2.5"]},
    "study": {"name": "small", "title": "A small study", "seeds": 2},
}


@pytest.fixture
def results(tmp_path) -> Path:
    for name, content in {**FILES, "cells/.sweeps/last.csv": b"hidden"}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    (tmp_path / "provenance.json").write_text(json.dumps(ORIGIN))
    return tmp_path


def test_every_file_is_described_and_none_is_touched(results) -> None:
    before = {path: path.read_bytes() for path in results.rglob("*") if path.is_file()}
    for _ in range(2):  # once more over its own metadata
        written = crate.write(results)
    assert written == results / "ro-crate-metadata.json"
    after = {path: path.read_bytes() for path in results.rglob("*") if path.is_file()}
    assert {path: after[path] for path in before} == before
    assert set(after) - set(before) == {written}

    read = ROCrate(results)
    described = {entity["name"]: entity for entity in read.get_by_type("File")}
    assert set(described) == {Path(name).name for name in FILES} | {"provenance.json"}
    table = described["results.csv"]
    assert table["sha256"] == hashlib.sha256(FILES["tables/results.csv"]).hexdigest()
    assert (table["encodingFormat"], table["contentSize"]) == ("text/csv", "16")
    assert described["layers of ñ.png"]["description"] == "Layers. Which."
    assert (results / described["layers of ñ.png"].source).read_bytes() == b"png"


def test_what_made_the_files(results) -> None:
    crate.write(results)
    read = ROCrate(results)
    assert read.name == "A small study"
    assert "1 cells, 2 runs of the study 'small'" in read.description
    (action,) = read.get_by_type("CreateAction")
    assert set(action["result"]) == set(read.get_by_type("File"))
    assert json.loads(action["description"]) == ORIGIN["study"]
    engine = action["instrument"]
    assert engine["version"] == "abc, def"
    assert engine["softwareRequirements"] == ["torch 2.11.0", "numpy 2.4 or 2.5"]


def test_no_finished_study(tmp_path) -> None:
    with pytest.raises(StudyError, match=r"no provenance.json, expected the folder of a finished"):
        crate.write(tmp_path)
