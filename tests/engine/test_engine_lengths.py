"""``frames: ceil``: the same longer utterances wherever states come from, and none of it kept."""

import numpy as np
import pytest
import torch

from ssl_bench import cells, fine_tuning, training
from ssl_bench.corpus import Corpus
from ssl_bench.crops import Crops
from ssl_bench.features import load_upstream
from ssl_bench.prefetch import copied_ahead, prefetch, read_ahead
from ssl_bench.reading import Extended, pack
from ssl_bench.runs import Run
from ssl_bench.sampling import Batch, training_batches

CPU = torch.device("cpu")
ROWS = np.array([5, 0, 38, 17, 24])
LAYERS = np.array([3, 1])
WAYS = {"chosen": prefetch, "read ahead": read_ahead, "copied ahead": copied_ahead}


@pytest.fixture
def opened(ready, raw):
    """``opened(frames, training={…}, fine_tune={…}, …)``: the stream of keyword spotting."""

    def make(frames: str, said: dict | None = None, fine_tune: dict | None = None, **keys):
        said = {**raw["training"], "frames": frames, **(said or {})}
        mini = {k: v for k, v in raw["upstreams"]["mini"].items() if k != "fine_tune"}
        mini |= {} if fine_tune is None else {"fine_tune": fine_tune}
        study = ready(training=said, upstreams={"mini": mini}, **keys)
        return cells._open(study, "ks", "mini", CPU)

    return make


def samples(own) -> np.ndarray:
    return Corpus(own.study.corpus_dir("tones")).table["samples"].to_numpy()


def longer(states: torch.Tensor, kept: torch.Tensor, held: torch.Tensor) -> torch.Tensor:
    """Repeat last frames of a batch (L, B, T, D) by hand, an utterance after the other."""
    out = torch.zeros_like(states)
    for b, (own, wanted) in enumerate(zip(kept.tolist(), held.tolist(), strict=True)):
        out[:, b, :wanted] = states[:, b, torch.arange(wanted).clamp(max=own - 1)]
    return out


@pytest.mark.parametrize("source", ["memory", "disk", "live"])
def test_an_utterance_of_n_samples_has_so_many_frames(opened, source) -> None:
    own, plain = opened("ceil", cache=source), opened("encoder", cache=source)
    n = samples(own)
    assert own.features.frames.tolist() == (-(-n // 320)).tolist()
    assert (own.features.frames - plain.features.frames == 1).all()
    width = int(own.features.frames[ROWS].max()) + 3
    states, lengths = own.features.batch(ROWS, width)
    before, kept = plain.features.batch(ROWS, width)
    assert lengths.tolist() == (-(-n[ROWS] // 320)).tolist()
    assert torch.equal(states, longer(before, kept, lengths))
    paged = own.features.page(Batch(ROWS, width)).batch(ROWS, width)
    assert torch.equal(states, paged[0])
    assert torch.equal(lengths, paged[1])


@pytest.mark.parametrize("layers", [None, LAYERS])
@pytest.mark.parametrize("crop", [None, 9, 1])
def test_every_source_gives_the_same_batches(opened, layers, crop) -> None:
    """The frame that is repeated may be the first of a crop, too."""
    rows, found = np.array([[5, 0, 38], [17, 24, 5]]), {}
    for source in ("disk", "memory", "live"):
        stream = opened("ceil", cache=source, state_dtype="fp32").features
        longest = stream.frames[rows]
        starts = None if crop is None else np.array([[2, 0, 4], [1, 3, 0]])
        if crop == 1:
            starts = longest - 1
        width = crop or int(longest.max())
        found[source] = stream.batch(rows, width, layers, starts)
        last = None if starts is None else stream.last(rows) - starts
        if source == "memory":  # as where it is a GPU's
            begin = stream._starts[torch.from_numpy(rows)]
            begin = begin if starts is None else begin + torch.from_numpy(starts)
            held = stream.held(rows, width, starts)
            last = stream.last(rows) if last is None else last
            found["gathered"] = stream._gather(stream._flat, begin, held, width, layers, last)
        if source == "disk":
            wanted = pack(rows, stream.held(rows, width, starts), starts, layers)
            flat = stream.staging(wanted)
            wanted.read(stream.host, flat)
            held = stream.held(rows, width, starts)
            found["packed"] = stream.unpack(wanted, flat, held, width, layers)
    states, lengths = found["disk"]
    assert states.shape == (2, 4 if layers is None else 1, 3, width, 16)
    assert states[0, 0, 0, : lengths[0, 0]].norm(dim=-1).min() > 0
    for name, other in found.items():
        assert torch.equal(lengths, other[1])
        if name == "live":
            torch.testing.assert_close(states, other[0], rtol=1e-4, atol=1e-4)
        else:
            assert torch.equal(states, other[0]), name


@pytest.mark.parametrize("crop", [None, 9])
@pytest.mark.parametrize("way", WAYS)
def test_batches_that_are_read_ahead_are_those_of_the_stream(opened, way, crop) -> None:
    features = opened("ceil", cache="disk").features
    assert isinstance(features.host, Extended)
    assert features.host.slow
    rows = np.arange(len(features.frames))
    asked = list(training_batches(rows, features.frames, 300, 3, 9, [0, 1], crop=crop))
    for batch, states, lengths in WAYS[way](features, iter(asked), LAYERS):
        expected = features.batch(batch.rows, batch.width, LAYERS, batch.starts)
        assert torch.equal(states, expected[0])
        assert torch.equal(lengths, expected[1])


@pytest.mark.parametrize("crop", [None, 9, 1])
def test_a_fine_tuned_encoder_gives_what_a_frozen_one_does(opened, crop) -> None:
    tuning = {"learning_rate": 0, "dropout": False}
    own = opened("ceil", fine_tune=tuning, state_dtype="fp32")
    frozen = opened("ceil", state_dtype="fp32").features
    assert isinstance(own.features, fine_tuning.Waveforms)
    runs = [Run(0, 1e-2)]
    group = cells._runs(own, runs, cells._maker(own, "weighted_sum"), own.training)
    starts = None if crop is None else np.maximum(frozen.frames[ROWS] - crop, 0)
    width = crop or int(frozen.frames[ROWS].max()) + 2
    batch, lengths = own.features.batch(ROWS, width, None, starts)
    expected, counts = frozen.batch(ROWS, width, None, starts)
    assert torch.equal(lengths, counts)
    torch.testing.assert_close(group.states(batch, lengths), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("tuning", [None, {"learning_rate": 0, "dropout": False}])
def test_a_crop_of_a_waveform_is_as_long_as_its_samples_say(opened, tuning) -> None:
    crop = {"crop_seconds": 0.35, "crop": "waveform"}
    own = opened("ceil", crop, tuning, state_dtype="fp32")
    data = Corpus(own.study.corpus_dir("tones"))
    encoder = load_upstream(own.study, "mini", CPU)
    rows = np.array([own.rows[name] for name in own.task.ids("train")])
    assert own.heard.cropped.frames == 18
    seen = set()
    for batch in training._batches([0], own.task, own.heard, rows, own.training):
        states, lengths = own.heard.batch(batch.rows, batch.width, None, batch.starts)
        if tuning is None:
            assert isinstance(own.heard, Crops)
            paged = own.heard.page(batch).batch(batch.rows, batch.width, None, batch.starts)
            assert torch.equal(states, paged[0])
            states = states[0]
        else:
            runs = [Run(0, 1e-2)]
            group = cells._runs(own, runs, cells._maker(own, "weighted_sum"), own.training)
            states = group.states(states[0], lengths[0])
        for b, (row, start) in enumerate(zip(batch.rows[0], batch.starts[0], strict=True)):
            wave = data.waveform(row)[start : start + 5600]
            alone, kept = encoder([torch.from_numpy(wave.astype(np.float32) / 32767)])
            alone = torch.nn.functional.layer_norm(alone, alone.shape[-1:])
            count = lengths[0, b]
            assert count == -(-len(wave) // 320) > kept[0]
            seen.add(int(count))
            alone = torch.nn.functional.pad(alone, (0, 0, 0, int(count - kept[0])))
            expected = longer(alone, kept, count[None])[:, 0]
            torch.testing.assert_close(states[:, b, :count], expected, rtol=1e-4, atol=1e-4)
            assert not states[:, b, count:].any()
    assert {15, 18} <= seen


def test_what_is_kept_is_one_whatever_tasks_read_of_it(ready, raw) -> None:
    longer_pr = {**raw["tasks"]["pr"], "training": {"frames": "ceil"}}
    study = ready(tasks={**raw["tasks"], "pr": longer_pr}, cache="disk")

    def kept() -> dict[str, tuple[bytes, int]]:
        files = [study.features_dir("mini", "tones") / "features.json"]
        files += study.states_dir("").glob("*/*")
        return {str(f): (f.read_bytes(), f.stat().st_mtime_ns) for f in files if f.is_file()}

    before = kept()
    for task, frames in {"ks": 0, "pr": 1}.items():
        stream = cells._open(study, task, "mini", CPU).features
        n = Corpus(study.corpus_dir("tones")).table["samples"].to_numpy()
        assert (stream.frames == (n - 80) // 320 + frames).all()
        cells.sweep(study, task, "mini", "all")
        cells.run(study, task, "mini", "all")
        assert kept() == before
    plain = ready(cache="disk")
    assert {f.name for f in plain.states_dir("").iterdir()} == {
        f.name for f in study.states_dir("").iterdir()
    }
