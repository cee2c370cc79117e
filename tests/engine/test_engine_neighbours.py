"""Batches of the published recipes: at random, of neighbours, from each place once a pass."""

from collections import Counter
from itertools import chain

import numpy as np
import pytest
import torch

from ssl_bench import cells, training
from ssl_bench.neighbours import grouped_batches, groups_of
from ssl_bench.prefetch import readings
from ssl_bench.runs import Run
from ssl_bench.sampling import Batch
from ssl_bench.steps import make_step

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
    groups = groups_of("sorted", FRAMES, 8).places
    assert groups.shape == (13, 8)
    assert (np.diff(FRAMES[groups]) <= 0).all()
    assert set(groups.ravel()) == set(range(97))
    # 97 = 12 * 8 + 1: the shortest and the seven before it
    np.testing.assert_array_equal(groups[-1, :-1], groups[-2, 1:])


def test_sliding_groups_begin_at_each_place() -> None:
    groups = groups_of("sliding", LABELS, 8).places
    assert groups.shape == (97, 8)
    assert (np.diff(LABELS[groups]) <= 0).all()
    counts = Counter(groups.ravel().tolist())
    assert sum(counts.values()) == 97 * 8
    middle = groups[7:82].ravel()
    assert {counts[place] for place in groups[40]} == {8}
    assert set(middle) <= set(range(97))
    assert (groups[-8:] == groups[-8]).all()  # those too near the end


def test_utterances_of_one_length_stay_in_their_order() -> None:
    np.testing.assert_array_equal(
        groups_of("sorted", np.full(8, 5), 4).places, np.arange(8).reshape(2, 4)
    )


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
    groups = groups_of(way, LABELS if way == "sliding" else FRAMES, 8).places
    assert Counter(first) == Counter(second) == Counter(map(tuple, groups.tolist()))
    assert first != second


def test_random_batches_draw_each_utterance_once_a_pass() -> None:
    rows = np.concatenate([batch.rows[0] for batch in draw("random", [0], 97)])
    assert set(Counter(rows.tolist()).values()) == {8}


def test_groups_of_a_batch_are_drawn_apart() -> None:
    groups = {tuple(ROWS[group]) for group in groups_of("sorted", FRAMES, 4).places}
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


@pytest.mark.parametrize("way", ["sorted", "sliding"])
def test_a_small_corpus_is_one_group(way: str) -> None:
    for batch in draw(way, [0], 5, size=500, of=500):
        assert set(batch.rows.ravel()) == set(ROWS)
        assert batch.rows.shape == (1, 97)


def passes(way: str, count: int, size: int, of: int, steps: int) -> list[list[tuple[int, ...]]]:
    """The groups of each batch, of the first ``count`` utterances."""
    lengths = LABELS if way == "sliding" else FRAMES
    groups = groups_of(way, lengths[:count], of)
    each = size // groups.places.shape[1]
    batches = grouped_batches(ROWS[:count], FRAMES[:count], groups, each, 4, steps, [0])
    return [[tuple(part) for part in b.rows[0].reshape(each, -1) - 1000] for b in batches]


@pytest.mark.parametrize("count", [16, 40, 97])
@pytest.mark.parametrize("way", WAYS)
def test_an_update_goes_on_with_the_next_pass(way: str, count: int) -> None:
    """Four groups of 8 of two, five or thirteen, or from each place; or 32 single ones."""
    updates = passes(way, count, 32, 8, 60)
    assert {len(update) for update in updates} == {32 if way == "random" else 4}
    stream = list(chain.from_iterable(updates))
    groups = groups_of(way, (LABELS if way == "sliding" else FRAMES)[:count], 8).places
    expected = Counter(map(tuple, groups.tolist()))
    whole = len(stream) // len(groups)
    assert whole > 1
    each = [stream[n * len(groups) : (n + 1) * len(groups)] for n in range(whole)]
    assert all(Counter(one) == expected for one in each)
    assert len({tuple(one) for one in each}) > 1


def test_a_group_may_come_twice_in_an_update() -> None:
    updates = passes("sorted", 40, 32, 8, 200)
    assert 0 < sum(len(set(update)) < 4 for update in updates) < 200
    assert all(
        Counter(update).most_common(1)[0][1] == 2 for update in passes("sorted", 16, 32, 8, 9)
    )


# ---- groups that differ in size


def counted(batch: Batch, run: int = 0) -> list[tuple[int, ...]]:
    """The groups of a run's batch, of the utterances that count, by their shares."""
    if batch.weights is None:
        return [tuple(batch.rows[run] - 1000)]
    rows, shares = batch.rows[run] - 1000, batch.weights[run]
    found: list[list[int]] = [[]]
    last = None
    for row, share in zip(rows, shares, strict=True):
        if share and last == 0:
            found.append([])
        if share:
            found[-1].append(int(row))
        last = share
    return [tuple(group) for group in found if group]


@pytest.mark.parametrize(
    ("last", "count", "sizes"),
    [
        ("smaller", 97, [8] * 12 + [1]),
        ("smaller", 96, [8] * 12),
        ("halves", 97, [8] * 12),  # 97 = 6 * 16 + 1: one alone is left out
        ("halves", 94, [8] * 10 + [14]),  # 94 = 5 * 16 + 14
        ("halves", 9, [9]),
        ("halves", 1, [1]),
        ("shared", 97, [8] * 11 + [9]),
        ("shared", 15, [15]),
        ("shared", 5, [5]),
    ],
)
def test_what_is_left_of_a_sorted_pass(last: str, count: int, sizes: list[int]) -> None:
    groups = groups_of("sorted", FRAMES[:count], 8, last)
    assert sorted(groups.sizes.tolist()) == sorted(sizes)
    held = [g[:n].tolist() for g, n in zip(groups.places, groups.sizes, strict=True)]
    order = np.argsort(-FRAMES[:count], kind="stable")[: sum(sizes)]
    assert list(chain.from_iterable(held)) == order.tolist()
    for group, size in zip(groups.places, groups.sizes, strict=True):
        assert (group[size:] == group[size - 1]).all()


@pytest.mark.parametrize("last", ["smaller", "halves", "shared"])
def test_each_group_counts_as_much_as_any_other(last: str) -> None:
    frames = FRAMES[:94]
    groups = groups_of("sorted", frames, 8, last)
    steps = len(groups)
    batches = list(grouped_batches(ROWS[:94], frames, groups, 1, 4, steps, [0, 1]))
    assert len({(b.rows.shape, b.width) for b in batches}) <= 2 * 4
    for run in (0, 1):
        found = [counted(batch, run) for batch in batches]
        expected = [tuple(g[:n]) for g, n in zip(groups.places, groups.sizes, strict=True)]
        assert Counter(chain.from_iterable(found)) == Counter(expected)
    for batch in batches:
        if batch.weights is not None:
            np.testing.assert_allclose(batch.weights.sum(1), 1, rtol=1e-6)
            for shares in batch.weights:
                assert len(set(shares[shares > 0].tolist())) == 1


def test_shares_of_groups_of_one_update() -> None:
    groups = groups_of("sorted", FRAMES[:12], 8, "smaller")
    (batch,) = grouped_batches(ROWS[:12], FRAMES[:12], groups, 2, 1, 1, [0])
    shares = Counter(batch.weights[0].tolist())
    assert shares == {1 / 16: 8, 1 / 8: 4, 0: 4}


def test_a_random_pass_ends_with_a_smaller_batch() -> None:
    groups = groups_of("random", FRAMES, 8)
    batches = list(grouped_batches(ROWS, FRAMES, groups, 1, 4, 26, [0, 1], cut=8))
    assert {batch.rows.shape for batch in batches} == {(2, 8)}
    for start in (0, 13):  # 97 = 12 * 8 + 1
        passed = [counted(batch)[0] for batch in batches[start : start + 13]]
        assert [len(group) for group in passed] == [8] * 12 + [1]
        assert sorted(sum(passed, ())) == list(range(97))
    assert batches[0].rows.tolist() != batches[13].rows.tolist()


def test_accumulated_random_batches_go_on_with_the_next_pass() -> None:
    groups = groups_of("random", FRAMES, 8)
    batches = list(grouped_batches(ROWS, FRAMES, groups, 4, 4, 4, [0], cut=8))
    assert [batch.weights is None for batch in batches] == [True, True, True, False]
    shares = Counter(batches[3].weights[0].tolist())
    assert shares == {1 / 32: 24, 1 / 4: 1, 0: 7}  # the 13th batch of the pass has one utterance
    rows = np.concatenate([batch.rows[0] for batch in batches[:3]])
    assert len(set(rows.tolist())) == 96


def test_a_seed_sees_the_same_uneven_groups_and_crops_in_company() -> None:
    for cut, groups in ((8, groups_of("random", FRAMES, 8)), (None, sorted_ones())):
        alone, together = (
            list(grouped_batches(ROWS, FRAMES, groups, 2, 4, 40, seeds, crop=100, cut=cut))
            for seeds in ([3], [0, 3])
        )
        for one, both in zip(alone, together, strict=True):
            first = ours(one, 0)
            assert first == ours(both, 1)


def sorted_ones():
    return groups_of("sorted", FRAMES[:94], 8, "halves")


def ours(batch: Batch, run: int) -> list[tuple[int, int, float]]:
    size = batch.rows.shape[1]
    weights = np.full(size, np.float32(1 / size)) if batch.weights is None else batch.weights[run]
    those = zip(batch.rows[run], batch.starts[run], weights, strict=True)
    return [(int(row), int(start), float(share)) for row, start, share in those if share]


def test_the_first_half_of_a_group_whose_first_is_long() -> None:
    groups = groups_of("sliding", LABELS, 8)
    halved = groups.halved(FRAMES > 250)
    long = FRAMES[groups.places[:, 0]] > 250
    assert 5 < long.sum() < 90
    np.testing.assert_array_equal(halved.sizes, np.where(long, 4, 8))
    np.testing.assert_array_equal(halved.places[:, :4], groups.places[:, :4])
    assert (halved.places[long, 4:] == groups.places[long, 3:4]).all()


def test_a_row_of_no_weight_leaves_no_trace(ready, raw) -> None:
    """Weights of a step on a smaller batch are those of a step on its utterances alone."""
    said = {"recipe": "none", "steps": 1, "evaluations": 1, "batch_utterances": 8}
    study = ready(
        training={**said, "batches": "random", "last_batch": "smaller"},
        tasks={"ks": raw["tasks"]["ks"]},
        interfaces=["mean"],
    )
    own = cells._open(study, "ks", "mini", torch.device("cpu"))
    targets = training.Targets(own.task, own.rows, own.features.device)
    rows, found = targets.rows[:5], []
    width = int(own.features.frames[rows].max())
    padded = np.array([[*rows, rows[-1], rows[-1]]])
    shares = np.array([[0.2] * 5 + [0.0] * 2], np.float32)
    for batch in (Batch(rows[None], width), Batch(padded, width, None, shares)):
        group = cells._runs(own, [Run(0, 1e-2)], cells._maker(own, "mean"), own.training)
        course = training.Course(group, own.training, [0])
        reads = [next(iter(readings(own.features, [batch], [course])))[0]]
        training.learn(make_step(group), [course], reads, targets, 1.0)
        found.append((course.loss, group.snapshot()))
    torch.testing.assert_close(found[0][0], found[1][0])
    for name, value in found[0][1].items():
        torch.testing.assert_close(value, found[1][1][name], rtol=1e-4, atol=1e-6)


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
        pairs = {tuple(pair) for pair in rows[groups_of(way, lengths, 2).places]}
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
