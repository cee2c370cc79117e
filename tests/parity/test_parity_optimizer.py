"""Twenty updates: s3prl's runner on its heads, against our runs on ours.

s3prl accumulates: k micro-batches of B examples, each loss (a mean over its batch) divided by k,
then one update by the clipped sum of gradients. The mean over all k · B examples has the same
gradient, since every loss is a mean over examples (CTC divides each by the length of its own target
first). So our trainer takes one batch of k · B. Where a pass ends within an update, the next one's
first micro-batches complete it. Speaker verification sees the padding of each micro-batch.

Rows of the last layer are compared by the names of their classes, whose order differs.
"""

from argparse import Namespace
from string import ascii_uppercase

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import SSL_Interface
from ssl_bench import registry
from ssl_bench.heads.padding import pad_by_group
from ssl_bench.runs import Joined, Run, Runs

LAYERS, DIM, STRIDE = 4, 24, 320
STEPS, BATCH = 20, 4
PASS = 9
"""Micro-batches of a pass of s3prl's loader, which no number that is accumulated divides."""
PHONES = [f"P{i:02}" for i in range(12)]  # in the order of both vocabularies
KEYWORDS = ["yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go"]
KEYWORDS += ["_unknown_", "_silence_"]
CPU = torch.device("cpu")
WEIGHTS = "interface.weighte_sum_weights"  # as the published package spells it


class Encoder(nn.Module):
    """A frozen stand-in for an upstream: every layer is a fixed projection of 20 ms of samples."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        scale = torch.arange(1, LAYERS + 1)[:, None, None]  # layers differ, so that weights move
        self.register_buffer("weight", torch.randn(LAYERS, STRIDE, DIM) * scale / STRIDE)

    def get_downsample_rates(self, key: str) -> int:
        return STRIDE

    def forward(self, waves):
        padded = nn.utils.rnn.pad_sequence(waves, batch_first=True)
        frames = padded.unflatten(1, (-1, STRIDE))
        return {"hidden_states": list(torch.einsum("bts,lsd->lbtd", frames, self.weight).tanh())}


class Data:
    """Stands for s3prl's data sets, of which only the number of classes is asked."""

    def __init__(self, *_, **__) -> None:
        self.speaker_num = self.class_num = 7
        self.idx2emotion = {label: str(label) for label in range(7)}

    def __len__(self) -> int:
        return 7

    @staticmethod
    def label2speaker(labels):
        return [str(label) for label in labels]


def phone_config(tmp_path):
    (tmp_path / "phones.txt").write_text("\n".join(PHONES) + "\n")
    return {
        "corpus": {"name": "x"},
        "text": {"mode": "word", "vocab_file": str(tmp_path / "phones.txt")},
        "model": {"project_dim": 16, "select": "FrameLevel", "zero_infinity": True},
        "metric": ["per"],
        "metric_higher_better": False,
    }


def speaker_config(tmp_path):
    model = {"projector_dim": 16, "select": "UtteranceLevel"}
    return {
        "datarc": {"file_path": "", "meta_data": "", "max_timestep": None},
        "modelrc": {**model, "UtteranceLevel": {"pooling": "MeanPooling"}},
    }


def emotion_config(tmp_path):
    data = {"root": "", "meta_data": "", "pre_load": False, "valid_ratio": 0.2}
    return {"datarc": data, "modelrc": speaker_config(tmp_path)["modelrc"]}


def intent_config(tmp_path):
    (tmp_path / "data").mkdir()
    values = pd.DataFrame([intents(label) for label in range(7)]).assign(path="a.wav")
    for split in ("train", "valid", "test"):
        values.to_csv(tmp_path / "data" / f"{split}_data.csv")
    data = {"file_path": str(tmp_path)}
    return {"datarc": data, "modelrc": speaker_config(tmp_path)["modelrc"]}


def intents(label):
    """Return a label of each slot, all of which occur in the order of both lists of classes."""
    return {slot: str(label) for slot in ("action", "object", "location")}


def verification_config(tmp_path):
    keys = ("vad_config", "train_meta_data", "dev_meta_data", "test_meta_data", "max_timestep")
    return {
        "datarc": {"file_path": "", **dict.fromkeys(keys)},
        "modelrc": {
            "input_dim": 16,
            "module": "XVector",
            "module_config": {"XVector": {"agg_dim": 20, "dropout_p": 0.0, "batch_norm": False}},
            "agg_module": "SP",
            "utter_module": "UtteranceExtractor",
            "ObjectiveLoss": "AMSoftmaxLoss",
            "LossConfig": {"AMSoftmaxLoss": {"s": 30.0, "m": 0.4}},
        },
    }


def keyword_config(tmp_path):
    roots = ("speech_commands_root", "speech_commands_test_root")
    return {
        "datarc": dict.fromkeys(roots, str(tmp_path)),
        "modelrc": speaker_config(tmp_path)["modelrc"],
    }


RECURRENT = {
    "module": "LSTM",
    "bidirection": True,
    "total_rate": -1,
    "dim": [16, 16],
    "dropout": [0.0, 0.0],  # which both would draw on their own
    "layer_norm": [False, False],
    "proj": [False, False],
    "sample_rate": [1, 1],
    "sample_style": "concat",
}


def character_config(tmp_path):
    (tmp_path / "char.dict").write_text("".join(f"{c} 1\n" for c in "EA|B"))
    data = {"dict_path": str(tmp_path / "char.dict"), "zero_infinity": True}
    return {
        "datarc": {**data, "decoder_args": {"decoder_type": "None"}},
        "modelrc": {"project_dim": 16, "select": "RNNs", "RNNs": RECURRENT},
    }


def slot_config(tmp_path):
    (tmp_path / "characters").write_text("".join(f"{c}\n" for c in (" ", *ascii_uppercase, "'")))
    (tmp_path / "slots").write_text("O\nday\ncity")
    files = {"vocab_file": str(tmp_path / "characters"), "slots_file": str(tmp_path / "slots")}
    return {
        "corpus": {"name": "x"},
        "text": {"mode": "character-slot", **files},
        "model": {"project_dim": 16, "select": "RNNs", "RNNs": RECURRENT, "zero_infinity": True},
        "metric": ["slot_type_f1"],
        "metric_higher_better": True,
    }


def phone_head(expert):
    return {"projector": expert.projector, "linear": expert.model.linear}


def class_head(expert):
    return {"projector": expert.projector, "linear": expert.model.post_net.linear}


def recurrent_head(expert):
    layers = {f"rnns.{i}": rnn.layer for i, rnn in enumerate(expert.model.rnns)}
    return {"projector": expert.projector, **layers, "linear": expert.model.linear}


def verification_head(expert):
    tdnn = dict(expert.model.framelevel_feature_extractor.module.named_children())
    extractor = expert.model.utterancelevel_feature_extractor
    return {
        "connector": expert.connector,
        **{f"tdnn.{name}": module for name, module in tdnn.items()},
        "linear1": extractor.linear1,
        "linear2": extractor.linear2,
        "speakers": expert.objective.W,
    }


TASKS = {
    # SUPERB's optimizer and accumulation; gradients clipped where about half of the steps are.
    "pr": ("ctc", phone_config, phone_head, "Adam", 2.5, 2),
    "sid": ("voxceleb1", speaker_config, class_head, "Adam", 0.3, 4),
    "er": ("emotion", emotion_config, class_head, "Adam", 0.3, 8),
    "ic": ("fluent_commands", intent_config, class_head, "Adam", 0.9, 1),
    "ks": ("speech_commands", keyword_config, class_head, "Adam", 0.9, 1),
    "asr": ("asr", character_config, recurrent_head, "Adam", 1.5, 1),
    "sf": ("ctc", slot_config, recurrent_head, "Adam", 1.5, 1),
    "sv": ("sv_voxceleb1", verification_config, verification_head, "AdamW", 30.0, 5),
}


DATASETS = (
    "SpeakerClassifiDataset",
    "IEMOCAPDataset",
    "SpeakerVerifi_train",
    "SpeakerVerifi_test",
)
"""Of these experts, which ``Data`` stands for."""


def named(parts):
    """Our names of the head's parameters → s3prl's parameters."""
    found = {}
    for name, part in parts.items():
        if isinstance(part, nn.Parameter):
            found[f"head.{name}"] = part
        else:
            found |= {f"head.{name}.{key}": value for key, value in part.named_parameters()}
    return found


def utterances(kind, count):
    """Waves and labels."""
    random = np.random.default_rng(5)
    lengths = random.integers(24, 60, count)
    waves = [random.normal(size=n * STRIDE) for n in lengths]
    if kind == "pr":
        return waves, [" ".join(random.choice(PHONES, 8)) for _ in range(count)]
    if kind in ("asr", "sf"):
        words = [random.choice(["A", "BE", "EBB", "ABBE"], 3).tolist() for _ in range(count)]
        slots = [random.choice(["O", "city", "day"], 3).tolist() for _ in range(count)]
        slots[0] = ["O", "city", "day"]  # all of them occur
        return waves, list(zip(words, slots, strict=True))
    return waves, random.integers(0, 7, count).tolist()


def columns(kind, label, split, i):
    """Return one row's labels."""
    if kind == "pr":
        return {"phones": label}
    if kind in ("asr", "sf"):
        return {"text": " ".join(label[0]), "slots": " ".join(label[1])}
    if kind == "ks":
        return {"keyword": KEYWORDS[label]}
    speaker = str(label) if split == "train" or kind == "sid" else f"{split}-{i % 2}"
    return {"speaker": speaker, "emotion": str(label), **intents(label)}


def labelled(kind, labels, tmp_path, make_task):
    every = {"pr": [], "asr": [], "sf": [], "ks": range(12)}.get(kind, range(7))
    rows = [
        {"id": f"{split}-{i:04}", "split": split, **columns(kind, label, split, i)}
        for split in ("train", "dev", "test")
        for i, label in enumerate([*labels, *every])
    ]
    recurrent = {"dropout": 0.0, "specaugment": None}
    keys = {
        "pr": {"vocabulary_file": str(tmp_path / "phones.txt")},
        "asr": recurrent,
        "sf": recurrent,
        "sv": {"pooled": 20, "trials": 4},
    }
    table = pd.DataFrame(rows).assign(duration=1.0)
    return make_task(kind, table, hidden=16, **keys.get(kind, {}))


def last_rows(kind, task, expert):
    """Return for each class of ours its place in s3prl's last layer."""
    if kind == "ks":
        return [KEYWORDS.index(name) for name in task.classes["keyword"]]
    if kind == "asr":
        symbols = expert.dictionary.symbols
        return [symbols.index({"<eos>": "</s>"}.get(symbol, symbol)) for symbol in task.symbols]
    if kind == "sf":
        symbols = [*expert.tokenizer._vocab_list, *expert.tokenizer.slots]
        return [symbols.index(symbol) for symbol in task.symbols]
    return slice(None)


def encoded(kind, label, expert):
    """Return a label as s3prl's data set gives it."""
    if kind == "pr":
        return expert.tokenizer.encode(label)
    if kind == "sf":
        words, slots = (" ".join(part) for part in label)
        return expert.tokenizer.encode(f"BOS {words} EOS\tO {slots} intent")
    if kind == "asr":
        symbols = [*"|".join(label[0]), "|"]
        return [expert.dictionary.index(symbol) for symbol in symbols] + [expert.dictionary.eos()]
    return [label] * 3 if kind == "ic" else label


@pytest.fixture
def follow(superb, make_task, monkeypatch, on_the_cpu, doubled, tmp_path):
    """Return a function that holds our updates to s3prl's, and returns ours and the norms."""

    def followed(kind, rate, lost=()):
        runner_module = superb("downstream.runner")
        downstream, config, head_of, optimizer, clip, accumulate = TASKS[kind]
        module = superb(f"downstream.{downstream}.expert")
        for name in DATASETS:
            if hasattr(module, name):
                monkeypatch.setattr(module, name, Data)
        monkeypatch.setattr(superb("hub"), "parity", lambda **_: Encoder(), raising=False)
        torch.manual_seed(0)
        settings = {
            "runner": {
                "total_steps": STEPS,
                "gradient_clipping": clip,
                "gradient_accumulate_steps": accumulate,
                **dict.fromkeys(("log_step", "eval_step", "save_step"), 1000),
            },
            "optimizer": {"name": "TorchOptim", "torch_optim_name": optimizer, "lr": rate},
            "downstream_expert": config(tmp_path),
        }
        runner = runner_module.Runner(arguments(downstream, tmp_path), settings)
        expert, featurizer = runner.downstream.model, runner.featurizer.model
        theirs = {WEIGHTS: featurizer.weights, **named(head_of(expert))}
        trained = {*featurizer.parameters(), *expert.parameters()}
        assert {id(p) for p in theirs.values()} == {id(p) for p in trained}

        size = BATCH * accumulate
        waves, labels = utterances(kind, STEPS * size)
        for step in lost:
            waves[step * size][100] = np.nan
        task = labelled(kind, labels, tmp_path, make_task)
        ours = Runs(
            [Run(seed=0, learning_rate=rate)],
            lambda: Joined(
                SSL_Interface.create("weighted_sum", num_layers=LAYERS, dim=DIM, normalize=False),
                task.head(DIM),
            ),
            CPU,
            stackable=task.stackable,
            clip=clip,
            decoupled=optimizer == "AdamW",
            weight_decay=0.01 if optimizer == "AdamW" else 0.0,  # torch's default
            layer_weight_scale=1.0,
            skip=task_recipe(kind).not_finite == "skip",
        )
        if task_recipe(kind).padding == "group":
            pad_by_group(ours.skeleton, accumulate)
        order = last_rows(kind, task, expert)

        def as_ours(name):
            rows = order if name.startswith("head.linear.") else slice(None)
            return theirs[name].detach()[rows].clone()

        assert set(ours.params) == set(theirs)
        with torch.no_grad():
            for name in theirs:
                ours.params[name][0] = as_ours(name)

        # s3prl's, recorded after every update, whether it was taken or not
        path, norms = [], []
        clip_norm = nn.utils.clip_grad_norm_

        def clipped(*those):
            path.append({name: as_ours(name) for name in theirs})
            norms.append(clip_norm(*those))
            return norms[-1]

        monkeypatch.setattr(nn.utils, "clip_grad_norm_", clipped)
        batches = []
        for start in range(0, len(waves), BATCH):
            part = slice(start, start + BATCH)
            others = [[encoded(kind, label, expert) for label in labels[part]], list("abcd")]
            batches.append((waves[part], *(others[::-1] if kind == "sv" else others)))
        passes = iter([batches[start : start + PASS] for start in range(0, len(batches), PASS)])
        monkeypatch.setattr(expert, "get_dataloader", lambda split, epoch: next(passes))
        runner.train()
        assert len(path) == STEPS
        first, *path = [*path, {name: as_ours(name) for name in theirs}]

        # ours, one batch for each update
        encoder, ids = Encoder(), task.ids("train")
        for step, expected in enumerate(path):
            part = slice(step * size, (step + 1) * size)
            tensors = [torch.from_numpy(wave) for wave in waves[part]]
            states = torch.stack(encoder(tensors)["hidden_states"])
            lengths = torch.tensor([len(wave) // STRIDE for wave in tensors])
            outputs, out_lengths = ours.forward(
                states[None], lengths[None], training=True, shared=False
            )
            losses = task.loss(outputs[0], out_lengths[0], *task.targets_for(ids[part]))
            ours.step(losses.mean()[None])
            for name, value in expected.items():
                torch.testing.assert_close(
                    ours.params[name][0], value, atol=1e-6, rtol=0, msg=f"step {step}: {name}"
                )
        moved = {name: (path[-1][name] - value).abs().max() for name, value in first.items()}
        assert max(moved.values()) > 5 * rate  # it went somewhere
        assert min(moved.values()) > rate
        return ours, np.array(norms), clip

    return followed


def task_recipe(kind):
    return registry.load("tasks", kind).RECIPE.training


def arguments(downstream, tmp_path):
    """Return what s3prl's command line would say."""
    none = ("init_ckpt", "upstream_ckpt", "upstream_model_config", "upstream_layer_selection")
    return Namespace(
        **dict.fromkeys(none),
        upstream="parity",
        upstream_refresh=False,
        push_to_hf_hub=False,
        upstream_trainable=False,
        upstream_feature_selection="hidden_states",
        upstream_feature_normalize=False,
        downstream=downstream,
        device="cpu",
        expdir=str(tmp_path),
    )


@pytest.mark.parametrize("rate", [1e-4, 1e-2])
@pytest.mark.parametrize("kind", TASKS)
def test_trajectory(kind, rate, follow):
    ours, norms, clip = follow(kind, rate)
    assert ours.updates.tolist() == [STEPS]
    assert min(norms) < clip < max(norms)


@pytest.mark.parametrize("kind", ["sid", "ks", "sv"])
def test_an_update_that_is_nan_is_skipped(kind, follow):
    """And Adam has not counted it, nor has it left a trace in the moments."""
    lost = (0, 7, 8)
    ours, norms, _ = follow(kind, 1e-3, lost)
    assert np.flatnonzero(np.isnan(norms)).tolist() == list(lost)
    assert ours.updates.tolist() == [STEPS - len(lost)]
    assert ours.alive.all()
