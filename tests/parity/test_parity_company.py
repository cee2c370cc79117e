"""``encode: group``: states, a step of PR, and scores of ER and IC, against s3prl's own.

That is its upstream, Featurizer, runner, and the experts' loaders and heads.

The recordings are noise of mixed lengths and levels, the encoders random and small, the checkpoints
in s3prl's own format.
"""

from argparse import Namespace
from collections import defaultdict
from importlib import import_module
from itertools import islice
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from random_checkpoints import CASES, build, checkpoint_of
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from ssl_bench import cells, corpus, features, training
from ssl_bench.company import Company, Together
from ssl_bench.evaluation import evaluate
from ssl_bench.prefetch import readings
from ssl_bench.runs import Run
from ssl_bench.steps import make_step
from ssl_bench.study import parse

CPU = torch.device("cpu")
PHONES = [f"P{i:02}" for i in range(12)]
EMOTIONS = ["neu", "hap", "ang", "sad"]
SLOTS = ["action", "object", "location"]
TRAIN = 11
PR = {"recipe": "none", "steps": 8, "batch_utterances": 8, "neighbours": 4, "buckets": 2}
WAYS = {
    "sliding": {"batches": "sliding"},  # as PR
    "smaller": {"batches": "random", "last_batch": "smaller"},  # as SID, SV, ER
    "shared": {"batches": "sorted", "last_batch": "shared"},
    "one": {"batches": "random", "neighbours": None},  # as KS
    "crops": {
        "batches": "random",
        "last_batch": "smaller",
        "crop_seconds": 0.55,
        "crop": "waveform",
    },
}


def written(case, path):
    """Write a checkpoint whose norms are not the identity, so that what they see shows."""
    torch.manual_seed(2)
    model, settings = build(case)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    torch.save(checkpoint_of(case, model, settings), path)
    return str(path)


@pytest.fixture
def opened(tmp_path, monkeypatch):
    """``opened(case, training, **keys)``: the stream of phone recognition on noise."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    lines = ["\t".join(["path", "split", "speaker", "phones", "emotion", *SLOTS])]
    for split, count in {"train": TRAIN, "dev": 6, "test": 7}.items():
        for i in range(count):
            samples = random.integers(6_000, 16_000)
            if split == "train" and i < 3:
                samples = (12_800 + 70, 12_800 + 160, 16_000 - 1)[i]  # where the rules differ
            wave = 0.01 * 1.4**i * random.standard_normal(samples) + 0.003 * i
            soundfile.write(f"{split}-{i}.wav", wave.clip(-1, 1), 16_000)
            phones = " ".join(random.choice(PHONES, random.integers(4, 12)))
            labels = [EMOTIONS[i % 4], *(f"{slot}{i % 4}" for slot in SLOTS)]
            lines.append("\t".join([f"{split}-{i}.wav", split, split, phones, *labels]))
    (tmp_path / "list.tsv").write_text("\n".join(lines) + "\n")
    (tmp_path / "phones.txt").write_text("\n".join(PHONES) + "\n")

    def make(case, said, kind="pr", **keys):
        upstream = {"kind": "s3prl", "name": f"{case.family}_local"}
        upstream["path"] = written(case, tmp_path / "checkpoint.pt")
        task = {"kind": kind, "corpus": "noise", "hidden": 16}
        if kind == "pr":
            task["vocabulary_file"] = "phones.txt"
        study = parse(
            {
                "name": "company",
                "device": "cpu",
                "seeds": 2,
                "corpora": {"noise": {"kind": "manifest", "path": "list.tsv"}},
                "upstreams": {"random": upstream},
                "tasks": {kind: task},
                "interfaces": {"weighted_sum": {}},
                "training": {"encode": "group", **PR, **said},
                "sweep": {"learning_rates": [1e-2]},
                "state_dtype": "fp32",
                "normalize": False,
                **keys,
            }
        )
        corpus.prepare(study, "noise")
        features.compute(study, "random", "noise", CPU)
        return cells._open(study, kind, "random", CPU)

    return make


def batches(own, seeds=(0, 1)):
    rows = np.array([own.rows[name] for name in own.task.ids("train")])
    return list(training._batches(list(seeds), own.task, own.heard, rows, own.training))


def published(own, batch, seed):
    """Yield for each published batch the places of its utterances in ours, and their waveforms."""
    size = -(-batch.rows.shape[1] // batch.groups)
    for first in range(0, batch.rows.shape[1], size):
        places = np.arange(first, min(first + size, batch.rows.shape[1]))
        if batch.weights is not None:
            places = places[batch.weights[seed, places] > 0]
        waves = []
        for place in places:
            wave = own.heard.corpus.waveform(batch.rows[seed, place])
            if batch.starts is not None:
                start = batch.starts[seed, place]
                wave = wave[start : start + own.heard.cropped.samples]
            waves.append(torch.from_numpy(wave.astype(np.float32)) / 32767)
        yield places, waves


def theirs(superb, expert, waves):
    """What s3prl's upstream and Featurizer make of a batch: for each state a list of (T, D)."""
    featurizer = superb("upstream.interfaces").Featurizer(expert, upstream_device="cpu")
    with torch.no_grad():
        return [featurizer.tolist(waves, state) for state in expert(waves)["hidden_states"]]


@pytest.mark.parametrize(
    ("case", "way"),
    [(case, "sliding") for case in CASES] + [(CASES[0], way) for way in list(WAYS)[1:]],
    ids=str,
)
def test_states_are_those_of_s3prls_padded_batch(superb, opened, case, way) -> None:
    """To the last bit, whatever the batch; rows of no weight are neither encoded nor pad."""
    own = opened(case, WAYS[way])
    assert isinstance(own.heard, Company)
    expert = own.heard.upstream.expert
    longer, uneven = 0, False
    for batch in batches(own):
        states, lengths = own.heard.page(batch).batch(batch.rows, batch.width, None, batch.starts)
        uneven |= batch.weights is not None
        for seed in range(2):
            for places, waves in published(own, batch, seed):
                layers = theirs(superb, expert, waves)
                for number, place in enumerate(places):
                    expected = torch.stack([layer[number] for layer in layers])
                    count = int(lengths[seed, place])
                    assert count == expected.shape[1]
                    assert torch.equal(states[seed, :, place, :count], expected)
                    assert not states[seed, :, place, count:].any()
                    longer += count - own.heard.upstream.frames(len(waves[number]))
    assert longer > 0  # round(n / 320) frames are more than an utterance alone has
    assert uneven is (way in ("smaller", "shared", "crops"))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_with_ceil_they_are_those_of_s3prl_nns_padded_batch(opened, case, tmp_path) -> None:
    """Through which ESPnet reads: it repeats the padded batch's last frame, not the utterance's."""
    own = opened(case, {**WAYS["shared"], "frames": "ceil"})
    upstream = import_module("s3prl.nn.upstream").S3PRLUpstream(
        f"{case.family}_local", str(tmp_path / "checkpoint.pt")
    )
    upstream.eval()
    more = 0
    for batch in batches(own):
        states, lengths = own.heard.page(batch).batch(batch.rows, batch.width, None, batch.starts)
        for seed in range(2):
            for places, waves in published(own, batch, seed):
                samples = torch.tensor([len(wave) for wave in waves])
                with torch.no_grad():
                    layers, counts = upstream(pad_sequence(waves, batch_first=True), samples)
                assert lengths[seed, places].tolist() == counts[0].tolist()
                for number, place in enumerate(places):
                    count = int(lengths[seed, place])
                    expected = torch.stack([layer[number, :count] for layer in layers])
                    assert torch.equal(states[seed, :, place, :count], expected)
                    assert not states[seed, :, place, count:].any()
                    more += count - own.heard.upstream.frames(len(waves[number]))
    assert more > 0


@pytest.mark.parametrize("case", CASES, ids=str)
def test_company_changes_states(opened, case) -> None:
    """Of all but wav2vec 2.0's Large form, whose frontend and attention see no padding."""
    own = opened(case, WAYS["sliding"])
    gap = 0.0
    for batch in batches(own):
        page = own.heard.page(batch)
        states, lengths = page.batch(batch.rows, batch.width, None, batch.starts)
        alone, own_lengths = own.features.batch(batch.rows, batch.width)
        assert ((lengths - own_lengths).abs() <= 1).all()
        inside = torch.arange(batch.width) < torch.minimum(lengths, own_lengths)[:, :, None]
        apart = (states - alone).abs().amax((1, 4))
        gap = max(gap, apart[inside].max().item())
    if str(case) == "wav2vec2-pre":
        assert gap < 1e-4
    else:
        assert gap > 1e-3


def test_rows_of_no_weight_are_not_encoded_and_equal_groups_once(opened, monkeypatch) -> None:
    own = opened(CASES[0], WAYS["smaller"])
    asked = []
    real = own.heard.upstream.together
    monkeypatch.setattr(
        own.heard.upstream, "together", lambda waves: asked.append(len(waves)) or real(waves)
    )
    for batch in batches(own, (0, 1, 0)):
        assert batch.groups == 2
        own.heard.page(batch)
        distinct = batch.rows[:2].reshape(4, -1)
        counts = np.full(4, distinct.shape[1])
        if batch.weights is not None:
            counts = (batch.weights[:2] > 0).reshape(4, -1).sum(1)
        assert sorted(asked) == sorted(counts)
        asked.clear()


def test_a_batch_of_pr_has_the_loss_and_gradient_of_s3prls_two(
    superb, opened, monkeypatch, on_the_cpu, tmp_path
) -> None:
    """Two batches of four whose gradients s3prl's runner accumulates: one of ours."""
    own = opened(CASES[0], {**WAYS["sliding"], "precision": "fp32"})
    settings = {
        "runner": {
            "total_steps": 1,
            "gradient_clipping": 1,
            "gradient_accumulate_steps": 2,
            **dict.fromkeys(("log_step", "eval_step", "save_step"), 1000),
        },
        "optimizer": {"name": "TorchOptim", "torch_optim_name": "Adam", "lr": 1e-2},
        "downstream_expert": {
            "corpus": {"name": "x"},
            "text": {"mode": "word", "vocab_file": str(tmp_path / "phones.txt")},
            "model": {"project_dim": 16, "select": "FrameLevel", "zero_infinity": True},
            "metric": ["per"],
            "metric_higher_better": False,
        },
    }
    said = dict.fromkeys(("init_ckpt", "upstream_model_config", "upstream_layer_selection"))
    said |= dict.fromkeys(("upstream_refresh", "push_to_hf_hub", "upstream_trainable"), False)
    arguments = Namespace(
        **said,
        upstream="hubert_local",
        upstream_ckpt=str(tmp_path / "checkpoint.pt"),
        upstream_feature_selection="hidden_states",
        upstream_feature_normalize=False,
        downstream="ctc",
        device="cpu",
        expdir=str(tmp_path),
    )
    superb("downstream.ctc.expert")
    runner = superb("downstream.runner").Runner(arguments, settings)
    featurizer, expert = runner.featurizer.model, runner.downstream.model
    nn.init.normal_(featurizer.weights)
    parameters = {
        "interface.weighte_sum_weights": featurizer.weights,
        "head.projector.weight": expert.projector.weight,
        "head.projector.bias": expert.projector.bias,
        "head.linear.weight": expert.model.linear.weight,
        "head.linear.bias": expert.model.linear.bias,
    }

    runs = cells._runs(own, [Run(0, 1e-2)], cells._maker(own, "weighted_sum"), own.training)
    assert set(runs.params) == set(parameters)
    with torch.no_grad():
        for name, value in parameters.items():
            runs.params[name][0] = value
    course = training.Course(runs, own.training, [0])
    targets = training.Targets(own.task, own.rows, CPU)
    (batch,) = islice(batches(own, [0]), 1)

    served, names = [], own.task.ids("train")
    for places, waves in published(own, batch, 0):
        ids = [names[list(targets.rows).index(row)] for row in batch.rows[0, places]]
        labels = [expert.tokenizer.encode(" ".join(own.task.phones[name])) for name in ids]
        order = sorted(range(len(ids)), key=lambda i: -len(waves[i]))  # as s3prl collates
        served.append(([waves[i].numpy() for i in order], [labels[i] for i in order], list("abcd")))
    monkeypatch.setattr(expert, "get_dataloader", lambda split, epoch: served)
    losses, gradients = [], {}
    expert.register_forward_hook(lambda module, given, loss: losses.append(float(loss.detach())))

    def kept(*_):
        gradients.update({name: value.grad.clone() for name, value in parameters.items()})
        return torch.zeros(())

    monkeypatch.setattr(nn.utils, "clip_grad_norm_", kept)
    runner.train()
    assert len(losses) == 2

    found = []
    monkeypatch.setattr(runs, "update", lambda gradients, rate: found.append(gradients[0]))
    (reads,) = readings(own.heard, [batch], [course])
    training.learn(make_step(runs), [course], reads, targets, 1.0)
    assert course.loss.item() == pytest.approx(np.mean(losses), rel=1e-5)
    sizes = [value[0].numel() for value in runs.params.values()]
    for name, gradient in zip(runs.params, found[0].split(sizes), strict=True):
        expected = gradients[name].flatten()
        torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-5, msg=name)
        assert expected.abs().max() > 1e-3


@pytest.mark.parametrize("case", CASES, ids=str)
def test_of_one_utterance_alone_the_featurizer_cuts_nothing(superb, opened, case) -> None:
    """So where s3prl scores one at a time, dev and test have its states."""
    own = opened(case, WAYS["sliding"])
    for row in np.array([own.rows[name] for name in own.task.ids("dev")]):
        wave = torch.from_numpy(own.heard.corpus.waveform(row).astype(np.float32)) / 32767
        expected = [layer[0] for layer in theirs(superb, own.heard.upstream.expert, [wave])]
        states, lengths = own.features.batch(np.array([row]), own.features.frames[row])
        assert lengths.tolist() == [len(expected[0])]
        torch.testing.assert_close(states[:, 0], torch.stack(expected), rtol=0, atol=0)


# ---- what is scored


class Noises(torch.utils.data.Dataset):
    """The utterances of a split in their order, as an expert's own data set returns them."""

    idx2emotion = dict(enumerate(EMOTIONS))

    def __init__(self, own, split, label_of) -> None:
        self.own, self.ids, self.label_of = own, own.task.ids(split), label_of

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, place):
        name = self.ids[place]
        wave = self.own.heard.corpus.waveform(self.own.rows[name]).astype(np.float32) / 32767
        return wave, self.label_of(self.own.task.rows.loc[name]), name

    def collate_fn(self, samples):
        return tuple(map(list, zip(*samples, strict=True)))


class Emotions:
    """Stands for IEMOCAP while the expert is made."""

    class_num, idx2emotion = 4, Noises.idx2emotion

    def __init__(self, *_) -> None: ...

    def __len__(self) -> int:
        return 10


LINEAR = {"projector_dim": 16, "select": "UtteranceLevel"}
LINEAR["UtteranceLevel"] = {"pooling": "MeanPooling"}
LOADER = {"num_workers": 0, "eval_batch_size": 4}


def emotion(superb, own, monkeypatch, tmp_path):
    """Return ER's expert, a label as it takes it, and its row of each of our classes."""
    module = superb("downstream.emotion.expert")
    monkeypatch.setattr(module, "IEMOCAPDataset", Emotions)
    data = {"root": "", "meta_data": "", "pre_load": False, "valid_ratio": 0.2, **LOADER}
    expert = module.DownstreamExpert(
        own.features.dim, {"datarc": data, "modelrc": LINEAR}, str(tmp_path)
    )
    order = [EMOTIONS.index(name) for name in own.task.classes["emotion"]]
    return expert, lambda row: EMOTIONS.index(row["emotion"]), order


def intent(superb, own, monkeypatch, tmp_path):
    """The same of IC."""
    module = superb("downstream.fluent_commands.expert")
    (tmp_path / "data").mkdir()
    names = pd.DataFrame({slot: [f"{slot}{i}" for i in (2, 0, 3, 1)] for slot in SLOTS})
    for split in ("train", "valid", "test"):
        names.assign(path="a.wav").to_csv(tmp_path / "data" / f"{split}_data.csv")
    data = {"file_path": str(tmp_path), **LOADER}
    expert = module.DownstreamExpert(
        own.features.dim, {"datarc": data, "modelrc": LINEAR}, str(tmp_path)
    )
    order = [
        4 * place + expert.Sy_intent[slot][name]
        for place, slot in enumerate(SLOTS)
        for name in own.task.classes[slot]
    ]
    return expert, lambda row: [expert.Sy_intent[slot][row[slot]] for slot in SLOTS], order


@pytest.mark.parametrize("split", ["dev", "test"])
@pytest.mark.parametrize(("kind", "make"), [("er", emotion), ("ic", intent)])
@pytest.mark.parametrize("case", CASES[:2], ids=str)
def test_a_split_is_scored_in_s3prls_batches(
    superb, opened, monkeypatch, tmp_path, case, kind, make, split
) -> None:
    """Those of the expert's loader; logits, predictions and their mean, also with crops."""
    said = {**WAYS["crops"], "precision": "fp32", "scored_utterances": 4}
    own = opened(case, said, kind)
    upstream = own.heard.upstream.expert
    torch.manual_seed(0)
    expert, label_of, order = make(superb, own, monkeypatch, tmp_path)
    expert.eval()
    featurizer = superb("upstream.interfaces").Featurizer(upstream, upstream_device="cpu")
    nn.init.normal_(featurizer.weights)
    setattr(expert, f"{split}_dataset", Noises(own, split, label_of))

    records, logits, sizes = defaultdict(list), [], []
    expert.model.register_forward_hook(lambda module, given, out: logits.append(out[0]))
    with torch.no_grad():
        for waves, labels, names in expert.get_dataloader(split):
            wavs = [torch.from_numpy(np.asarray(wave)) for wave in waves]
            features = featurizer(wavs, upstream(wavs))
            expert(split, features, labels, names, records)
            sizes.append(len(names))
    assert sizes == {"dev": [4, 2], "test": [4, 3]}[split]

    runs = cells._runs(own, [Run(0, 1e-2)], cells._maker(own, "weighted_sum"), own.training)
    linear = expert.model.post_net.linear
    weights = {
        "interface.weighte_sum_weights": featurizer.weights,
        "head.projector.weight": expert.projector.weight,
        "head.projector.bias": expert.projector.bias,
        "head.linear.weight": linear.weight[order],
        "head.linear.bias": linear.bias[order],
    }
    runs.restore({name: value[None] for name, value in weights.items()})
    ours, real = [], runs.forward

    def forward(*given, **keys):
        outputs, lengths = real(*given, **keys)
        ours.append(outputs[0])
        return outputs, lengths

    monkeypatch.setattr(runs, "forward", forward)
    where = own.rows, split, own.training.scored_seconds
    (found,) = evaluate([runs], own.task, own.scored, *where, together=4)
    assert [len(part) for part in ours] == sizes
    torch.testing.assert_close(torch.cat(ours), torch.cat(logits)[:, order], rtol=0, atol=1e-5)
    table = found.tables[0].set_index("id")["correct"]
    assert table[records["filename"]].tolist() == records["acc"]

    ours.clear()
    evaluate([runs], own.task, own.features, *where)
    rows = own.features.frames[[own.rows[name] for name in own.task.ids(split)]]
    alone = torch.cat(ours)[np.argsort(np.argsort(-rows, kind="stable"))]
    assert (alone - torch.cat(logits)[:, order]).abs().max() > 1e-3


def test_whatever_its_length() -> None:
    samples = np.arange(800, 320_000)
    alone = (samples - 400) // 320 + 1
    upstream = SimpleNamespace(stride=320, frames=lambda n: 10_000)
    assert (Together(upstream).kept(samples) >= alone).all()
