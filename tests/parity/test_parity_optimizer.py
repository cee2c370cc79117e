"""Twenty updates: s3prl's runner on its heads, against our stacked runs on ours.

s3prl accumulates: k micro-batches of B examples, each loss (a mean over its batch) divided by k,
then one update by the clipped sum of gradients. The mean over all k · B examples has the same
gradient, since every loss is a mean over examples (CTC divides each by the length of its own target
first). So our trainer takes one batch of k · B.
"""

from argparse import Namespace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import SSL_Interface
from ssl_bench.runs import Joined, Run, Runs

LAYERS, DIM, STRIDE = 4, 24, 320
STEPS, BATCH = 20, 4
PHONES = [f"P{i:02}" for i in range(12)]  # in the order of both vocabularies
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


def phone_head(expert):
    return {"projector": expert.projector, "linear": expert.model.linear}


def class_head(expert):
    return {"projector": expert.projector, "linear": expert.model.post_net.linear}


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
    """Waves and labels; those of verification are all as long (see the test of the heads)."""
    random = np.random.default_rng(5)
    lengths = random.integers(24, 60, count)
    if kind == "sv":
        lengths[:] = 40
    waves = [random.normal(size=n * STRIDE).astype(np.float32) for n in lengths]
    if kind == "pr":
        return waves, [" ".join(random.choice(PHONES, 8)) for _ in range(count)]
    return waves, random.integers(0, 7, count).tolist()


def labelled(kind, labels, tmp_path, make_task):
    rows = []
    for split in ("train", "dev", "test"):
        for i, label in enumerate([*labels, *range(7)] if kind != "pr" else labels):
            speaker = str(label) if split == "train" or kind == "sid" else f"{split}-{i % 2}"
            rows.append(
                {
                    "id": f"{split}-{i:04}",
                    "split": split,
                    "phones": label,
                    "speaker": speaker,
                    "emotion": str(label),
                    **intents(label),
                }
            )
    table = pd.DataFrame(rows).assign(duration=1.0)
    keys = {
        "pr": {"hidden": 16, "vocabulary_file": str(tmp_path / "phones.txt")},
        "sid": {"hidden": 16},
        "er": {"hidden": 16},
        "ic": {"hidden": 16},
        "sv": {"hidden": 16, "pooled": 20, "trials": 4},
    }
    return make_task(kind, table, **keys[kind])


@pytest.mark.parametrize("rate", [1e-4, 1e-2])
@pytest.mark.parametrize("kind", TASKS)
def test_trajectory(kind, rate, superb, make_task, monkeypatch, on_the_cpu, tmp_path):
    downstream, config, head_of, optimizer, clip, accumulate = TASKS[kind]
    runner_module, module = superb("downstream.runner"), superb(f"downstream.{downstream}.expert")
    for name in DATASETS:
        if hasattr(module, name):
            monkeypatch.setattr(module, name, Data)
    monkeypatch.setattr(superb("hub"), "parity", lambda **_: Encoder(), raising=False)
    args = {"init_ckpt", "upstream_ckpt", "upstream_model_config", "upstream_layer_selection"}
    torch.manual_seed(0)
    runner = runner_module.Runner(
        Namespace(
            **dict.fromkeys(args),
            upstream="parity",
            upstream_refresh=False,
            push_to_hf_hub=False,
            upstream_trainable=False,
            upstream_feature_selection="hidden_states",
            upstream_feature_normalize=False,
            downstream=downstream,
            device="cpu",
            expdir=str(tmp_path),
        ),
        {
            "runner": {
                "total_steps": STEPS,
                "gradient_clipping": clip,
                "gradient_accumulate_steps": accumulate,
                **dict.fromkeys(("log_step", "eval_step", "save_step"), 1000),
            },
            "optimizer": {"name": "TorchOptim", "torch_optim_name": optimizer, "lr": rate},
            "downstream_expert": config(tmp_path),
        },
    )
    expert, featurizer = runner.downstream.model, runner.featurizer.model
    theirs = {WEIGHTS: featurizer.weights, **named(head_of(expert))}
    trained = {*featurizer.parameters(), *expert.parameters()}
    assert {id(p) for p in theirs.values()} == {id(p) for p in trained}

    waves, labels = utterances(kind, STEPS * BATCH * accumulate)
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
    )
    assert set(ours.params) == set(theirs)
    with torch.no_grad():
        for name, value in theirs.items():
            ours.params[name][0] = value

    # s3prl's, recorded after every update
    path, norms = [], []
    make_optimizer = runner_module.get_optimizer

    def recorded(*arguments):
        made = make_optimizer(*arguments)
        made.register_step_post_hook(
            lambda *_: path.append({name: p.detach().clone() for name, p in theirs.items()})
        )
        return made

    clip_norm = nn.utils.clip_grad_norm_
    monkeypatch.setattr(runner_module, "get_optimizer", recorded)
    monkeypatch.setattr(
        nn.utils, "clip_grad_norm_", lambda *a: norms.append(clip_norm(*a)) or norms[-1]
    )
    starts = range(0, len(waves), BATCH)
    batches = []
    for start in starts:
        part = slice(start, start + BATCH)
        names = [str(i) for i in range(BATCH)]
        if kind == "pr":
            batches.append((waves[part], [expert.tokenizer.encode(t) for t in labels[part]], names))
        elif kind == "ic":
            batches.append((waves[part], [[label] * 3 for label in labels[part]], names))
        elif kind != "sv":
            batches.append((waves[part], labels[part], names))
        else:
            batches.append((waves[part], names, labels[part]))
    monkeypatch.setattr(expert, "get_dataloader", lambda split, epoch: batches)
    runner.train()
    assert len(path) == len(norms) == STEPS

    # ours, one batch for each update
    encoder, ids, size = Encoder(), task.ids("train"), BATCH * accumulate
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
                ours.params[name][0], value, atol=1e-4, rtol=0, msg=f"step {step}: {name}"
            )
    start = featurizer.weights.new_zeros(LAYERS)
    assert (path[-1][WEIGHTS] - start).abs().max() > 5 * rate  # it went somewhere
    assert min(norms) < clip < max(norms)
