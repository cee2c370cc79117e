"""Classes and speakers: s3prl's experts against our heads, losses and predictions.

Each test makes s3prl's expert as SUPERB configures it, copies its weights into our head (rows of
the last layer by the names of the classes, whose order differs) and gives both the same features.
"""

from collections import defaultdict

import numpy as np
import pandas as pd
import pytest
import torch

from ssl_bench.heads.padding import pad_by_group

KEYWORDS = ["yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go"]
KEYWORDS += ["_unknown_", "_silence_"]
INTENTS = {"action": 6, "object": 14, "location": 4}


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


def keyword_expert(dim, superb, monkeypatch, tmp_path):
    module = superb("downstream.speech_commands.expert")
    roots = {key: str(tmp_path) for key in ("speech_commands_root", "speech_commands_test_root")}
    return module.DownstreamExpert(dim, {"datarc": roots, "modelrc": LINEAR}, str(tmp_path))


def emotion_expert(dim, superb, monkeypatch, tmp_path):
    module = superb("downstream.emotion.expert")
    monkeypatch.setattr(module, "IEMOCAPDataset", Classes)
    data = {"root": "", "meta_data": "", "pre_load": False, "valid_ratio": 0.2}
    return module.DownstreamExpert(dim, {"datarc": data, "modelrc": LINEAR}, str(tmp_path))


def speaker_expert(dim, superb, monkeypatch, tmp_path):
    module = superb("downstream.voxceleb1.expert")
    monkeypatch.setattr(module, "SpeakerClassifiDataset", Classes)
    data = {"file_path": "", "meta_data": "", "max_timestep": 128_000}
    return module.DownstreamExpert(dim, {"datarc": data, "modelrc": LINEAR}, str(tmp_path))


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
def test_classification(heads, kind, superb, make_task, monkeypatch, tmp_path):
    make_expert, column, names, predicted = CLASSIFICATION[kind]
    torch.manual_seed(0)
    expert = make_expert(heads.dim, superb, monkeypatch, tmp_path).eval()
    labels = [names[i % len(names)] for i in (1, 0, 3, 2)]
    task = make_task(kind, heads.table({column: [*labels, *names]}))
    order = [names.index(name) for name in task.classes[column]]
    head = heads.copy(task.head(heads.dim), linear_weights(expert, order))
    assert heads.count(head) == heads.count(expert)
    each, padded, lengths = heads.features()
    records = defaultdict(list)
    truth = [names.index(label) for label in labels]
    expected = expert("dev", each, truth, list("abcd"), records)
    ids = task.ids("dev")[:4]
    outputs, loss = heads.loss_of(task, head, padded, lengths, ids)
    logits, _ = expert.model(expert.projector(padded), lengths)
    heads.close(outputs, logits[:, order])
    heads.close(loss, expected)
    found = task.predict(outputs, lengths)
    assert [task.classes[column][int(i[0])] for i in found] == records[predicted]
    scores = task.score("dev", ids, found)
    assert scores["correct"].tolist() == records["acc"]


def test_intents(heads, superb, make_task, tmp_path):
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
    expert = module.DownstreamExpert(heads.dim, config, str(tmp_path)).eval()
    task = make_task("ic", heads.table(chosen))
    order, first = [], 0
    for slot in INTENTS:
        order += [first + expert.Sy_intent[slot][name] for name in task.classes[slot]]
        first += len(task.classes[slot])
    head = heads.copy(task.head(heads.dim), linear_weights(expert, order))
    each, padded, lengths = heads.features(tuple(range(30, 50)))
    records = defaultdict(list)
    labels = [
        [expert.Sy_intent[slot][chosen[slot][i]] for slot in INTENTS] for i in range(len(each))
    ]
    expected = expert("dev", each, labels, [str(i) for i in range(20)], records)
    outputs, loss = heads.loss_of(task, head, padded, lengths, task.ids("dev"))
    heads.close(loss, expected)
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


def verification_weights(expert):
    """Parameters of s3prl's expert, by the names that our head has for them."""
    parts = {
        "connector": expert.connector,
        "linear1": expert.model.utterancelevel_feature_extractor.linear1,
        "linear2": expert.model.utterancelevel_feature_extractor.linear2,
        "tdnn": expert.model.framelevel_feature_extractor.module,
    }
    named = {
        f"{part}.{name}": parameter
        for part, module in parts.items()
        for name, parameter in module.named_parameters()
    }
    return {"speakers": expert.objective.W, **named}


@pytest.fixture
def verification(heads, superb, make_task, monkeypatch, on_the_cpu, tmp_path):
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
    expert = module.DownstreamExpert(heads.dim, config, str(tmp_path))
    names = [f"id{i:05}" for i in range(SPEAKERS)]
    train = pd.DataFrame({"id": names, "speaker": names, "split": "train"})
    others = [
        {"id": f"{split}{i}", "speaker": f"{split}-{i % 2}", "split": split}
        for split in ("dev", "test")
        for i in range(4)
    ]
    task = make_task("sv", pd.concat([train, pd.DataFrame(others)]).assign(duration=1.0))
    head = heads.copy(task.head(heads.dim), verification_weights(expert))
    assert heads.count(head) == heads.count(expert)
    return expert, task, head


def test_sv_outputs_and_loss(heads, verification):
    expert, task, head = verification
    each, padded, lengths = heads.features((60, 60, 60, 60))
    speakers = [3, 1210, 0, 7]
    expected = expert("train", each, list("abcd"), speakers, defaultdict(list))
    ids = [task.ids("train")[i] for i in speakers]
    _, loss = heads.loss_of(task, head.train(), padded, lengths, ids)
    heads.close(loss, expected)
    records = {}
    expert("dev", each, list("abcd"), records=records)
    heads.close(head.eval()(padded, lengths)[0], torch.stack(list(records.values())))


def test_sv_of_mixed_lengths_is_s3prls_of_each_alone(heads, verification):
    """In its own batches s3prl pools one frame too many of all but the longest utterance."""
    expert, _, head = verification
    each, padded, lengths = heads.features()
    alone, together = {}, {}
    for name, feature in zip("abcd", each, strict=True):
        expert("dev", [feature], [name], records=alone)
    expert("dev", each, list("abcd"), records=together)
    found = head.eval()(padded, lengths)[0]
    heads.close(found, torch.stack(list(alone.values())))
    gaps = [(alone[name] - together[name]).abs().max().item() for name in "abcd"]
    assert gaps[2] < 1e-5 < 1e-4 < min(gaps[:2] + gaps[3:])


@pytest.mark.parametrize("lengths", [(61, 40, 77, 52), (16, 77, 40, 39), (50, 50, 60, 50)])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_sv_of_mixed_lengths_is_trained_as_by_s3prl(heads, doubled, verification, lengths, groups):
    """With ``padding: group``, loss and gradients are s3prl's of each accumulated batch.

    In double precision, for one frame in sixty changes a loss of 20 by as little as 1e-5.
    """
    expert, task, head = verification
    each, padded, counts = heads.features(lengths)
    speakers, names = [3, 1210, 0, 7], list("abcd")
    size, expected = 4 // groups, 0.0
    for first in range(0, 4, size):
        part = slice(first, first + size)
        loss = expert("train", each[part], names[part], speakers[part], defaultdict(list)) / groups
        loss.backward()
        expected += loss.detach()
    ids = [task.ids("train")[i] for i in speakers]
    alone = heads.loss_of(task, head.train(), padded, counts, ids)[1]
    pad_by_group(head, groups)
    wide = torch.nn.functional.pad(padded, (0, 0, 0, 9), value=3.0)  # as for other runs' utterances
    _, found = heads.loss_of(task, head, wide, counts, ids)
    found.backward()
    torch.testing.assert_close(found, expected, atol=0, rtol=1e-9)
    theirs = verification_weights(expert)
    for name, parameter in head.named_parameters():
        torch.testing.assert_close(parameter.grad, theirs[name].grad, atol=1e-9, rtol=1e-7)
    assert ((alone - expected).abs() > 1e-6).item() is (groups < 4)
