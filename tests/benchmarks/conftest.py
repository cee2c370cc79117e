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


@pytest.fixture(autouse=True, scope="module")
def s3prl_is_imported_anew():
    """Forget modules of s3prl that were imported with stand-ins: other tests have better ones."""
    yield
    for name in [n for n in sys.modules if n.startswith(("s3prl.downstream", "s3prl.metric"))]:
        del sys.modules[name]
