"""A long batch of runs in one process holds on to nothing: tensors, memory, open files."""

import gc
import shutil
from typing import NamedTuple

import psutil
import pytest
import torch

from ssl_bench import cells
from ssl_bench.study import Study

WARM, ROUNDS = 4, 25
"""Rounds of eight runs: two interfaces, two learning rates and two seeds each."""
MOST = 24.0
"""MB of resident memory by which 200 runs may grow: the allocator's noise, with room."""


class Held(NamedTuple):
    """What a process holds."""

    tensors: int
    files: int
    megabytes: float


def held() -> Held:
    gc.collect()
    tensors = sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())
    process = psutil.Process()
    return Held(tensors, process.num_fds(), process.memory_info().rss / 2**20)


def once(study: Study) -> None:
    shutil.rmtree(study.results, ignore_errors=True)
    cells.sweep(study, "ks", "mini", "all")
    cells.run(study, "ks", "mini", "all")


@pytest.fixture
def study(ready) -> Study:
    return ready(tasks={"ks": {"kind": "ks", "corpus": "tones", "hidden": 8}}, cache="disk")


@pytest.mark.slow
def test_two_hundred_runs_hold_on_to_nothing(study) -> None:
    for _ in range(WARM):
        once(study)
    before = held()
    for _ in range(ROUNDS):
        once(study)
    after = held()
    print(f"{before} → {after}")
    assert after.tensors == before.tensors
    assert after.files == before.files
    assert after.megabytes - before.megabytes < MOST


def test_a_leak_would_be_seen(study, monkeypatch) -> None:
    kept = []
    real = cells.evaluate

    def keeping(runs, *rest, **keys):
        kept.append(runs)
        return real(runs, *rest, **keys)

    monkeypatch.setattr(cells, "evaluate", keeping)
    once(study)
    before = held()
    once(study)
    assert held().tensors > before.tensors
