"""Phones, speech and slots: s3prl's experts against our heads, losses and decoding.

Each test makes s3prl's expert as SUPERB configures it, copies its weights into our head (rows of
the last layer by the names of the classes, whose order differs) and gives both the same features.
"""

from collections import defaultdict

import numpy as np
import pytest
import torch

from ssl_bench.tasks.sf import written

PHONES = [f"P{i}" for i in range(71)]
CHARACTERS = [*"ABCDEFGHIJKLMNOPQRSTUVWXYZ'|"]
SLOTS = [f"slot{i:02}" for i in range(39)]  # as many as Audio SNIPS has
RECURRENT = {
    "total_rate": -1,
    "module": "LSTM",
    "bidirection": True,
    "dim": [1024, 1024],
    "dropout": [0.2, 0.2],
    "layer_norm": [False, False],
    "proj": [False, False],
    "sample_rate": [1, 1],
    "sample_style": "concat",
}
"""The model of asr/config.yaml and ctc/snips.yaml."""


# ---- phone recognition


@pytest.fixture
def phones(heads, superb, make_task, tmp_path):
    """SUPERB PR: ctc/libriphone.yaml."""
    (tmp_path / "phoneme.txt").write_text("\n".join(PHONES) + "\n")
    config = {
        "corpus": {"name": "libriphone"},
        "text": {"mode": "word", "vocab_file": str(tmp_path / "phoneme.txt")},
        "model": {
            "project_dim": 256,
            "select": "FrameLevel",
            "zero_infinity": True,
        },
        "metric": ["per"],
        "metric_higher_better": False,
    }
    torch.manual_seed(0)
    expert = superb("downstream.ctc.expert").DownstreamExpert(heads.dim, 320, config, str(tmp_path))
    random = np.random.default_rng(0)
    texts = [" ".join(random.choice(PHONES, n)) for n in (20, 9, 31, 1)]
    task = make_task(
        "pr", heads.table({"phones": texts}), vocabulary_file=str(tmp_path / "phoneme.txt")
    )
    assert task.symbols[:3].tolist() == expert.tokenizer._vocab_list[:3]
    order = [expert.tokenizer._vocab_list.index(symbol) for symbol in task.symbols]
    weights = {
        "projector.weight": expert.projector.weight,
        "projector.bias": expert.projector.bias,
        "linear.weight": expert.model.linear.weight[order],
        "linear.bias": expert.model.linear.bias[order],
    }
    head = heads.copy(task.head(heads.dim), weights)
    assert heads.count(head) == heads.count(expert) == heads.dim * 256 + 256 + 256 * 74 + 74
    return expert.eval(), task, head, texts, order


def test_pr_outputs_and_loss(heads, phones):
    expert, task, head, texts, order = phones
    each, padded, lengths = heads.features()
    labels = [expert.tokenizer.encode(text) for text in texts]
    expected = expert("train", each, labels, list("abcd"), defaultdict(list))
    outputs, loss = heads.loss_of(task, head, padded, lengths, task.ids("train"))
    heads.close(outputs, expert.model(expert.projector(padded))[0][..., order])
    heads.close(loss, expected)


def test_pr_without_an_alignment_costs_nothing(heads, phones):
    expert, task, head, texts, _ = phones
    each, padded, lengths = heads.features((6, 40, 77, 52))  # six frames for twenty phones
    labels = [expert.tokenizer.encode(text) for text in texts]
    expected = expert("train", each, labels, list("abcd"), defaultdict(list))
    heads.close(heads.loss_of(task, head, padded, lengths, task.ids("train"))[1], expected)


def test_pr_predictions_and_per(heads, phones, superb):
    """One utterance at a time: s3prl decodes the frames of padding, too."""
    expert, task, head, texts, _ = phones
    with torch.no_grad():
        head.linear.bias[2] += 0.6  # so that some frames are <unk>
        expert.model.linear.bias[2] += 0.6
    each, padded, lengths = heads.features()
    records = defaultdict(list)
    for feature, text in zip(each, texts, strict=True):
        expert("dev", [feature], [expert.tokenizer.encode(text)], ["a"], records)
    found = task.predict(*head(padded, lengths))
    assert [" ".join(task.symbols[tokens]) for tokens in found] == records["hypothesis"]
    assert any("<unk>" in text for text in records["hypothesis"])
    scores = task.score("dev", task.ids("dev"), found)
    per = superb("downstream.ctc.metric").per(
        **{k: records[k] for k in ("hypothesis", "groundtruth")}
    )
    assert task.value(scores) == pytest.approx(100 * per)


# ---- speech recognition


def bilstm_of(expert, task, heads, order):
    """Return the task's head with the weights of s3prl's, classes in our order."""
    weights = {"projector.weight": expert.projector.weight, "projector.bias": expert.projector.bias}
    for i, rnn in enumerate(expert.model.rnns):
        weights |= {f"rnns.{i}.{name}": value for name, value in rnn.layer.state_dict().items()}
    weights["linear.weight"] = expert.model.linear.weight[order]
    weights["linear.bias"] = expert.model.linear.bias[order]
    head = heads.copy(task.head(heads.dim), weights)
    assert heads.count(head) == heads.count(expert)
    return head


@pytest.fixture
def characters(heads, superb, make_task, tmp_path):
    """SUPERB ASR: asr/config.yaml."""
    module = superb("downstream.asr.expert")
    dictionary = tmp_path / "char.dict"
    dictionary.write_text("".join(f"{c} {100 - i}\n" for i, c in enumerate(CHARACTERS)))
    config = {
        "datarc": {
            "dict_path": str(dictionary),
            "zero_infinity": True,
            "decoder_args": {"decoder_type": "None"},
        },
        "modelrc": {
            "project_dim": 1024,
            "select": "RNNs",
            "RNNs": RECURRENT,
        },
    }
    torch.manual_seed(0)
    expert = module.DownstreamExpert(heads.dim, 320, config, str(tmp_path))
    texts = ["THE QUICK BROWN FOX", "JUMPS", "OVER THE LAZY DOG'S BACK", "I VEX"]
    everything = " ".join([*texts, "".join(CHARACTERS[:-1])])
    labels = heads.table({"text": [*texts, everything]})
    task = make_task("asr", labels)
    names = {"<eos>": "</s>"}
    symbols = expert.dictionary.symbols
    order = [symbols.index(names.get(symbol, symbol)) for symbol in task.symbols]
    assert sorted(order) == list(range(32))
    head = bilstm_of(expert, task, heads, order)
    return expert.eval(), task, head, texts, order


def encoded(expert, text):
    """As s3prl's dataset does: letters, ``|`` between and after words, ``</s>``."""
    symbols = [*text.replace(" ", "|"), "|"]
    return [expert.dictionary.index(symbol) for symbol in symbols] + [expert.dictionary.eos()]


def test_asr_outputs_and_loss(heads, characters):
    expert, task, head, texts, order = characters
    each, padded, lengths = heads.features()
    labels = [encoded(expert, text) for text in texts]
    expected = expert("train", each, labels, list("abcd"), defaultdict(list))
    outputs, loss = heads.loss_of(task, head, padded, lengths, task.ids("train")[:4])
    theirs, _ = expert._get_log_probs(each)
    heads.close(outputs.log_softmax(-1), theirs[..., order])
    heads.close(loss, expected)


@pytest.mark.parametrize("unknown", [0.0, 0.03])
def test_asr_predictions_and_wer(heads, characters, unknown):
    """Raise the logits of the space, and of ``<unk>``, so that several words come out."""
    expert, task, head, texts, order = characters
    for symbol, raised in (("|", 0.06), ("<unk>", unknown)):
        head.linear.bias.data[task.symbols.tolist().index(symbol)] += raised
    expert.model.linear.bias.data[order] = head.linear.bias.data
    each, padded, lengths = heads.features()
    records = defaultdict(list)
    expert("dev", each, [encoded(expert, text) for text in texts], list("abcd"), records)
    keys = ("pred_tokens", "pred_words", "target_tokens", "target_words")
    _, wer = expert._compute_metrics(*(records[key] for key in keys))
    found = task.predict(*head(padded, lengths))
    assert task.value(task.score("dev", task.ids("dev")[:4], found)) == pytest.approx(wer)
    words = [word for words in records["pred_words"] for word in words]
    assert len(words) > 8
    assert any("<unk>" in word for word in words) == bool(unknown)


# ---- slot filling


@pytest.fixture
def slots(heads, superb, make_task, tmp_path):
    """SUPERB SF: ctc/snips.yaml."""
    characters = [*"ABCDEFGHIJKLMNOPQRSTUVWXYZ'", " "]
    (tmp_path / "characters").write_text("".join(f"{c}\n" for c in characters))
    (tmp_path / "slots").write_text("\n".join(["O", *SLOTS]))
    files = {"vocab_file": str(tmp_path / "characters"), "slots_file": str(tmp_path / "slots")}
    config = {
        "corpus": {"name": "snips"},
        "text": {"mode": "character-slot", **files},
        "model": {"project_dim": 1024, "select": "RNNs", "RNNs": RECURRENT, "zero_infinity": True},
        "metric": ["slot_type_f1", "slot_value_cer"],
        "metric_higher_better": True,
    }
    torch.manual_seed(0)
    expert = superb("downstream.ctc.expert").DownstreamExpert(heads.dim, 320, config, str(tmp_path))
    spoken = [
        ("PLAY THE QUEEN", "O O slot03"),
        ("FLY TO NEW YORK", "O O slot11 slot11"),
        ("7 O'CLOCK", "slot00 slot00"),
        ("NO", "O"),
    ]
    everything = (" ".join(["A"] * len(SLOTS)), " ".join(SLOTS))
    words, named = zip(*spoken, everything, strict=True)
    task = make_task("sf", heads.table({"text": words, "slots": named}))
    symbols = [*expert.tokenizer._vocab_list, *expert.tokenizer.slots]
    order = [symbols.index(symbol) for symbol in task.symbols]
    assert sorted(order) == list(range(109))
    head = bilstm_of(expert, task, heads, order)
    labels = [expert.tokenizer.encode(f"BOS {text} EOS\tO {slot} x") for text, slot in spoken]
    return expert.eval(), task, head, labels, order


def test_sf_outputs_and_loss(heads, slots):
    expert, task, head, labels, order = slots
    each, padded, lengths = heads.features()
    expected = expert("train", each, labels, list("abcd"), defaultdict(list))
    outputs, loss = heads.loss_of(task, head, padded, lengths, task.ids("train")[:4])
    theirs, _ = expert.model(expert.projector(padded), lengths)
    valid = torch.arange(padded.shape[1]) < lengths[:, None]
    heads.close(outputs[valid], theirs[..., order][valid])
    heads.close(loss, expected)


def test_sf_predictions_and_both_metrics(heads, slots, superb):
    """One utterance at a time, marks and a character raised so that they come out."""
    expert, task, head, labels, order = slots
    symbols = task.symbols.tolist()
    for symbol, raised in (("B-slot03", 0.05), ("E-slot03", 0.06), ("N", 0.05), ("<unk>", 0.04)):
        head.linear.bias.data[symbols.index(symbol)] += raised
    expert.model.linear.bias.data[order] = head.linear.bias.data
    each, padded, lengths = heads.features()
    records = defaultdict(list)
    for feature, label in zip(each, labels, strict=True):
        expert("dev", [feature], [label], ["a"], records)
    found = task.predict(*head(padded, lengths))
    texts = [written(task.symbols[tokens].tolist()) for tokens in found]
    assert texts == records["hypothesis"]
    assert {"B-slot03", "E-slot03"} <= set(" ".join(texts).split())
    metric = superb("downstream.ctc.metric")
    both = {key: records[key] for key in ("hypothesis", "groundtruth")}
    scores = task.score("dev", task.ids("dev")[:4], found)
    assert task.value(scores) == pytest.approx(100 * metric.slot_type_f1(**both))
    cer = scores["value_errors"].sum() / scores["value_length"].sum()
    assert cer == pytest.approx(metric.slot_value_cer(**both))
