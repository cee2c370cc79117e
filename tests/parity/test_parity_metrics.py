"""Metrics: ours against s3prl's functions and, for error rates, jiwer."""

import jiwer
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl_bench import metrics

fixed = settings(derandomize=True, deadline=None, max_examples=150)

words = st.sampled_from(["a", "b", "ab", "ba", "AH0", "D'S", "ŋ"])
references = st.lists(words, min_size=1, max_size=12).map(" ".join)
hypotheses = st.lists(words, max_size=15).map(" ".join)
corpora = st.lists(st.tuples(references, hypotheses), min_size=1, max_size=6)


@pytest.fixture(scope="module")
def theirs(superb):
    return superb("downstream.ctc.metric"), superb("metric"), superb("downstream.asr.expert")


def ours(pairs, units):
    """The error rate as a task computes it, in percent."""
    split = [(units(reference), units(hypothesis)) for reference, hypothesis in pairs]
    errors = metrics.edit_errors(*zip(*split, strict=True))
    return metrics.error_rate(errors, [len(reference) for reference, _ in split])


@fixed
@given(corpora)
def test_wer_and_per(theirs, pairs):
    ctc, general, asr = theirs
    reference, hypothesis = (list(part) for part in zip(*pairs, strict=True))
    found = ours(pairs, str.split)
    assert found == pytest.approx(100 * ctc.wer(hypothesis, reference))
    assert found == pytest.approx(100 * ctc.per(hypothesis, reference))
    assert found == pytest.approx(100 * general.wer(hypothesis, reference))
    assert found == pytest.approx(100 * general.per(hypothesis, reference))
    assert found == pytest.approx(100 * jiwer.wer(reference, hypothesis))
    split = [[text.split() for text in texts] for texts in (hypothesis, reference)]
    tokens = [hypothesis, reference]
    _, wer = asr.DownstreamExpert._compute_metrics(None, tokens[0], split[0], tokens[1], split[1])
    assert found == pytest.approx(wer)


@fixed
@given(corpora)
def test_cer(theirs, pairs):
    ctc, general, _ = theirs
    reference, hypothesis = (list(part) for part in zip(*pairs, strict=True))
    found = ours(pairs, list)
    assert found == pytest.approx(100 * ctc.cer(hypothesis, reference))
    assert found == pytest.approx(100 * general.cer(hypothesis, reference))
    assert found == pytest.approx(100 * jiwer.cer(reference, hypothesis))


@pytest.mark.parametrize(
    ("reference", "hypothesis", "rate"),
    [
        ("a b c", "", 100.0),  # all deleted
        ("a", "a b c d", 300.0),  # more errors than words
        ("a b c", "a b c", 0.0),
        ("a b c", "c b a", 200 / 3),
        ("a b a b", "b a b a", 50.0),  # one deletion and one insertion, not four substitutions
    ],
)
def test_error_rates_at_the_edges(theirs, reference, hypothesis, rate):
    ctc, *_ = theirs
    assert ours([(reference, hypothesis)], str.split) == pytest.approx(rate)
    assert 100 * ctc.wer([hypothesis], [reference]) == pytest.approx(rate)
    assert 100 * jiwer.wer(reference, hypothesis) == pytest.approx(rate)


trials = st.lists(st.tuples(st.booleans(), st.integers(-8, 8)), min_size=2, max_size=60).filter(
    lambda some: len({label for label, _ in some}) == 2
)
"""Trials with many equal scores, of both kinds."""


@fixed
@given(trials, st.sampled_from([1.0, 0.05]))
def test_eer(superb, some, scale):
    labels = np.array([int(label) for label, _ in some])
    scores = np.array([score * scale for _, score in some])
    found = metrics.equal_error_rate(labels, scores)
    eer, _ = superb("downstream.sv_voxceleb1.utils").EER(labels, scores)
    assert found == pytest.approx(100 * eer, abs=1e-6)
    eer, _ = superb("metric").compute_eer(labels, scores)
    assert found == pytest.approx(100 * eer, abs=1e-6)


def test_eer_of_many_trials(superb):
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 37_720)
    scores = np.clip(random.normal(0.4 * labels, 0.15), -1, 1)
    eer, _ = superb("downstream.sv_voxceleb1.utils").EER(labels, scores)
    assert metrics.equal_error_rate(labels, scores) == pytest.approx(100 * eer, abs=1e-6)
    assert 5 < 100 * eer < 15


@settings(fixed, max_examples=30)
@given(st.lists(st.tuples(*[st.integers(0, 2)] * 6), min_size=1, max_size=30))
def test_slot_accuracy(superb, make_task, rows):
    """All slots of an utterance must be right; s3prl multiplies them."""
    slots = ["action", "object", "location"]
    every = [(k, k, k) for k in range(3)]  # so that the train split has all classes
    truth = every + [row[:3] for row in rows]
    predicted = every + [row[3:] for row in rows]
    table = pd.concat(
        pd.DataFrame(truth, columns=slots)
        .astype(str)
        .assign(split=split, duration=1.0, id=[f"{split}-{i}" for i in range(len(truth))])
        for split in ("train", "dev", "test")
    )
    task = make_task("ic", table)
    scores = task.score("dev", task.ids("dev"), [np.array(row) for row in predicted])
    expected = superb("metric").accuracy(predicted, truth)
    assert task.value(scores) == pytest.approx(100 * expected)
