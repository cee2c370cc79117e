"""Every task's head learns synthetic features from which its labels can be read."""

import pytest
import torch

from ssl_bench import registry
from ssl_bench.tasks.sf import marked

DIM = 16
FRAMES = {"asr": 2, "sf": 2}
"""Frames of a symbol, 6 unless said; a BiLSTM is slow on one core."""
STEPS = {"pr": 250, "mono_asr": 100, "multi_asr": 100, "sf": 100}
RATE = {"pr": 3e-2, "asr": 3e-2, "sf": 3e-2}
RECOGNISER = {"dim": 32, "projection": 24, "feed_forward": 64}
KEYS = {
    "pr": {"hidden": 64},
    "asr": {"metric": "cer", "hidden": 32},
    "sf": {"hidden": 32},
    "mono_asr": RECOGNISER,
    "multi_asr": RECOGNISER,
    "multi_lid": RECOGNISER,
}


def features_of(task, table, codes, ids, kind):
    """A frame is the code of its symbol, class or speaker, plus a little noise."""
    generator = torch.Generator().manual_seed(len(ids))
    rows = table.set_index("id").loc[ids]
    if kind == "pr":
        # The end can be seen in a contextual encoder's states, so it has a code, too.
        sequences = [[*label.split(), "<eos>"] for label in rows["phones"]]
    elif kind in ("asr", "mono_asr", "multi_asr"):
        sequences = [[*text, " ", "<eos>"] for text in rows["text"]]
    elif kind == "sf":
        pairs = zip(rows["text"].str.upper().str.split(), rows["slots"].str.split(), strict=True)
        sequences = [[*marked(*pair), "<eos>"] for pair in pairs]
    elif kind == "multi_lid":
        sequences = [[label, "end"] for label in rows["language"]]
    elif kind == "ic":
        sequences = [list(labels) for labels in rows[["action", "object", "location"]].to_numpy()]
    else:
        column = {"sv": "speaker"}.get(kind) or task.config.column
        sequences = [[label] * 4 for label in rows[column]]
    frames = []
    for sequence in sequences:
        for symbol in sequence:
            codes.setdefault(symbol, torch.randn(DIM, generator=codes["generator"]))
        x = torch.stack([codes[symbol] for symbol in sequence])
        # A gap of silence parts the symbols, so that CTC has its blank.
        held = x[:, None].expand(-1, FRAMES.get(kind, 6), -1)
        x = torch.cat([held, x.new_zeros(len(x), 2, DIM)], dim=1)
        x = x.flatten(0, 1)
        frames.append(x + 0.1 * torch.randn(x.shape, generator=generator))
    lengths = torch.tensor([len(x) for x in frames])
    return torch.nn.utils.rnn.pad_sequence(frames, batch_first=True), lengths


@pytest.mark.parametrize("kind", registry.kinds("tasks"))
def test_task_is_learnt(small, kind):
    table = small.table(speakers="shared" if kind == "sid" else "disjoint")
    task = small.task(kind, table, **{**small.small.get(kind, {}), **KEYS.get(kind, {})})
    codes = {"generator": torch.Generator().manual_seed(0)}
    torch.manual_seed(0)
    head = task.head(DIM)
    train = task.ids("train")
    features, lengths = features_of(task, table, codes, train, kind)
    targets, target_lengths = task.targets_for(train)
    optimizer = torch.optim.Adam(head.parameters(), lr=RATE.get(kind, 1e-2))
    for _ in range(STEPS.get(kind, 80)):
        outputs, out_lengths = head(features, lengths)
        loss = task.loss(outputs.float(), out_lengths, targets, target_lengths).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(head.parameters(), 5.0)
        optimizer.step()
    ids = task.ids("test")
    features, lengths = features_of(task, table, codes, ids, kind)
    with torch.no_grad():
        outputs = head.eval()(features, lengths)
    value = task.value(task.score("test", ids, task.predict(*outputs)))
    assert value > 95 if task.higher_is_better else value < 5
