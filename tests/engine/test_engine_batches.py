"""Batches by utterances, random crops, balanced classes."""

import numpy as np
import pytest
import torch

from ssl_bench.sampling import Batch, balanced, training_batches

FRAMES = np.random.default_rng(0).integers(20, 300, size=97)
ROWS = np.arange(1000, 1097)


def draw(seeds: list[int], steps: int = 60, buckets: int = 4, **keys) -> list[Batch]:
    return list(training_batches(ROWS, FRAMES, None, buckets, steps, seeds, **keys))


@pytest.mark.parametrize("utterances", [1, 8, 32, 97])
def test_a_batch_has_as_many_utterances_as_are_asked_for(utterances: int) -> None:
    batches = draw([0, 1], utterances=utterances)
    assert {batch.rows.shape for batch in batches} == {(2, utterances)}
    assert {row for batch in batches for row in batch.rows.flat} <= set(ROWS)
    length = dict(zip(ROWS, FRAMES, strict=True))
    assert all(length[row] <= batch.width for batch in batches for row in batch.rows.flat)


def test_a_small_corpus_is_one_batch() -> None:
    assert {batch.rows.shape for batch in draw([0], utterances=500)} == {(1, 97)}


def test_shapes_are_few_so_that_a_step_can_be_recorded() -> None:
    shapes = {(*b.rows.shape, b.width) for b in draw([0], 200, utterances=8, crop=150)}
    assert 1 < len(shapes) <= 4


def test_every_utterance_is_drawn_equally_often() -> None:
    counts = np.zeros(97)
    for batch in draw([0], 3000, utterances=8):
        counts[batch.rows.ravel() - 1000] += 1
    assert counts.min() > 0.7 * counts.mean()
    assert counts.max() < 1.3 * counts.mean()


# ---- crops


def test_crops_lie_inside_and_may_begin_anywhere() -> None:
    firsts: dict[int, set[int]] = {}
    for batch in draw([0, 1], 4000, utterances=8, crop=150):
        assert batch.width <= 150
        length = FRAMES[batch.rows - 1000]
        assert (batch.starts >= 0).all()
        assert (batch.starts <= np.maximum(length - 150, 0)).all()
        for row, start in zip(batch.rows.flat, batch.starts.flat, strict=True):
            firsts.setdefault(row - 1000, set()).add(start)
    longest = int(FRAMES.argmax())
    spare = int(FRAMES[longest]) - 150
    assert {0, spare} <= firsts[longest]
    assert len(firsts[longest]) > spare // 2
    assert firsts[int(FRAMES.argmin())] == {0}


def test_crops_of_a_seed_are_the_same_alone_and_in_company() -> None:
    keys = {"utterances": 8, "crop": 150}
    for alone, together in zip(draw([3], **keys), draw([0, 3], **keys), strict=True):
        np.testing.assert_array_equal(alone.rows[0], together.rows[1])
        np.testing.assert_array_equal(alone.starts[0], together.starts[1])


def test_a_cropped_batch_is_that_part_of_the_whole_utterances_states(ready) -> None:
    from ssl_bench.features import open_features

    for cache in ("disk", "live"):
        features = open_features(ready(cache=cache), "mini", "tones", torch.device("cpu"))
        rows = np.array([[3, 6], [5, 3]])
        whole, lengths = features.batch(rows, int(features.frames[rows].max()))
        starts = np.array([[4, 0], [2, 20]])
        states, held = features.batch(rows, 9, None, starts)
        assert states.shape[-2] == 9
        for r, b in np.ndindex(2, 2):
            count = min(9, int(lengths[r, b]) - starts[r, b])
            assert held[r, b] == count
            expected = whole[r, :, b, starts[r, b] : starts[r, b] + count]
            assert torch.equal(states[r, :, b, :count], expected)
            assert not states[r, :, b, count:].any()


# ---- balanced classes


def test_weights_make_classes_equally_likely() -> None:
    weights = balanced([(0, 1)] * 6 + [(1, 1)] * 2 + [(0, 0)])
    assert weights.tolist() == [1 / 6] * 6 + [1 / 2] * 2 + [1.0]


def test_balanced_batches_hold_all_classes_equally_often() -> None:
    label = np.r_[np.zeros(80, int), np.ones(12, int), np.full(5, 2)]
    weights = balanced([(c,) for c in label])
    counts = np.zeros(3)
    for batch in draw([0], 3000, utterances=8, weights=weights):
        counts += np.bincount(label[batch.rows.ravel() - 1000], minlength=3)
    np.testing.assert_allclose(counts / counts.sum(), 1 / 3, atol=0.02)
    keys = {"utterances": 8, "weights": weights}
    for alone, together in zip(draw([3], **keys), draw([0, 3], **keys), strict=True):
        np.testing.assert_array_equal(alone.rows[0], together.rows[1])
