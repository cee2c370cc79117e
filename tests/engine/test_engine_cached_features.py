"""The disk cache of a study: shared, checked, mended; and precision that is asked for."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import ssl_bench
from ssl_bench import cells, features
from ssl_bench.__main__ import main
from ssl_bench.encoding import DTYPES
from ssl_bench.errors import StudyError
from ssl_bench.features import Features, open_features, open_store
from ssl_bench.study import Cell, Study, parse

CPU = torch.device("cpu")
ROWS = np.array([5, 0, 38, 17, 24])


def opened(study: Study) -> Features:
    return open_features(study, "mini", "tones", CPU)


def batch(study: Study) -> torch.Tensor:
    return opened(study).batch(ROWS, 80)[0]


def about(study: Study) -> dict:
    return json.loads((study.features_dir("mini", "tones") / "features.json").read_text())


def shards(study: Study) -> list[Path]:
    return [shard.path for shard in open_store(study, about(study)).shards]


@pytest.fixture
def encoded(monkeypatch) -> list[int]:
    """Collect the rows that are encoded, in shards of two groups of about a second."""
    rows: list[int] = []
    real = features.encode

    def encode(encoder, data, own, *arguments):
        rows.extend(own.tolist())
        return real(encoder, data, own, *arguments)

    monkeypatch.setattr(features, "encode", encode)
    monkeypatch.setattr("ssl_bench.encoding.SECONDS", {"cpu": 2})
    monkeypatch.setattr("ssl_bench.store.BYTES", 20_000)
    return rows


@pytest.fixture
def weights(raw, tmp_path) -> Path:
    """A copy of the encoder that a test may change."""
    copied = tmp_path / "weights"
    shutil.copytree(raw["upstreams"]["mini"]["model"], copied)
    raw["upstreams"]["mini"]["model"] = str(copied)
    return copied / "model.safetensors"


def retrain(path: Path) -> None:
    from safetensors.torch import load_file, save_file

    changed = {name: value + 0.01 for name, value in load_file(path).items()}
    save_file(changed, path, metadata={"format": "pt"})


def test_a_second_study_over_the_same_cache_encodes_nothing(ready, encoded, capsys) -> None:
    first = ready(cache="disk")
    assert sorted(encoded) == list(range(39))
    assert len(shards(first)) > 2
    encoded.clear()
    second = ready(cache="disk", name="second", seeds=5)
    assert not encoded
    assert "0.00 MB to write" in capsys.readouterr().err.splitlines()[-1]
    assert torch.equal(batch(first), batch(second))
    other = ready(cache="disk", name="third", normalize=False)
    assert sorted(encoded) == list(range(39))
    assert not torch.equal(batch(first), batch(other))


def test_a_job_mends_the_shard_that_is_not_whole_and_no_other(ready, encoded, capsys) -> None:
    study = ready(cache="disk")
    before = batch(study)
    path = shards(study)[1]
    os.truncate(path, 5000)
    encoded.clear()
    assert torch.equal(batch(study), before)
    assert sorted(encoded) == sorted(open_store(study, about(study)).rows[1])
    assert f"{path}: truncated: 5,000 bytes, expected " in capsys.readouterr().err
    encoded.clear()
    assert torch.equal(batch(study), before)
    assert not encoded


def test_a_cache_of_a_checkpoint_that_was_replaced_is_not_used(
    ready, encoded, weights, capsys
) -> None:
    before = batch(ready(cache="disk"))
    retrain(weights)
    encoded.clear()
    study = ready(cache="disk")
    assert sorted(encoded) == list(range(39))
    assert ": of another weights; encoded anew" in capsys.readouterr().err
    assert not torch.equal(batch(study), before)


def test_a_cache_of_another_version_is_not_used(ready, encoded, monkeypatch, capsys) -> None:
    study = ready(cache="disk")
    encoded.clear()
    monkeypatch.setattr(ssl_bench, "__version__", "0.0.1")
    ready(cache="disk")
    assert sorted(encoded) == list(range(39))
    assert ": of another ssl_bench; encoded anew" in capsys.readouterr().err
    assert len(list(study.states_dir("").iterdir())) == 1


def test_a_shard_is_not_mended_with_another_checkpoint(ready, weights) -> None:
    study = ready(cache="disk")
    retrain(weights)
    (path,) = shards(study)
    os.truncate(path, 5000)
    with pytest.raises(StudyError, match=r"truncated: .*; not encoded anew, for weights are not"):
        opened(study)
    assert path.stat().st_size == 5000


def test_a_cache_put_in_place_of_another_is_told(ready, weights, capsys) -> None:
    study = ready(cache="disk")
    before = batch(study)
    (path,) = shards(study)
    shutil.copy(path, "kept")
    kept = weights.read_bytes()
    retrain(weights)
    ready(cache="disk")
    shutil.copy(path, "foreign")
    weights.write_bytes(kept)
    ready(cache="disk")
    shutil.copy("foreign", path)
    capsys.readouterr()
    assert torch.equal(batch(study), before)
    assert f"{path}: of another weights; encoded anew" in capsys.readouterr().err


def test_states_of_a_version_before_shards_are_made_anew(ready, capsys) -> None:
    study = ready(cache="disk")
    folder, old = study.features_dir("mini", "tones"), about(study)
    before = batch(study)
    del old["store"]
    (folder / "features.json").write_text(json.dumps(old))
    (folder / "states.bin").write_bytes(b"old")
    shutil.rmtree(study.states_dir(""))
    assert torch.equal(batch(study), before)
    assert "of a version before shards" in capsys.readouterr().err
    assert not (folder / "states.bin").exists()


def test_states_of_another_normalisation_are_refused(ready, raw) -> None:
    ready(cache="disk")
    with pytest.raises(StudyError, match=r"'normalize': True.*expected.*'normalize': False"):
        opened(parse({**raw, "cache": "disk", "normalize": False}))


def test_states_are_hashed_and_freed_by_command(ready, raw, capsys) -> None:
    study = ready(cache="disk")
    Path("study.json").write_text(json.dumps({**raw, "cache": "disk"}))
    main_of = ["states", "--study", "study.json"]
    with pytest.raises(SystemExit) as ended:
        main(main_of)
    assert not ended.value.code
    (path,) = shards(study)
    assert "mini on tones: 1 of 1 shards are whole" in capsys.readouterr().out
    size = sum(file.stat().st_size for file in path.parent.iterdir())
    with path.open("r+b") as file:
        file.seek(-2, os.SEEK_END)
        file.write(b"\0\0")
    before = capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(main_of)
    assert ended.value.code == 2
    assert f"error: {path}: altered: checksum " in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*main_of, "--free"])
    told = capsys.readouterr().out
    assert f"{size / 1e6:.2f} MB\t{path.parent}" in told
    assert before.out == ""
    assert not path.parent.exists()
    assert batch(study).any()  # encoded anew by who needs it


# ---- precision


def test_bf16_said_or_not_is_the_same_study_and_fp16_another(raw) -> None:
    plain = parse(raw)
    cell = plain.cells()[0]
    assert parse({**raw, "state_dtype": "bf16"}).fingerprint(cell) == plain.fingerprint(cell)
    half = parse({**raw, "state_dtype": "fp16"})
    assert half.fingerprint(cell) != plain.fingerprint(cell)
    assert half.stream_slice("mini") != plain.stream_slice("mini")


@pytest.mark.parametrize("name", ["fp16", "fp32"])
def test_every_source_keeps_its_dtype_and_a_study_trains_with_it(ready, name: str) -> None:
    coarse = batch(ready(cache="disk"))
    found = {}
    for source in ("disk", "memory", "live"):
        study = ready(cache=source, state_dtype=name)
        found[source] = batch(study)
        assert found[source].dtype == DTYPES[name]
    assert torch.equal(found["disk"], found["memory"])
    torch.testing.assert_close(found["disk"], found["live"], rtol=2e-3, atol=2e-3)
    torch.testing.assert_close(found["disk"].float(), coarse.float(), rtol=0.02, atol=0.02)
    cells.sweep(study, "ks", "mini", "all")
    cells.run(study, "ks", "mini", "all")
    cell = Cell("ks", "mini", "hconv")
    assert (study.pack_dir(*cell[:2], "all") / "hconv" / "metrics.json").is_file()


def test_states_beyond_fp16_are_refused(ready, monkeypatch) -> None:
    real = features.load_upstream

    def loud(*arguments):
        encoder = real(*arguments)
        encode = encoder.encode
        encoder.encode = lambda waves: (encode(waves)[0] * 1e6, encode(waves)[1])
        return encoder

    monkeypatch.setattr(features, "load_upstream", loud)
    ready(cache="disk", normalize=False)
    with pytest.raises(StudyError, match=r"state_dtype: fp16: .*beyond 65,504; use bf16"):
        ready(cache="disk", normalize=False, state_dtype="fp16")


@pytest.fixture
def old_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (7, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: "Tesla V100")


def test_a_gpu_without_bf16_is_named(ready, raw, old_gpu, monkeypatch) -> None:
    gpu = torch.device("cuda", 0)
    named = r"state_dtype: bf16: Tesla V100 \(compute capability 7\.0\) has no bf16, expected 8\.0"
    study = ready(cache="disk")
    with pytest.raises(StudyError, match=named):
        features.compute(study, "mini", "tones", gpu)
    with pytest.raises(StudyError, match=named):
        open_features(study, "mini", "tones", gpu)
    stream = cells._open(study, "ks", "mini", CPU)
    stream.device = gpu
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    with pytest.raises(StudyError, match=r"training.precision: bf16: Tesla V100.* use fp32"):
        cells._runs(stream, [], lambda: None, stream.training)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (8, 0))
    assert features._dtype(study, gpu) is torch.bfloat16


# ---- a batch that does not fit


def test_a_batch_that_does_not_fit_says_what_would(ready) -> None:
    stream = opened(ready(cache="disk"))
    rows = np.tile(ROWS, (3, 10))
    width = 10**12  # beyond any address space: a machine may promise memory that it lacks
    with pytest.raises(StudyError) as told:
        stream.batch(rows, width)
    words = str(told.value)
    assert "3 runs × 50 utterances × " in words
    assert f"{3 * 50 * width * 4 * 16 * 2 / 1e9:,.2f} GB of states" in words
    assert "not one utterance would fit" in words


def test_what_would_fit_follows_from_what_is_free(ready, monkeypatch) -> None:
    stream = opened(ready(cache="disk"))

    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(features, "padded", full)
    frame = 4 * 16 * 2
    monkeypatch.setattr("ssl_bench.fitting.free_memory", lambda device: 100 * frame * 50 // 4 * 5)
    with pytest.raises(StudyError, match=r"would fit") as told:
        stream.batch(np.tile(ROWS, 40), 50)  # 10,000 frames, 200 s; 5,000 are free, 80 % of 6,250
    assert "(200 s with padding)" in str(told.value)
    assert "batch_seconds: 100 would fit" in str(told.value)


def test_other_errors_are_not_taken_for_a_full_memory(ready, monkeypatch) -> None:
    stream = opened(ready(cache="disk"))

    def other(*_):
        raise RuntimeError("something else")

    monkeypatch.setattr(features, "padded", other)
    with pytest.raises(RuntimeError, match="something else"):
        stream.batch(ROWS, 80)
