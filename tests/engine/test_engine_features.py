"""The stream of features is the same wherever the states are kept."""

import json

import numpy as np
import pytest
import soundfile
import torch

from ssl_bench import corpus, features, store
from ssl_bench.errors import StudyError
from ssl_bench.features import Features, choose, load_upstream, open_features
from ssl_bench.reading import pack
from ssl_bench.study import Study, parse

CPU = torch.device("cpu")
ROWS = np.array([5, 0, 38, 17, 24])


def opened(study: Study) -> Features:
    return open_features(study, "mini", "tones", CPU)


def width_of(stream: Features, rows: np.ndarray) -> int:
    return int(stream.frames[rows].max())


@pytest.fixture
def disk(ready) -> Features:
    return opened(ready(cache="disk"))


def test_every_source_gives_the_same_batches(ready) -> None:
    batches = {}
    for source in ("memory", "disk", "live"):
        study = ready(cache=source)
        about = json.loads((study.features_dir("mini", "tones") / "features.json").read_text())
        assert (about["source"], about["layers"], about["dim"]) == (source, 4, 16)
        stream = opened(study)
        batches[source] = stream.batch(ROWS, width_of(stream, ROWS) + 3)
    states, lengths = batches["disk"]
    assert states.shape == (4, 5, lengths.max() + 3, 16)
    assert states.dtype == torch.bfloat16
    assert torch.equal(states, batches["memory"][0])
    # encoded in other company: equal but for the rounding to bf16
    torch.testing.assert_close(states, batches["live"][0], rtol=0.02, atol=0.02)
    for other in batches.values():
        assert torch.equal(lengths, other[1])


@pytest.mark.parametrize("layers", [None, np.array([3, 1])])
@pytest.mark.parametrize("crop", [None, 9])
def test_crops_and_single_layers_are_the_same_from_every_source(ready, layers, crop) -> None:
    rows = np.array([[5, 0, 38], [17, 24, 5]])
    starts = None if crop is None else np.array([[2, 0, 4], [1, 3, 0]])
    found = {}
    for source in ("disk", "memory", "live"):
        stream = opened(ready(cache=source))
        found[source] = stream.batch(rows, crop or width_of(stream, rows), layers, starts)
    states, lengths = found["disk"]
    assert states.shape == (2, 4 if layers is None else 1, 3, crop or lengths.max(), 16)
    assert torch.equal(states, found["memory"][0])
    torch.testing.assert_close(states, found["live"][0], rtol=0.02, atol=0.02)
    for other in found.values():
        assert torch.equal(lengths, other[1])


@pytest.mark.parametrize("layers", [None, np.array([3, 1])])
@pytest.mark.parametrize("crop", [None, 9])
def test_a_device_gathers_from_what_is_packed_as_the_host_does(ready, layers, crop) -> None:
    stream = opened(ready(cache="disk"))
    rows = np.array([[5, 0, 38], [17, 5, 5]])
    starts = None if crop is None else np.array([[2, 0, 4], [1, 3, 2]])
    width = crop or width_of(stream, rows)
    held = stream.held(rows, width, starts)
    wanted = pack(rows, held, starts, layers)
    assert len(wanted.rows) == 4 + (crop is not None)  # row 5: once, or once a crop
    flat = stream.staging(wanted)
    wanted.read(stream.host, flat)
    found = stream.unpack(wanted, flat, held, width, layers)
    expected = stream.batch(rows, width, layers, starts)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])


@pytest.mark.parametrize("source", ["disk", "live"])
def test_padding_is_zero_and_frames_are_not(ready, source: str) -> None:
    stream = opened(ready(cache=source))
    states, lengths = stream.batch(ROWS, width_of(stream, ROWS) + 5)
    assert lengths.tolist() == stream.frames[ROWS].tolist()
    assert len(set(lengths.tolist())) > 1
    for b, length in enumerate(lengths):
        assert (states[:, b, length:] == 0).all()
        assert states[:, b, :length].float().norm(dim=-1).min() > 0


@pytest.mark.parametrize("source", ["disk", "live"])
def test_each_run_gets_its_own_rows_and_layer(ready, source: str) -> None:
    stream = opened(ready(cache=source))
    rows = np.array([[0, 7, 30], [7, 7, 12]])
    width = width_of(stream, rows.flatten())
    both, lengths = stream.batch(rows, width)
    assert both.shape == (2, 4, 3, width, 16)
    assert lengths.shape == (2, 3)
    layers = np.array([3, 1])
    probed, _ = stream.batch(rows, width, layers)
    assert probed.shape == (2, 1, 3, width, 16)
    for r in range(2):
        alone, own = stream.batch(rows[r], width)
        torch.testing.assert_close(both[r], alone, rtol=0.02, atol=0.02)
        assert torch.equal(lengths[r], own)
        assert torch.equal(probed[r, 0], both[r, layers[r]])


def test_states_are_layer_normed_unless_the_study_wants_them_raw(ready) -> None:
    width = 40
    normed, lengths = opened(ready(cache="disk")).batch(ROWS[:1], width)
    frames = normed[:, 0, : lengths[0]].float()
    torch.testing.assert_close(frames.mean(-1), torch.zeros(4, lengths[0]), atol=0.01, rtol=0)
    torch.testing.assert_close(
        frames.var(-1, correction=0).mean(1), torch.ones(4), atol=0.02, rtol=0
    )

    study = ready(cache="disk", normalize=False)
    raw, _ = opened(study).batch(ROWS[:1], width)
    samples, _ = soundfile.read("audio/train-5.wav", dtype="float32")
    expected, _ = load_upstream(study, "mini", "cpu")([torch.from_numpy(samples)])
    torch.testing.assert_close(
        raw[:, 0, : lengths[0]].float(), expected[:, 0], rtol=0.02, atol=0.02
    )
    again = torch.nn.functional.layer_norm(raw[:, 0, : lengths[0]].float(), (16,))
    torch.testing.assert_close(frames, again, rtol=0.05, atol=0.05)


def test_the_source_follows_from_the_size(raw) -> None:
    study = parse({**raw, "cache_gb": 1.0})
    assert choose(study, int(0.9e9), "cpu") == "disk"
    assert choose(study, int(1.1e9), "cpu") == "live"
    assert choose(parse({**raw, "cache": "memory"}), int(1e15), "cpu") == "memory"


def test_gpu_is_another_name_of_memory(raw) -> None:
    study, other = parse({**raw, "cache": "gpu"}), parse({**raw, "cache": "memory"})
    assert study.cache == "memory"
    assert study == other
    assert study.model_dump_json(exclude_unset=True) == other.model_dump_json(exclude_unset=True)
    with pytest.raises(StudyError, match=r"cache: .*found 'ram'"):
        parse({**raw, "cache": "ram"})


def test_the_choice_is_printed_with_its_size_before_anything_is_encoded(
    ready, monkeypatch, capsys
) -> None:
    class Encoded(Exception):
        pass

    def refuse(*_):
        raise Encoded

    monkeypatch.setattr(features, "encode", refuse)
    with pytest.raises(Encoded):
        ready(cache="auto", cache_gb=3)
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("mini on tones: 0.00 h, 4 × 16 in bf16, 0.10 MB → disk (work/_states/")
    assert "; cache_gb: 3; 0.10 MB to write, " in line
    ready(cache="auto", cache_gb=1e-5)
    assert "→ live (cache_gb: 1e-05; encoded for every batch)" in capsys.readouterr().err


def test_auto_encodes_every_batch_where_the_disk_has_no_room(ready, monkeypatch, capsys) -> None:
    monkeypatch.setattr(features, "room", lambda folder: 90_000)
    monkeypatch.setattr(store, "room", lambda folder: 90_000)
    assert opened(ready(cache="auto")).host is None
    assert "→ live (0.10 MB to write, 0.09 MB free; " in capsys.readouterr().err
    with pytest.raises(
        StudyError, match=r"0\.10 MB of states are to be written, 0\.09 MB are free"
    ):
        ready(cache="disk")


def test_the_digest_names_labels_recordings_and_weights(ready, raw, tone, tmp_path) -> None:
    def digest(study: Study) -> str:
        path = study.features_dir("mini", "tones") / "features.json"
        return json.loads(path.read_text())["digest"]

    first = digest(ready())
    assert digest(ready()) == first
    listed = tmp_path / "list.tsv"
    text = listed.read_text()
    listed.write_text(text.replace("\tlow\t", "\tdeep\t"))
    assert digest(ready()) != first
    listed.write_text(text)
    tone(tmp_path / "audio" / "train-0.wav", 0.3, hertz=221.0)
    assert digest(ready()) != first
    tone(tmp_path / "audio" / "train-0.wav", 0.3, hertz=220.0)
    assert digest(ready()) == first
    raw["upstreams"]["mini"]["untrained"] = True
    assert digest(ready()) != first


def test_a_corpus_is_packed_as_it_was_recorded(ready) -> None:
    study = ready()
    data = corpus.Corpus(study.corpus_dir("tones"))
    row = int(np.flatnonzero(data.table["id"] == "audio/dev-3")[0])
    samples, _ = soundfile.read("audio/dev-3.wav", dtype="float32")
    np.testing.assert_allclose(data.waveform(row) / 32767, samples, atol=1e-4)
    summary = json.loads((study.corpus_dir("tones") / "summary.json").read_text())
    assert {split: about["utterances"] for split, about in summary.items()} == {
        "train": 24,
        "dev": 6,
        "test": 9,
    }
