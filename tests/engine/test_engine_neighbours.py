"""Batches of the published recipes: at random, of neighbours, from each place once a pass."""

from collections import Counter

import numpy as np
import pytest
import torch

from ssl_bench import cells, training
from ssl_bench.neighbours import grouped_batches, groups_of
from ssl_bench.runs import Run
from ssl_bench.sampling import Batch

RNG = np.random.default_rng(0)
FRAMES = RNG.integers(20, 300, size=97)
LABELS = RNG.integers(3, 40, size=97)
ROWS = np.arange(1000, 1097)
WAYS = ("random", "sorted", "sliding")


def draw(
    way: str, seeds: list[int], steps: int = 60, size: int = 8, of: int = 8, widths: int = 4, **keys
) -> list[Batch]:
    groups = groups_of(way, LABELS if way == "sliding" else FRAMES, of)
    each = size if way == "random" else size // of
    return list(grouped_batches(ROWS, FRAMES, groups, each, widths, steps, seeds, **keys))


# ---- groups


def test_sorted_groups_hold_neighbours_and_everybody() -> None:
    groups = groups_of("sorted", FRAMES, 8)
    assert groups.shape == (13, 8)
    assert (np.diff(FRAMES[groups]) <= 0).all()
    assert set(groups.ravel()) == set(range(97))
    # 97 = 12 * 8 + 1: the shortest and the seven before it
    np.testing.assert_array_equal(groups[-1, :-1], groups[-2, 1:])


def test_sliding_groups_begin_at_each_place() -> None:
    groups = groups_of("sliding", LABELS, 8)
    assert groups.shape == (97, 8)
    assert (np.diff(LABELS[groups]) <= 0).all()
    counts = Counter(groups.ravel().tolist())
    assert sum(counts.values()) == 97 * 8
    middle = groups[7:82].ravel()
    assert {counts[place] for place in groups[40]} == {8}
    assert set(middle) <= set(range(97))
    assert (groups[-8:] == groups[-8]).all()  # those too near the end


def test_utterances_of_one_length_stay_in_their_order() -> None:
    np.testing.assert_array_equal(groups_of("sorted", np.full(8, 5), 4), np.arange(8).reshape(2, 4))


# ---- batches


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("crop", [None, 150])
def test_batches_are_of_few_shapes_that_hold_all_of_all_seeds(way: str, crop: int | None) -> None:
    batches = draw(way, [0, 1], 200, crop=crop)
    assert {batch.rows.shape for batch in batches} == {(2, 8)}
    assert len({batch.width for batch in batches}) <= 4
    used = FRAMES if crop is None else np.minimum(FRAMES, crop)
    for batch in batches:
        assert used[batch.rows - 1000].max() <= batch.width <= used.max()
        assert (batch.starts is None) is (crop is None)


@pytest.mark.parametrize("way", WAYS)
def test_widths_are_needed_about_equally_often(way: str) -> None:
    counts = Counter(batch.width for batch in draw(way, [0], 2000))
    assert len(counts) == 4
    assert min(counts.values()) > 2000 / 4 / 2


@pytest.mark.parametrize("way", WAYS)
def test_more_widths_pad_less(way: str) -> None:
    padded = [sum(b.width for b in draw(way, [0], 200, widths=n)) for n in (1, 4, 16)]
    assert padded[0] > padded[1] > padded[2]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("crop", [None, 150])
def test_a_seed_sees_the_same_utterances_alone_and_in_company(way: str, crop: int | None) -> None:
    pairs = zip(draw(way, [3], crop=crop), draw(way, [0, 3, 5], crop=crop), strict=True)
    for alone, together in pairs:
        np.testing.assert_array_equal(alone.rows[0], together.rows[1])
        if crop is not None:
            np.testing.assert_array_equal(alone.starts[0], together.starts[1])


@pytest.mark.parametrize("way", WAYS)
def test_seeds_differ_and_equal_seeds_agree(way: str) -> None:
    batches = draw(way, [0, 1, 0])
    assert any((b.rows[0] != b.rows[1]).any() for b in batches)
    assert all((b.rows[0] == b.rows[2]).all() for b in batches)


def of_a_pass(way: str, number: int) -> list[tuple[int, ...]]:
    groups = groups_of(way, LABELS if way == "sliding" else FRAMES, 8)
    batches = draw(way, [0], 2 * len(groups))[number * len(groups) : (number + 1) * len(groups)]
    return [tuple(batch.rows[0] - 1000) for batch in batches]


@pytest.mark.parametrize("way", ["sorted", "sliding"])
def test_each_pass_has_the_same_groups_in_a_new_order(way: str) -> None:
    first, second = of_a_pass(way, 0), of_a_pass(way, 1)
    groups = groups_of(way, LABELS if way == "sliding" else FRAMES, 8)
    assert Counter(first) == Counter(second) == Counter(map(tuple, groups.tolist()))
    assert first != second


def test_random_batches_draw_each_utterance_once_a_pass() -> None:
    rows = np.concatenate([batch.rows[0] for batch in draw("random", [0], 97)])
    assert set(Counter(rows.tolist()).values()) == {8}


def test_groups_of_a_batch_are_drawn_apart() -> None:
    groups = {tuple(ROWS[group]) for group in groups_of("sorted", FRAMES, 4)}
    batches = draw("sorted", [0], 30, size=16, of=4)
    found = [tuple(part) for batch in batches for part in batch.rows[0].reshape(4, 4)]
    assert set(found) == groups
    spans = [np.ptp(FRAMES[batch.rows - 1000]) for batch in batches]
    assert np.median(spans) > 100  # one of neighbours alone spans 50 at most


def test_weights_draw_with_replacement() -> None:
    weights = np.where(np.arange(97) < 10, 9.0, 1.0)
    counts = np.zeros(97)
    for batch in draw("random", [0], 2000, weights=weights):
        np.add.at(counts, batch.rows.ravel() - 1000, 1)
    assert counts[:10].mean() / counts[10:].mean() == pytest.approx(9, rel=0.1)


@pytest.mark.parametrize("way", WAYS)
def test_a_small_corpus_is_one_batch(way: str) -> None:
    for batch in draw(way, [0], 5, size=500, of=500):
        assert set(batch.rows.ravel()) == set(ROWS)
        assert batch.rows.shape == (1, 97)


# ---- of a study


def test_label_lengths_order_sliding_batches_and_audio_lengths_sorted_ones(ready, raw) -> None:
    said = {"recipe": "none", "steps": 6, "evaluations": 1, "batch_utterances": 4, "neighbours": 2}
    for way in ("sliding", "sorted"):
        study = ready(
            training={**said, "batches": way}, tasks={"pr": raw["tasks"]["pr"]}, interfaces=["mean"]
        )
        own = cells._open(study, "pr", "mini", torch.device("cpu"))
        ids = own.task.ids("train")
        rows = np.array([own.rows[name] for name in ids])
        lengths = own.features.frames[rows]
        if way == "sliding":
            lengths = np.array([len(own.task.target(name)) for name in ids])
        pairs = {tuple(pair) for pair in rows[groups_of(way, lengths, 2)]}
        batches = list(training._batches([0, 1], own.task, own.features, rows, own.training))
        assert {batch.rows.shape for batch in batches} == {(2, 4)}
        found = {tuple(part) for batch in batches for part in batch.rows.reshape(-1, 2)}
        assert found <= pairs


def test_states_of_an_utterance_that_is_twice_in_a_batch(ready, raw) -> None:
    """Groups overlap, with ``sliding`` and at the end of ``sorted``: both ways to keep states."""
    said = {"recipe": "none", "steps": 6, "evaluations": 2, "batch_utterances": 24, "neighbours": 8}
    histories = []
    for cache in ("disk", "live"):
        study = ready(
            cache=cache,
            training={**said, "batches": "sliding"},
            tasks={"pr": raw["tasks"]["pr"]},
            interfaces=["mean"],
        )
        own = cells._open(study, "pr", "mini", torch.device("cpu"))
        rows = np.array([own.rows[name] for name in own.task.ids("train")])
        batches = list(training._batches([0, 1], own.task, own.features, rows, own.training))
        assert any(len(set(row)) < 24 for batch in batches for row in batch.rows)
        group = cells._runs(
            own, [Run(0, 1e-2), Run(1, 1e-2)], cells._maker(own, "mean"), own.training
        )
        (found,) = training.train([group], own.task, own.features, own.rows, own.training, "twice")
        histories.append([row["train_loss"] for row in found.history])
    assert np.isfinite(histories).all()
    assert histories[0] == pytest.approx(histories[1], rel=1e-2)
