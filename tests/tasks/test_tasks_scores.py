"""Targets, losses, decoding, scores and metrics."""

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from scipy.interpolate import interp1d
from scipy.optimize import brentq
from sklearn.metrics import roc_curve

from ssl_bench import metrics, registry
from ssl_bench.tasks._sequence import ctc_losses, greedy_decode
from ssl_bench.tasks._trials import _unrank, all_pairs, balanced_sample
from ssl_bench.tasks.base import Task, TaskConfig

KINDS = registry.kinds("tasks")


# ---- the contract


@pytest.mark.parametrize("kind", KINDS)
def test_kind_keeps_the_contract(small, kind):
    module = registry.load("tasks", kind)
    assert issubclass(module.Config, TaskConfig)
    assert issubclass(module.Task, Task)
    task = small.task(kind)
    assert task.metric in ("per", "cer", "wer", "accuracy", "eer", "slot_type_f1")
    assert task.higher_is_better == (task.metric in ("accuracy", "slot_type_f1"))
    targets, lengths = task.targets_for(task.ids("train"))
    assert targets.dtype == lengths.dtype == torch.int64
    assert targets.shape == (len(task.ids("train")), int(lengths.max()))
    first = task.target(task.ids("train")[0])
    assert torch.equal(targets[0, : lengths[0]], first)
    assert not targets[0, lengths[0] :].any()


@pytest.mark.parametrize("kind", KINDS)
def test_loss_is_one_finite_number_an_example_and_scores_are_rows(small, kind):
    task = small.task(kind, **small.small.get(kind, {}))
    torch.manual_seed(0)
    head = task.head(10)
    ids = task.ids("train")
    features, lengths = small.batch(10, [60] * len(ids))
    outputs, out_lengths = head(features, lengths)
    losses = task.loss(outputs.float(), out_lengths, *task.targets_for(ids))
    assert losses.shape == (len(ids),)
    assert torch.isfinite(losses).all()
    assert (losses > 0).all()
    ids = task.ids("test")
    predictions = task.predict(*head.eval()(features[: len(ids)], lengths[: len(ids)]))
    scores = task.score("test", ids, predictions)
    columns = {
        "accuracy": ["id", "speaker", "correct"],
        "eer": ["id", "speaker", "label", "score"],
        "slot_type_f1": ["id", "speaker", "correct", "value_errors", "value_length"],
    }.get(task.metric, ["id", "speaker", "errors", "reference_length"])
    assert list(scores.columns) == columns
    assert task.value(scores) >= 0


# ---- CTC


def ctc_example():
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(4, 25, 7, generator=generator, dtype=torch.float64)
    lengths = torch.tensor([25, 20, 13, 4])
    target_lengths = torch.tensor([6, 3, 9, 5])  # the last has no alignment
    targets = torch.randint(1, 7, (4, 9), generator=generator)
    targets[3, :5] = torch.tensor([1, 1, 1, 2, 2])
    targets *= torch.arange(9) < target_lengths[:, None]
    return logits, lengths, targets, target_lengths


def test_mean_of_ctc_losses_is_torchs_mean():
    logits, lengths, targets, target_lengths = ctc_example()
    ours = ctc_losses(logits, lengths, targets, target_lengths, per_symbol=True)
    log_probs = logits.float().log_softmax(-1).transpose(0, 1)
    theirs = F.ctc_loss(
        log_probs, targets, lengths, target_lengths, reduction="mean", zero_infinity=True
    )
    torch.testing.assert_close(ours.mean(), theirs)
    assert ours[3] == 0


def test_ml_superb_loss_is_not_divided_by_length():
    logits, lengths, targets, target_lengths = ctc_example()
    summed = ctc_losses(logits, lengths, targets, target_lengths, per_symbol=False)
    each = ctc_losses(logits, lengths, targets, target_lengths, per_symbol=True)
    torch.testing.assert_close(summed, each * target_lengths)
    assert not registry.load("tasks", "mono_asr").Task.per_symbol
    assert registry.load("tasks", "pr").Task.per_symbol


def test_greedy_decoding_merges_repeats_and_drops_silent_symbols_and_padding():
    path = torch.tensor(
        [
            [3, 3, 0, 3, 4, 1, 4, 4],  # repeats, blank between, <eos>
            [0, 0, 0, 0, 0, 0, 0, 0],
            [5, 5, 5, 6, 6, 6, 6, 6],  # only three frames are valid
        ]
    )
    logits = F.one_hot(path, 7).float()
    decoded = greedy_decode(logits, torch.tensor([8, 8, 3]), silent=3)
    assert [tokens.tolist() for tokens in decoded] == [[3, 3, 4, 4], [], [5]]


def test_pr_appends_eos_and_does_not_count_it(small):
    task = small.task("pr")
    words = task.symbols[task.target("train-00").numpy()].tolist()
    assert words == ["Y", "EH", "S", "N", "OW", "<eos>"]
    scores = task.score("test", ["test-00"], [np.array([], dtype=np.int32)])
    assert scores["reference_length"].tolist() == [5]
    plain = small.task("pr", eos=False)
    assert plain.symbols[plain.target("train-00").numpy()].tolist() == words[:-1]
    assert "<eos>" not in plain.symbols


def test_per_of_a_hand_example(small):
    task = small.task("pr")
    index = {symbol: i for i, symbol in enumerate(task.symbols)}
    # test-00: Y EH S N OW; test-01: N OW S T AA P
    first = np.array([index[p] for p in ("Y", "EH", "N", "N", "OW")])  # one substitution
    second = np.array(
        [index[p] for p in ("N", "S", "T", "AA", "P", "P")]
    )  # one deletion, one insertion
    scores = task.score("test", ["test-00", "test-01"], [first, second])
    assert scores["errors"].tolist() == [1, 2]
    assert scores["speaker"].tolist() == ["test-0", "test-1"]
    assert task.value(scores) == pytest.approx(100 * 3 / 11)


def test_error_rate_weighs_utterances_by_length():
    assert metrics.error_rate([1, 0], [1, 9]) == pytest.approx(10.0)


# ---- speech recognition


def test_asr_targets_are_upper_case_with_word_ends(small):
    task = small.task("asr")
    assert "".join(task.symbols[task.target("train-00").numpy()]) == "YES|NO|<eos>"


def test_wer_and_cer_of_a_hand_example(small):
    for metric, errors, length in (("wer", 1, 2), ("cer", 2, 6)):
        task = small.task("asr", metric=metric)
        index = {symbol: i for i, symbol in enumerate(task.symbols)}
        tokens = np.array([index[c] for c in "YES|NYY|"])  # "YES NYY" for "YES NO"
        scores = task.score("test", ["test-00"], [tokens])
        assert task.metric == metric
        assert scores["errors"].tolist() == [errors]
        assert scores["reference_length"].tolist() == [length]


def test_mono_asr_strips_punctuation_and_adds_no_ends(small):
    table = small.table()
    table.loc[0, "text"] = "yes,  no-one!"
    task = small.task("mono_asr", table)
    assert "".join(task.symbols[task.target("train-00").numpy()]) == "YES|NOONE"
    assert task.metric == "cer"


def test_character_unknown_to_train_counts_as_an_error(small):
    table = small.table()
    table.loc[table["id"] == "test-00", "text"] = "yes nö"
    task = small.task("mono_asr", table)
    index = {symbol: i for i, symbol in enumerate(task.symbols)}
    scores = task.score("test", ["test-00"], [np.array([index[c] for c in "YES|NO"])])
    assert scores["errors"].tolist() == [1]


def test_train_minutes_takes_nested_subsets_in_an_order_of_their_own(small):
    table = small.table(40)  # half a minute each
    ten = small.task("mono_asr", table, train_minutes=10.0).ids("train")
    five = small.task("mono_asr", table, train_minutes=5.0).ids("train")
    all_ids = small.task("mono_asr", table).ids("train")
    assert (len(five), len(ten), len(all_ids)) == (10, 20, 40)
    assert set(five) < set(ten) < set(all_ids)
    assert ten != all_ids[:20]
    assert small.task("mono_asr", table.iloc[::-1], train_minutes=5.0).ids("train") == five[::-1]
    assert len(small.task("mono_asr", table, train_minutes=5.0).ids("test")) == 40


def test_vocabulary_is_that_of_the_minutes_used(small):
    table = small.table(40)
    used = set(small.task("mono_asr", table, train_minutes=5.0).ids("train"))
    unused = next(name for name in table["id"] if name.startswith("train") and name not in used)
    table.loc[table["id"] == unused, "text"] = "quiz"
    assert "Q" not in small.task("mono_asr", table, train_minutes=5.0).symbols
    assert "Q" in small.task("mono_asr", table).symbols


# ---- classes


def test_classes_are_scored_against_the_truth(small):
    task = small.task("ks")
    assert task.classes == {"keyword": ["no", "stop", "yes"]}
    outputs = F.one_hot(torch.tensor([2, 0, 0]), 3).float()  # yes, no, no
    predictions = task.predict(outputs, torch.ones(3))
    scores = task.score("test", ["test-00", "test-01", "test-02"], predictions)
    assert scores["correct"].tolist() == [1, 1, 0]
    assert task.value(scores) == pytest.approx(200 / 3)


def test_intent_is_correct_only_in_all_slots_and_its_loss_is_the_sum(small):
    task = small.task("ic")
    ids = task.ids("test")[:2]
    target, _ = task.targets_for(ids)
    wrong = target[1].clone()
    wrong[2] = (wrong[2] + 1) % 3
    scores = task.score("test", ids, [target[0].numpy(), wrong.numpy()])
    assert scores["correct"].tolist() == [1, 0]
    outputs = torch.randn(2, 7, generator=torch.Generator().manual_seed(0))
    parts = [outputs[:, :2], outputs[:, 2:4], outputs[:, 4:]]
    expected = sum(F.cross_entropy(part, target[:, i]) for i, part in enumerate(parts))
    losses = task.loss(outputs, torch.ones(2), target, torch.full((2,), 3))
    torch.testing.assert_close(losses.mean(), expected)


# ---- speaker verification


def test_am_softmax_is_the_published_formula(small):
    task = small.task("sv")
    generator = torch.Generator().manual_seed(0)
    cosines = torch.rand(5, 4, generator=generator) * 2 - 1
    targets = torch.tensor([[0], [3], [1], [2], [3]])
    losses = task.loss(cosines, torch.ones(5), targets, torch.ones(5))
    for loss, row, target in zip(losses, cosines.double(), targets[:, 0], strict=True):
        numerator = torch.exp(30 * (row[target] - 0.4))
        others = torch.exp(30 * row[torch.arange(4) != target]).sum()
        expected = -torch.log(numerator / (numerator + others))
        torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-5)


def test_sv_training_outputs_are_cosines_and_eval_outputs_embeddings(small):
    head = small.task("sv", **small.small["sv"]).head(10)
    features, lengths = small.batch(10, [30, 20])
    cosines, _ = head(features, lengths)
    assert cosines.shape == (2, 4)
    assert cosines.abs().max() <= 1 + 1e-6
    embeddings, _ = head.eval()(features, lengths)
    assert embeddings.shape == (2, 24)
    torch.testing.assert_close(embeddings.norm(dim=-1), torch.ones(2))
    assert (embeddings >= 0).all()


def test_all_pairs_are_scored_by_cosine(small):
    task = small.task("sv")
    ids = task.ids("test")
    assert ids == small.table()["id"].iloc[-12:].tolist()
    vectors = np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    scores = task.score("test", ids, list(vectors)).set_index("id")
    assert len(scores) == 66
    assert scores["label"].sum() == 4 * 3
    assert scores.at["test-02|test-07", "score"] == pytest.approx(vectors[2] @ vectors[7])
    assert scores.at["test-02|test-07", "speaker"] == "test-2|test-3"
    assert scores.at["test-02|test-06", "label"] == 1


def test_score_does_not_depend_on_the_order_of_ids(small):
    task = small.task("sv", trials=20)
    ids = task.ids("dev")
    vectors = list(np.random.default_rng(0).normal(size=(len(ids), 5)))
    forward = task.score("dev", ids, vectors)
    backward = task.score("dev", ids[::-1], vectors[::-1])
    pd.testing.assert_frame_equal(forward, backward)


def test_sampled_trials_are_balanced_distinct_and_reproducible():
    speakers = pd.Series([f"s{i % 7}" for i in range(60)], index=[f"u{i}" for i in range(60)])
    trials = balanced_sample(speakers, 100, seed=1)
    assert (trials["label"].sum(), len(trials)) == (50, 100)
    same = speakers[trials["a"]].to_numpy() == speakers[trials["b"]].to_numpy()
    assert (same == trials["label"]).all()
    pairs = {frozenset(pair) for pair in zip(trials["a"], trials["b"], strict=True)}
    assert len(pairs) == 100
    assert all(len(pair) == 2 for pair in pairs)
    pd.testing.assert_frame_equal(trials, balanced_sample(speakers, 100, seed=1))
    assert not trials.equals(balanced_sample(speakers, 100, seed=2))


def test_a_sample_can_take_every_target_pair():
    speakers = pd.Series(["x", "x", "y", "y", "y", "z"], index=list("abcdef"))
    sampled = balanced_sample(speakers, 8, seed=0)
    every = all_pairs(speakers)
    targets = every[every["label"] == 1]
    expected = {frozenset(pair) for pair in zip(targets["a"], targets["b"], strict=True)}
    found = sampled[sampled["label"] == 1]
    assert {frozenset(pair) for pair in zip(found["a"], found["b"], strict=True)} == expected


def test_pairs_are_numbered_without_gaps():
    low, high = _unrank(np.arange(15))
    assert sorted(zip(low, high, strict=True)) == [
        (i, j) for i in range(6) for j in range(i + 1, 6)
    ]
    rank = np.array([10**14 + 12345])
    low, high = _unrank(rank)
    assert 0 <= low[0] < high[0]
    assert high[0] * (high[0] - 1) // 2 + low[0] == rank[0]


def test_trials_file_gives_its_splits_trials(small, tmp_path):
    file = tmp_path / "trials.txt"
    file.write_text("1 test-00 test-04\n0 test-00 test-01\n")
    task = small.task("sv", trials_file=str(file))
    assert task.ids("test") == ["test-00", "test-01", "test-04"]
    assert task.trials["test"]["label"].tolist() == [1, 0]
    assert len(task.trials["dev"]) == 66


# ---- equal error rate


@pytest.mark.parametrize("seed", range(8))
def test_eer_agrees_with_the_root_search_on_sklearns_roc(seed):
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, 40 + 30 * seed)
    scores = random.normal(size=len(labels)) + labels * random.uniform(0, 2)
    scores = np.round(scores, 1) if seed % 2 else scores  # ties
    false_alarms, detected, _ = roc_curve(labels, scores)
    expected = brentq(lambda x: 1.0 - x - interp1d(false_alarms, detected)(x), 0.0, 1.0)
    assert metrics.equal_error_rate(labels, scores) == pytest.approx(100 * expected, abs=1e-6)


def test_eer_of_perfect_reversed_and_constant_scores():
    labels = [0, 0, 0, 1, 1]
    assert metrics.equal_error_rate(labels, [1, 2, 3, 4, 5]) == 0
    assert metrics.equal_error_rate(labels, [5, 4, 3, 2, 1]) == 100
    assert metrics.equal_error_rate(labels, [1, 1, 1, 1, 1]) == pytest.approx(50)
    assert np.isnan(metrics.equal_error_rate(labels, [1, 2, np.nan, 4, 5]))
    with pytest.raises(ValueError, match="same and of different"):
        metrics.equal_error_rate([1, 1], [0.0, 1.0])
