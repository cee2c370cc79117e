"""Small label tables and tasks that the tests of this area share."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
import torch

from ssl_bench import registry

KEYS = {"er": {"column": "keyword"}}
"""Keys beyond kind and corpus that make a kind fit the small table."""

RECOGNISER = {
    "projection": 12,
    "dim": 16,
    "layers": 1,
    "attention_heads": 2,
    "feed_forward": 32,
    "specaugment": None,
    "dropout": 0.0,
}
SMALL = {
    "pr": {"hidden": 16},
    "asr": {"hidden": 16, "layers": 1, "specaugment": None, "dropout": 0.0},
    "sf": {"hidden": 16, "layers": 1, "specaugment": None, "dropout": 0.0},
    "mono_asr": RECOGNISER,
    "multi_asr": RECOGNISER,
    "multi_lid": RECOGNISER,
    "sv": {"hidden": 24, "pooled": 32},
}


def small_table(per_split: int = 12, speakers: str = "disjoint") -> pd.DataFrame:
    """A corpus with every label: three words, each a keyword, spelt and in phones."""
    words = [("yes", "Y EH S"), ("no", "N OW"), ("stop", "S T AA P")]
    rows = []
    for split in ("train", "dev", "test"):
        for i in range(per_split):
            word, phones = words[i % 3]
            who = f"{split}-{i % 4}" if speakers == "disjoint" else f"s{i % 4}"
            rows.append(
                {
                    "id": f"{split}-{i:02}",
                    "split": split,
                    "duration": 30.0,
                    "text": f"{word} {words[(i + 1) % 3][0]}",
                    "slots": f"{('answer', 'order', 'O')[i % 3]} O",
                    "phones": f"{phones} {words[(i + 1) % 3][1]}",
                    "speaker": who,
                    "language": ("en", "de")[i % 2],
                    "keyword": word,
                    "action": ("on", "off")[i % 2],
                    "object": ("lamp", "fan")[i // 2 % 2],
                    "location": ("hall", "attic", "none")[i % 3],
                }
            )
    return pd.DataFrame(rows)


def make_task(kind: str, table: pd.DataFrame | None = None, **keys):
    """Make a task of the small table, or of another one."""
    module = registry.load("tasks", kind)
    if table is None:
        shared = kind == "sid"
        table = small_table(speakers="shared" if shared else "disjoint")
    keys = {**KEYS.get(kind, {}), **keys}
    config = module.Config.model_validate({"kind": kind, "corpus": "small", **keys})
    return module.Task(config, table)


def batch(dim: int, lengths: list[int], seed: int = 0, dtype=torch.float32):
    """Random features (B, T, dim), zero beyond their lengths, and the lengths."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(len(lengths), max(lengths), dim, generator=generator, dtype=dtype)
    lengths = torch.tensor(lengths)
    inside = torch.arange(features.shape[1]) < lengths[:, None]
    return features * inside[..., None], lengths


class Support:
    """The helpers above, handed to tests by a fixture (test files cannot import a conftest)."""

    small = SMALL
    table = staticmethod(small_table)
    task = staticmethod(make_task)
    batch = staticmethod(batch)


@pytest.fixture(scope="session")
def small() -> type[Support]:
    torch.set_num_threads(1)
    return Support


@pytest.fixture(scope="session")
def s3prl_module() -> Callable[[str], ModuleType]:
    """Return what loads one file of s3prl by its path, without importing the package."""
    found = importlib.util.find_spec("s3prl")
    if found is None or found.origin is None:
        pytest.skip("s3prl is not installed")
    folder = Path(found.origin).parent

    def load(path: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(f"their_{Path(path).stem}", folder / path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="session")
def specaug(s3prl_module) -> ModuleType:
    """s3prl's SpecAugment."""
    return s3prl_module("downstream/specaug.py")
