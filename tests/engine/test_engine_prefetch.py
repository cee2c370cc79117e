"""Batches that are prepared ahead are those that were asked for, in order."""

import threading
import time

import numpy as np
import pandas as pd
import pytest
import torch

from ssl_bench import cells
from ssl_bench import prefetch as module
from ssl_bench.errors import StudyError
from ssl_bench.evaluation import evaluate
from ssl_bench.features import Features, open_features
from ssl_bench.prefetch import copied_ahead, prefetch, read_ahead
from ssl_bench.reading import Held, Stored
from ssl_bench.recipe import Training
from ssl_bench.runs import Run
from ssl_bench.sampling import Batch, evaluation_batches, training_batches

CPU = torch.device("cpu")
LAYERS = np.array([3, 1, 3])
WAYS = {
    "chosen": prefetch,
    "read ahead": read_ahead,
    "copied ahead": copied_ahead,
}


def batches(features: Features, crop: int | None = None, steps: int = 9) -> list[Batch]:
    rows = np.arange(len(features.frames))
    frames = features.frames
    return list(training_batches(rows, frames, 300, 3, steps, [0, 1, 0], crop=crop))


def opened(study) -> Features:
    return open_features(study, "mini", "tones", CPU)


@pytest.mark.parametrize("crop", [None, 9])
@pytest.mark.parametrize("layers", [None, LAYERS])
@pytest.mark.parametrize("way", WAYS)
def test_batches_are_those_of_the_stream(ready, way: str, layers, crop: int | None) -> None:
    features = opened(ready(cache="disk"))
    asked = batches(features, crop)
    given = list(WAYS[way](features, iter(asked), layers))
    assert [batch for batch, _, _ in given] == asked
    assert len({batch.width for batch in asked}) > 1 or crop
    for batch, states, lengths in given:
        expected = features.batch(batch.rows, batch.width, layers, batch.starts)
        assert torch.equal(states, expected[0])
        assert states.shape == expected[0].shape
        assert torch.equal(lengths, expected[1])


@pytest.mark.parametrize("source", ["memory", "live"])
def test_without_a_disk_nothing_is_read_ahead(ready, source: str) -> None:
    features = opened(ready(cache=source))
    before = set(threading.enumerate())
    taken = []

    def asked():
        for batch in batches(features):
            taken.append(batch)
            yield batch

    for number, (batch, states, _) in enumerate(prefetch(features, asked()), start=1):
        assert len(taken) == number
        assert set(threading.enumerate()) <= before
        expected = features.batch(batch.rows, batch.width)[0]
        torch.testing.assert_close(states, expected, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("way", ["read ahead", "copied ahead"])
def test_the_next_batch_is_read_while_one_is_computed_with(ready, way: str) -> None:
    features = opened(ready(cache="disk"))
    done, real = [], features.host

    class Watched:
        def read(self, row, first, layers, out):
            real.read(row, first, layers, out)
            done.append(row)

    features.host = Watched()
    asked = batches(features)
    stream = WAYS[way](features, iter(asked), None)
    next(stream)
    wanted = set(asked[1].rows.flat)
    deadline = time.monotonic() + 30
    while not wanted <= set(done) and time.monotonic() < deadline:  # nobody asks for the second
        time.sleep(0.01)
    assert wanted <= set(done)
    stream.close()


def test_scoring_reads_the_next_batch_while_one_is_predicted(ready, monkeypatch) -> None:
    stream = cells._open(ready(cache="disk"), "ks", "mini", CPU)
    features, task, seconds = stream.features, stream.task, 1.0
    own = np.array([stream.rows[name] for name in task.ids("train")])
    width = int(seconds / features.seconds_per_frame)
    asked = [set(b.rows.tolist()) for b in evaluation_batches(own, features.frames[own], width)]
    assert len(asked) > 2
    runs = cells._runs(stream, [Run(0, 0.1)], cells._maker(stream, "weighted_sum"), Training())
    where = [runs], task, features, stream.rows, "train", seconds
    expected = evaluate(*where)[0].tables[0]
    done, predicted = set(), []
    read, predict = Stored.read, task.predict

    def reading(self, row, *rest):
        read(self, row, *rest)
        done.add(row)

    def predicting(*outputs):
        predicted.append(outputs)
        following = asked[min(len(predicted), len(asked) - 1)]
        deadline = time.monotonic() + 30
        while not following <= done and time.monotonic() < deadline:  # nobody asks for it yet
            time.sleep(0.01)
        assert following <= done
        return predict(*outputs)

    monkeypatch.setattr(Stored, "read", reading)
    monkeypatch.setattr(task, "predict", predicting)
    pd.testing.assert_frame_equal(evaluate(*where)[0].tables[0], expected)
    assert len(predicted) == len(asked)


@pytest.mark.parametrize("way", ["read ahead", "copied ahead"])
def test_what_fails_in_a_thread_fails_where_the_batch_is_asked_for(ready, way: str) -> None:
    features = opened(ready(cache="disk"))
    before = threading.active_count()

    class Broken:
        def read(self, *_):
            raise StudyError("shard: truncated")

    features.host = Broken()
    with pytest.raises(StudyError, match="shard: truncated"):
        next(WAYS[way](features, iter(batches(features)), None))
    assert threading.active_count() == before


@pytest.mark.parametrize("way", ["read ahead", "copied ahead"])
def test_a_training_that_stops_leaves_no_thread(ready, way: str) -> None:
    features = opened(ready(cache="disk"))
    before = threading.active_count()
    stream = WAYS[way](features, iter(batches(features)), None)
    next(stream)
    stream.close()
    assert threading.active_count() == before


def test_host_memory_is_used_again(ready, monkeypatch) -> None:
    features = opened(ready(cache="disk"))
    made = []
    real = Features.staging
    monkeypatch.setattr(Features, "staging", lambda *a, **k: made.append(real(*a, **k)) or made[-1])
    asked = [batches(features)[0]] * 40
    for batch, states, _ in copied_ahead(features, iter(asked), None):
        assert torch.equal(states, features.batch(batch.rows, batch.width)[0])
    assert len(made) <= module.AHEAD + 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("layers", [None, LAYERS])
def test_on_a_gpu_what_is_copied_ahead_is_what_was_stored(ready, layers) -> None:
    study = ready(cache="disk")
    host = opened(study)
    features = open_features(study, "mini", "tones", torch.device("cuda"))
    assert isinstance(features.host, Stored)
    asked = batches(host, steps=60)
    busy = torch.randn(2048, 2048, device="cuda")
    kept = []
    for batch, states, lengths in prefetch(features, iter(asked), layers):
        for _ in range(5):  # the GPU is behind the host, so that memory is reused under it
            busy = (busy @ busy).tanh()
        kept.append((batch, states.clone(), lengths))
    for batch, states, lengths in kept:
        expected = host.batch(batch.rows, batch.width, layers, batch.starts)
        assert torch.equal(states.cpu(), expected[0])
        assert torch.equal(lengths.cpu(), expected[1])


def test_the_host_reads_from_memory_as_from_disk(ready) -> None:
    disk, memory = opened(ready(cache="disk")), opened(ready(cache="memory"))
    assert isinstance(disk.host, Stored)
    assert isinstance(memory.host, Held)
    for batch in batches(disk, crop=7):
        for layers in (None, LAYERS):
            arguments = (batch.rows, batch.width, layers, batch.starts)
            assert torch.equal(disk.batch(*arguments)[0], memory.batch(*arguments)[0])
