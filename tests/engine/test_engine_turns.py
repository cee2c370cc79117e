"""Which interfaces are trained at once."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ssl_bench import turns
from ssl_bench.recipe import Training
from ssl_bench.runs import Run

TRAINING = Training(batch_seconds=96.0, buckets=4)


def runs(**counts: int) -> dict[str, list[Run]]:
    return {name: [Run(seed, 1e-3) for seed in range(count)] for name, count in counts.items()}


def features(device: str = "cuda", **others) -> SimpleNamespace:
    """Stand for states 13 × 192 in bf16, 50 a second: 24 MB in 96 s."""
    about = {"layers": 13, "dim": 192, "dtype": torch.bfloat16, "seconds_per_frame": 0.02}
    held = {"live": False, "host": None, "frames": np.array([100, 500])}
    return SimpleNamespace(device=torch.device(device), **about | held | others)


@pytest.fixture(autouse=True)
def memory(monkeypatch) -> None:
    monkeypatch.setattr(turns, "gpu_memory", lambda: 16e9)


def test_a_gpu_that_holds_the_states_takes_as_many_runs_as_fit() -> None:
    found = list(turns.turns(features(), TRAINING, runs(a=5, b=30, c=5, d=65, e=5)))
    assert [list(turn) for turn in found] == [["a", "b", "c"], ["d"], ["e"]]
    # 0.6 of 16 GB over 2.5 × 4 buckets × 24 MB
    assert turns.at_once(features(), TRAINING) == 40
    assert turns.at_once(features(layers=25), TRAINING) == 20
    assert turns.at_once(features(dim=24), TRAINING) == turns.STACKED
    assert turns.at_once(features(dim=192_000), TRAINING) == 1


def test_batches_of_utterances_count_by_the_longest() -> None:
    said = {"batch_utterances": 12, "buckets": 4}
    assert turns.at_once(features(), Training(**said)) == 32  # 12 utterances of at most 10 s
    assert turns.at_once(features(), Training(**said, crop_seconds=8.0)) == 40
    uneven = {"batches": "sorted", "last_batch": "shared"}
    assert turns.at_once(features(), Training(**said, **uneven)) == 16


@pytest.mark.parametrize("place", [{"device": "cpu"}, {"host": object()}])
def test_on_a_cpu_or_from_a_disk_one_interface_at_a_time(place) -> None:
    found = list(turns.turns(features(**place), TRAINING, runs(a=1, b=1)))
    assert [list(turn) for turn in found] == [["a"], ["b"]]


def test_states_that_are_made_anew_serve_all() -> None:
    found = list(turns.turns(features(live=True), TRAINING, runs(a=100, b=100)))
    assert [list(turn) for turn in found] == [["a", "b"]]


def test_crops_that_are_encoded_serve_all() -> None:
    training = Training(batch_utterances=12, crop_seconds=8.0, crop="waveform")
    found = list(turns.turns(features(), training, runs(a=100, b=100)))
    assert [list(turn) for turn in found] == [["a", "b"]]


def test_runs_of_one_interface_are_divided_evenly() -> None:
    def sizes(count: int) -> list[int]:
        return [len(part) for part in turns.parts(features(), runs(a=count)["a"])]

    assert sizes(5) == [5]
    assert sizes(72) == [72]
    assert sizes(125) == [63, 62]
