"""s3prl's SUPERB code, importable without the packages that only its loaders and logs need.

And what the tests of heads share.
"""

import importlib
import importlib.util
import sys
from collections.abc import Callable
from types import ModuleType

import huggingface_hub
import pandas as pd
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
    s3prl.hub()

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


@pytest.fixture
def doubled(monkeypatch):
    """Let both sides compute in double precision.

    Adam's first step is the sign of the gradient. Where that is all but zero, the rounding of
    single precision decides it, and processors round differently.
    """
    usual = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    monkeypatch.setattr(torch, "FloatTensor", torch.DoubleTensor)
    yield
    torch.set_default_dtype(usual)


DIM = 768
LENGTHS = (61, 40, 77, 52)


def features(lengths=LENGTHS, seed=0):
    """Random features as s3prl takes them, (T, D) each, and as ours does, padded with lengths."""
    generator = torch.Generator().manual_seed(seed)
    each = [torch.randn(n, DIM, generator=generator) for n in lengths]
    return each, torch.nn.utils.rnn.pad_sequence(each, batch_first=True), torch.tensor(lengths)


def table(labels, **extra):
    """A corpus whose three splits have the same labels; columns by name, lists of equal length."""
    rows = []
    for split in ("train", "dev", "test"):
        part = pd.DataFrame({**labels, **extra})
        part.insert(0, "id", [f"{split}-{i:04}" for i in range(len(part))])
        rows.append(part.assign(split=split, duration=1.0))
    return pd.concat(rows, ignore_index=True)


def copy(head, weights):
    """Load weights whose shapes must be all of the head's."""
    expected = {name: tuple(value.shape) for name, value in head.state_dict().items()}
    assert {name: tuple(value.shape) for name, value in weights.items()} == expected
    head.load_state_dict(weights)
    return head.eval()


def close(found, expected):
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def count(module):
    return sum(p.numel() for p in module.parameters())


def loss_of(task, head, padded, lengths, ids):
    outputs, out_lengths = head(padded, lengths)
    targets, target_lengths = task.targets_for(ids)
    return outputs, task.loss(outputs, out_lengths, targets, target_lengths).mean()


class Heads:
    """The helpers above, handed to tests by a fixture (test files cannot import a conftest)."""

    dim = DIM
    features = staticmethod(features)
    table = staticmethod(table)
    copy = staticmethod(copy)
    close = staticmethod(close)
    count = staticmethod(count)
    loss_of = staticmethod(loss_of)


@pytest.fixture(scope="session")
def heads() -> type[Heads]:
    return Heads
