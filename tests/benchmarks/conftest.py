"""The benchmarks are scripts that import each other by file name; here they are importable too."""

import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def importable_benchmarks():
    folder = str(Path(__file__).resolve().parents[2] / "benchmarks")
    sys.path.insert(0, folder)
    yield
    sys.path.remove(folder)
