"""Which utterances make which batch."""

import numpy as np

from ssl_bench.sampling import evaluation_batches, training_batches

FRAMES = np.random.default_rng(0).integers(20, 300, size=97)
ROWS = np.arange(1000, 1097)


def draw(seeds: list[int], steps: int = 40) -> list:
    return list(training_batches(ROWS, FRAMES, 2000, 4, steps, seeds))


def test_batches_fit_the_budget_and_every_width_holds_its_utterances() -> None:
    length = dict(zip(ROWS, FRAMES, strict=True))
    for batch in draw([0, 1]):
        assert batch.rows.shape[1] * batch.width <= 2000
        assert max(length[row] for row in batch.rows.flat) <= batch.width


def test_a_seed_sees_the_same_batches_alone_and_in_company() -> None:
    for alone, together in zip(draw([3]), draw([0, 3, 5]), strict=True):
        assert alone.width == together.width
        np.testing.assert_array_equal(alone.rows[0], together.rows[1])


def test_seeds_differ_and_equal_seeds_agree() -> None:
    batches = draw([0, 1, 0])
    assert any((b.rows[0] != b.rows[1]).any() for b in batches)
    assert all((b.rows[0] == b.rows[2]).all() for b in batches)


def test_no_utterance_is_twice_in_a_batch_and_all_are_seen() -> None:
    batches = draw([0], steps=200)
    for batch in batches:
        assert len(set(batch.rows[0])) == batch.rows.shape[1]
    assert {row for b in batches for row in b.rows[0]} == set(ROWS)


def test_evaluation_takes_every_row_once() -> None:
    batches = list(evaluation_batches(ROWS, FRAMES, 1500))
    assert sorted(row for b in batches for row in b.rows) == sorted(ROWS)
    assert all(len(b.rows) * b.width <= 1500 for b in batches)
