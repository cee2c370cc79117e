"""s3prl's SUPERB code, importable without the packages that only its loaders and logs need."""

import importlib
import sys
from collections.abc import Callable
from types import ModuleType

import huggingface_hub
import pytest
import torch
from rapidfuzz.distance import Levenshtein

from ssl_bench import registry
from ssl_bench.upstreams import s3prl


def stand_in(name: str, **members) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(members)
    return module


class Silent:
    """A summary writer that writes nothing."""

    def __init__(self, *_, **__) -> None: ...

    def add_scalar(self, *_, **__) -> None: ...

    def close(self) -> None: ...


MISSING = {
    # Its one function, by jiwer's engine: an implementation other than the one under test.
    "editdistance": stand_in("editdistance", eval=Levenshtein.distance),
    "catalyst": stand_in("catalyst"),
    "catalyst.data": stand_in("catalyst.data"),
    "catalyst.data.sampler": stand_in("catalyst.data.sampler", DistributedSamplerWrapper=None),
    "librosa": stand_in("librosa"),
    "librosa.util": stand_in("librosa.util", find_files=None),
    "sox": stand_in("sox", Transformer=None),
    "tensorboardX": stand_in("tensorboardX", SummaryWriter=Silent),
}
"""Packages that ``s3prl[all]`` would bring; those that are installed are left alone."""


def installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


@pytest.fixture(scope="session")
def superb() -> Callable[[str], ModuleType]:
    """Import a module of s3prl: ``superb("downstream.ctc.expert")``."""
    torch.set_num_threads(1)
    s3prl._hub()

    def load(name: str) -> ModuleType:
        with pytest.MonkeyPatch.context() as patch:
            for package, module in MISSING.items():
                if not installed(package):
                    patch.setitem(sys.modules, package, module)
            for gone in ("HfFolder", "Repository"):  # which the runner imports for uploads
                patch.setattr(huggingface_hub, gone, None, raising=False)
            return importlib.import_module(f"s3prl.{name}")

    return load


@pytest.fixture(scope="session")
def make_task() -> Callable:
    """Make a task from a table: ``make_task("pr", table, **keys)``."""

    def make(kind: str, table, **keys):
        module = registry.load("tasks", kind)
        return module.Task(module.Config(kind=kind, corpus="parity", **keys), table)

    return make


@pytest.fixture
def on_the_cpu(monkeypatch) -> None:
    """Let code that calls ``tensor.cuda()`` stay where it is."""
    monkeypatch.setattr(torch.Tensor, "cuda", lambda tensor, *_: tensor)
