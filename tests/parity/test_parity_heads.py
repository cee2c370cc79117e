"""Heads, losses and predictions: s3prl's downstream experts against ours at published sizes.

Each test makes s3prl's expert as SUPERB configures it, copies its weights into our head (rows of
the last layer by the names of the classes, whose order differs) and gives both the same features.
"""

from collections import defaultdict

import numpy as np
import pandas as pd
import pytest
import torch

DIM = 768
LENGTHS = (61, 40, 77, 52)
PHONES = [f"P{i}" for i in range(71)]
CHARACTERS = [*"ABCDEFGHIJKLMNOPQRSTUVWXYZ'|"]
KEYWORDS = ["yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go"]
KEYWORDS += ["_unknown_", "_silence_"]
INTENTS = {"action": 6, "object": 14, "location": 4}


def features(lengths=LENGTHS, seed=0):
    """Random features as s3prl takes them, (T, D) each, and as ours does, padded with lengths."""
    generator = torch.Generator().manual_seed(seed)
    each = [torch.randn(n, DIM, generator=generator) for n in lengths]
    return each, torch.nn.utils.rnn.pad_sequence(each, batch_first=True), torch.tensor(lengths)


def table(labels, **extra):
    """A corpus whose three splits have the same labels; columns by name, lists of equal length."""
    rows = []
    for split in ("train", "dev", "test"):
        part = pd.DataFrame({**labels, **extra})
        part.insert(0, "id", [f"{split}-{i:04}" for i in range(len(part))])
        rows.append(part.assign(split=split, duration=1.0))
    return pd.concat(rows, ignore_index=True)


def copy(head, weights):
    """Load weights whose shapes must be all of the head's."""
    expected = {name: tuple(value.shape) for name, value in head.state_dict().items()}
    assert {name: tuple(value.shape) for name, value in weights.items()} == expected
    head.load_state_dict(weights)
    return head.eval()


def close(found, expected):
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def count(module):
    return sum(p.numel() for p in module.parameters())


def loss_of(task, head, padded, lengths, ids):
    outputs, out_lengths = head(padded, lengths)
    targets, target_lengths = task.targets_for(ids)
    return outputs, task.loss(outputs, out_lengths, targets, target_lengths).mean()


# ---- phone and speech recognition


@pytest.fixture
def phones(superb, make_task, tmp_path):
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
    expert = superb("downstream.ctc.expert").DownstreamExpert(DIM, 320, config, str(tmp_path))
    random = np.random.default_rng(0)
    texts = [" ".join(random.choice(PHONES, n)) for n in (20, 9, 31, 1)]
    task = make_task("pr", table({"phones": texts}), vocabulary_file=str(tmp_path / "phoneme.txt"))
    assert task.symbols[:3].tolist() == expert.tokenizer._vocab_list[:3]
    order = [expert.tokenizer._vocab_list.index(symbol) for symbol in task.symbols]
    weights = {
        "projector.weight": expert.projector.weight,
        "projector.bias": expert.projector.bias,
        "linear.weight": expert.model.linear.weight[order],
        "linear.bias": expert.model.linear.bias[order],
    }
    head = copy(task.head(DIM), weights)
    assert count(head) == count(expert) == DIM * 256 + 256 + 256 * 74 + 74
    return expert.eval(), task, head, texts, order


def test_pr_outputs_and_loss(phones):
    expert, task, head, texts, order = phones
    each, padded, lengths = features()
    labels = [expert.tokenizer.encode(text) for text in texts]
    expected = expert("train", each, labels, list("abcd"), defaultdict(list))
    outputs, loss = loss_of(task, head, padded, lengths, task.ids("train"))
    close(outputs, expert.model(expert.projector(padded))[0][..., order])
    close(loss, expected)


def test_pr_without_an_alignment_costs_nothing(phones):
    expert, task, head, texts, _ = phones
    each, padded, lengths = features((6, 40, 77, 52))  # six frames for twenty phones
    labels = [expert.tokenizer.encode(text) for text in texts]
    expected = expert("train", each, labels, list("abcd"), defaultdict(list))
    close(loss_of(task, head, padded, lengths, task.ids("train"))[1], expected)


def test_pr_predictions_and_per(phones, superb):
    """One utterance at a time: s3prl decodes the frames of padding, too."""
    expert, task, head, texts, _ = phones
    with torch.no_grad():
        head.linear.bias[2] += 0.6  # so that some frames are <unk>
        expert.model.linear.bias[2] += 0.6
    each, padded, lengths = features()
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


@pytest.fixture
def characters(superb, make_task, tmp_path):
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
            "RNNs": {
                "total_rate": -1,
                "module": "LSTM",
                "bidirection": True,
                "dim": [1024, 1024],
                "dropout": [0.2, 0.2],
                "layer_norm": [False, False],
                "proj": [False, False],
                "sample_rate": [1, 1],
                "sample_style": "concat",
            },
        },
    }
    torch.manual_seed(0)
    expert = module.DownstreamExpert(DIM, 320, config, str(tmp_path))
    texts = ["THE QUICK BROWN FOX", "JUMPS", "OVER THE LAZY DOG'S BACK", "I VEX"]
    everything = " ".join([*texts, "".join(CHARACTERS[:-1])])
    labels = table({"text": [*texts, everything]})
    task = make_task("asr", labels)
    names = {"<eos>": "</s>"}
    symbols = expert.dictionary.symbols
    order = [symbols.index(names.get(symbol, symbol)) for symbol in task.symbols]
    assert sorted(order) == list(range(32))
    weights = {"projector.weight": expert.projector.weight, "projector.bias": expert.projector.bias}
    for i, rnn in enumerate(expert.model.rnns):
        weights |= {f"rnns.{i}.{name}": value for name, value in rnn.layer.state_dict().items()}
    weights["linear.weight"] = expert.model.linear.weight[order]
    weights["linear.bias"] = expert.model.linear.bias[order]
    head = copy(task.head(DIM), weights)
    assert count(head) == count(expert)
    return expert.eval(), task, head, texts, order


def encoded(expert, text):
    """As s3prl's dataset does: letters, ``|`` between and after words, ``</s>``."""
    symbols = [*text.replace(" ", "|"), "|"]
    return [expert.dictionary.index(symbol) for symbol in symbols] + [expert.dictionary.eos()]


def test_asr_outputs_and_loss(characters):
    expert, task, head, texts, order = characters
    each, padded, lengths = features()
    labels = [encoded(expert, text) for text in texts]
    expected = expert("train", each, labels, list("abcd"), defaultdict(list))
    outputs, loss = loss_of(task, head, padded, lengths, task.ids("train")[:4])
    theirs, _ = expert._get_log_probs(each)
    close(outputs.log_softmax(-1), theirs[..., order])
    close(loss, expected)


@pytest.mark.parametrize("unknown", [0.0, 0.03])
def test_asr_predictions_and_wer(characters, unknown):
    """Raise the logits of the space, and of ``<unk>``, so that several words come out."""
    expert, task, head, texts, order = characters
    for symbol, raised in (("|", 0.06), ("<unk>", unknown)):
        head.linear.bias.data[task.symbols.tolist().index(symbol)] += raised
    expert.model.linear.bias.data[order] = head.linear.bias.data
    each, padded, lengths = features()
    records = defaultdict(list)
    expert("dev", each, [encoded(expert, text) for text in texts], list("abcd"), records)
    keys = ("pred_tokens", "pred_words", "target_tokens", "target_words")
    _, wer = expert._compute_metrics(*(records[key] for key in keys))
    found = task.predict(*head(padded, lengths))
    assert task.value(task.score("dev", task.ids("dev")[:4], found)) == pytest.approx(wer)
    words = [word for words in records["pred_words"] for word in words]
    assert len(words) > 8
    assert any("<unk>" in word for word in words) == bool(unknown)


# ---- one class, or three, to an utterance


class Classes:
    """Stands for a data set of which only the number and names of the classes are asked."""

    def __init__(self, *_, **__) -> None:
        self.class_num, self.speaker_num = 4, 1251
        self.idx2emotion = dict(enumerate(["neu", "hap", "ang", "sad"]))

    def __len__(self) -> int:
        return 10

    @staticmethod
    def label2speaker(labels):
        return [f"id{label + 10001}" for label in labels]


LINEAR = {
    "projector_dim": 256,
    "select": "UtteranceLevel",
    "UtteranceLevel": {"pooling": "MeanPooling"},
}


def keyword_expert(superb, monkeypatch, tmp_path):
    module = superb("downstream.speech_commands.expert")
    roots = {key: str(tmp_path) for key in ("speech_commands_root", "speech_commands_test_root")}
    return module.DownstreamExpert(DIM, {"datarc": roots, "modelrc": LINEAR}, str(tmp_path))


def emotion_expert(superb, monkeypatch, tmp_path):
    module = superb("downstream.emotion.expert")
    monkeypatch.setattr(module, "IEMOCAPDataset", Classes)
    data = {"root": "", "meta_data": "", "pre_load": False, "valid_ratio": 0.2}
    return module.DownstreamExpert(DIM, {"datarc": data, "modelrc": LINEAR}, str(tmp_path))


def speaker_expert(superb, monkeypatch, tmp_path):
    module = superb("downstream.voxceleb1.expert")
    monkeypatch.setattr(module, "SpeakerClassifiDataset", Classes)
    data = {"file_path": "", "meta_data": "", "max_timestep": 128_000}
    return module.DownstreamExpert(DIM, {"datarc": data, "modelrc": LINEAR}, str(tmp_path))


CLASSIFICATION = {
    "ks": (keyword_expert, "keyword", KEYWORDS, "predict"),
    "er": (emotion_expert, "emotion", ["neu", "hap", "ang", "sad"], "predict"),
    "sid": (speaker_expert, "speaker", Classes.label2speaker(range(1251)), "predict_speaker"),
}


def linear_weights(expert, order):
    return {
        "projector.weight": expert.projector.weight,
        "projector.bias": expert.projector.bias,
        "linear.weight": expert.model.post_net.linear.weight[order],
        "linear.bias": expert.model.post_net.linear.bias[order],
    }


@pytest.mark.parametrize("kind", CLASSIFICATION)
def test_classification(kind, superb, make_task, monkeypatch, tmp_path):
    make_expert, column, names, predicted = CLASSIFICATION[kind]
    torch.manual_seed(0)
    expert = make_expert(superb, monkeypatch, tmp_path).eval()
    labels = [names[i % len(names)] for i in (1, 0, 3, 2)]
    task = make_task(kind, table({column: [*labels, *names]}))
    order = [names.index(name) for name in task.classes[column]]
    head = copy(task.head(DIM), linear_weights(expert, order))
    assert count(head) == count(expert)
    each, padded, lengths = features()
    records = defaultdict(list)
    truth = [names.index(label) for label in labels]
    expected = expert("dev", each, truth, list("abcd"), records)
    ids = task.ids("dev")[:4]
    outputs, loss = loss_of(task, head, padded, lengths, ids)
    logits, _ = expert.model(expert.projector(padded), lengths)
    close(outputs, logits[:, order])
    close(loss, expected)
    found = task.predict(outputs, lengths)
    assert [task.classes[column][int(i[0])] for i in found] == records[predicted]
    scores = task.score("dev", ids, found)
    assert scores["correct"].tolist() == records["acc"]


def test_intents(superb, make_task, tmp_path):
    random = np.random.default_rng(0)
    names = {slot: [f"{slot}{i}" for i in range(n)] for slot, n in INTENTS.items()}
    chosen = {slot: random.permutation(values * 5)[:20].tolist() for slot, values in names.items()}
    for slot, values in names.items():
        chosen[slot][: len(values)] = values  # all of them occur
    (tmp_path / "data").mkdir()
    for split in ("train", "valid", "test"):
        frame = pd.DataFrame({**chosen, "path": "a.wav"})
        frame.to_csv(tmp_path / "data" / f"{split}_data.csv")
    module = superb("downstream.fluent_commands.expert")
    torch.manual_seed(0)
    config = {"datarc": {"file_path": str(tmp_path)}, "modelrc": LINEAR}
    expert = module.DownstreamExpert(DIM, config, str(tmp_path)).eval()
    task = make_task("ic", table(chosen))
    order, first = [], 0
    for slot in INTENTS:
        order += [first + expert.Sy_intent[slot][name] for name in task.classes[slot]]
        first += len(task.classes[slot])
    head = copy(task.head(DIM), linear_weights(expert, order))
    each, padded, lengths = features(tuple(range(30, 50)))
    records = defaultdict(list)
    labels = [
        [expert.Sy_intent[slot][chosen[slot][i]] for slot in INTENTS] for i in range(len(each))
    ]
    expected = expert("dev", each, labels, [str(i) for i in range(20)], records)
    outputs, loss = loss_of(task, head, padded, lengths, task.ids("dev"))
    close(loss, expected)
    found = task.predict(outputs, lengths)
    slots = list(INTENTS)
    named = [
        tuple(task.classes[slot][i] for slot, i in zip(slots, one, strict=True)) for one in found
    ]
    assert named == records["predict"]
    # One utterance is made right in all slots, one in two of three.
    for i, slot in enumerate(slots):
        found[0][i] = task.classes[slot].index(chosen[slot][0])
        found[1][i] = task.classes[slot].index(chosen[slot][1])
    found[1][0] = (found[1][0] + 1) % 6
    assert task.score("dev", task.ids("dev"), found)["correct"].tolist()[:2] == [1, 0]


# ---- speaker verification


SPEAKERS = 1211


@pytest.fixture
def verification(superb, make_task, monkeypatch, on_the_cpu, tmp_path):
    """SUPERB ASV: sv_voxceleb1/configs/amsoftmax.yaml."""
    module = superb("downstream.sv_voxceleb1.expert")

    class Speakers(Classes):
        def __init__(self, *_, **__) -> None:
            self.speaker_num = SPEAKERS

    monkeypatch.setattr(module, "SpeakerVerifi_train", Speakers)
    monkeypatch.setattr(module, "SpeakerVerifi_test", Speakers)
    keys = ("vad_config", "train_meta_data", "dev_meta_data", "test_meta_data", "max_timestep")
    config = {
        "datarc": {"file_path": "", **dict.fromkeys(keys)},
        "modelrc": {
            "input_dim": 512,
            "module": "XVector",
            "module_config": {"XVector": {"agg_dim": 1500, "dropout_p": 0.0, "batch_norm": False}},
            "agg_module": "SP",
            "utter_module": "UtteranceExtractor",
            "ObjectiveLoss": "AMSoftmaxLoss",
            "LossConfig": {"AMSoftmaxLoss": {"s": 30.0, "m": 0.4}},
        },
    }
    torch.manual_seed(0)
    expert = module.DownstreamExpert(DIM, config, str(tmp_path))
    names = [f"id{i:05}" for i in range(SPEAKERS)]
    train = pd.DataFrame({"id": names, "speaker": names, "split": "train"})
    others = [
        {"id": f"{split}{i}", "speaker": f"{split}-{i % 2}", "split": split}
        for split in ("dev", "test")
        for i in range(4)
    ]
    task = make_task("sv", pd.concat([train, pd.DataFrame(others)]).assign(duration=1.0))
    extractor = expert.model.utterancelevel_feature_extractor
    weights = {
        "speakers": expert.objective.W,
        **{f"connector.{k}": v for k, v in expert.connector.state_dict().items()},
        **{f"linear1.{k}": v for k, v in extractor.linear1.state_dict().items()},
        **{f"linear2.{k}": v for k, v in extractor.linear2.state_dict().items()},
    }
    for name, value in expert.model.framelevel_feature_extractor.module.state_dict().items():
        weights[f"tdnn.{name}"] = value
    head = copy(task.head(DIM), weights)
    assert count(head) == count(expert)
    return expert, task, head


def test_sv_outputs_and_loss(verification):
    expert, task, head = verification
    each, padded, lengths = features((60, 60, 60, 60))
    speakers = [3, 1210, 0, 7]
    expected = expert("train", each, list("abcd"), speakers, defaultdict(list))
    ids = [task.ids("train")[i] for i in speakers]
    _, loss = loss_of(task, head.train(), padded, lengths, ids)
    close(loss, expected)
    records = {}
    expert("dev", each, list("abcd"), records=records)
    close(head.eval()(padded, lengths)[0], torch.stack(list(records.values())))


def test_sv_of_mixed_lengths_is_s3prls_of_each_alone(verification):
    """In its own batches s3prl pools one frame too many of all but the longest utterance."""
    expert, _, head = verification
    each, padded, lengths = features()
    alone, together = {}, {}
    for name, feature in zip("abcd", each, strict=True):
        expert("dev", [feature], [name], records=alone)
    expert("dev", each, list("abcd"), records=together)
    found = head.eval()(padded, lengths)[0]
    close(found, torch.stack(list(alone.values())))
    gaps = [(alone[name] - together[name]).abs().max().item() for name in "abcd"]
    assert gaps[2] < 1e-5 < 1e-4 < min(gaps[:2] + gaps[3:])
