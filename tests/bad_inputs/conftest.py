"""The finished study, made once; a copy of it for each row."""

import shutil
import sys
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path

import pytest
import torch
from bad_inputs import house

from analysis import __main__ as analysis
from ssl_bench import __main__ as ssl_bench


def call(command: str) -> int:
    """Run a command as ``python -m`` would, in this process; return its exit status."""
    package, arguments = house.words(command)
    program = {"ssl_bench": ssl_bench, "analysis": analysis}[package]
    with pytest.raises(SystemExit) as end:
        program.main(arguments)
    sys.stdout.flush()
    return int(end.value.code or 0)


@pytest.fixture(scope="session")
def finished(tmp_path_factory, hubert_folder) -> Path:
    """The study with every stage run."""
    folder = tmp_path_factory.mktemp("finished")
    with chdir(folder):
        shutil.copytree(hubert_folder, "encoder")
        house.build()
        for command in house.STAGES:
            assert call(command) == 0, command
    return folder


@pytest.fixture
def at(finished, tmp_path, monkeypatch) -> Callable[[str], Path]:
    """Return a function that makes a copy of the study as it is when a stage begins."""

    def make(command: str) -> Path:
        place = tmp_path / "study"
        shutil.copytree(finished, place)
        monkeypatch.chdir(place)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # on every machine
        later = house.STAGES[house.STAGES.index(command) :] if command in house.STAGES else ()
        for path in (path for stage in later for path in house.LEAVES[stage]):
            shutil.rmtree(path) if Path(path).is_dir() else Path(path).unlink(missing_ok=True)
        return place

    return make
