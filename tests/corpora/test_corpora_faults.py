"""Every published layout: nothing missing in a whole one, one clear line for a faulty one."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from ssl_bench import audio, corpus, registry
from ssl_bench.corpora.base import SPLITS
from ssl_bench.errors import StudyError

NAMES = (
    "librispeech",
    "iemocap",
    "fluent_speech_commands",
    "identification",
    "verification",
    "ml_superb",
    "speech_commands",
    "snips",
)


def test_every_layout_and_every_kind_is_here(layouts, tmp_path):
    entries = layouts.entries(tmp_path)
    assert tuple(entries) == NAMES
    kinds = {entry["kind"] for entry in entries.values()}
    assert kinds == set(registry.kinds("corpora")) - {"manifest", "synthetic"}


@pytest.mark.parametrize("name", NAMES)
def test_a_whole_corpus_misses_nothing_and_keeps_its_order(written, load, layouts, name):
    entry = load(**layouts.entries(written)[name])
    assert entry.missing() == []
    first, again = entry.table(), entry.table()
    assert list(first.index) == list(again.index)
    assert set(first["split"]) == set(SPLITS)
    assert first["id"].is_unique


@pytest.mark.parametrize("name", NAMES)
def test_every_corpus_has_a_strict_config(written, layouts, name):
    keys = layouts.entries(written)[name]
    module = registry.load("corpora", keys["kind"])
    with pytest.raises(ValueError, match="rooot"):
        module.Config.model_validate({**keys, "rooot": "x"})


def one_recording(entry):
    """A recording that the entry needs."""
    return next(iter(entry.cuts()["test"])).recording.sources[0].source


@pytest.mark.parametrize("name", [n for n in NAMES if n != "speech_commands"])
def test_an_absent_recording_is_named(copied, load, layouts, tmp_path, name):
    kind = layouts.entries(tmp_path)[name]["kind"]
    copied(kind)
    entry = load(**layouts.entries(tmp_path)[name])
    path = one_recording(entry)
    Path(path).unlink()
    assert entry.missing() == [path]
    assert f": 1 files are missing: {path}" in entry.error()


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_folder_misses_something(load, layouts, tmp_path, name):
    entry = load(**layouts.entries(tmp_path)[name])
    assert entry.missing()
    assert "files are missing: " in entry.error()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("fault", ["corrupt", "empty", "truncated"])
def test_a_recording_that_cannot_be_used_is_named(copied, load, layouts, tmp_path, name, fault):
    copied(layouts.entries(tmp_path)[name]["kind"])
    entry = load(**layouts.entries(tmp_path)[name])
    path = Path(one_recording(entry))
    if fault == "corrupt":
        path.write_bytes(b"no sound")
    elif fault == "truncated":
        soundfile.write(path, np.zeros(16_000), 16_000, format="WAV")
        path.write_bytes(path.read_bytes()[:16_000])
    else:
        soundfile.write(path, np.zeros(0), 16_000, format="WAV")
    line = entry.error()
    said = {
        "corrupt": "not readable as audio",
        "empty": "empty recording (0 samples)",
        "truncated": "truncated: 32,044 bytes expected, 16,000 found",
    }[fault]
    number = 2 if name == "verification" else 1  # test is dev, too
    assert f": {number} recordings cannot be used: {path}: {said}" in line


def test_a_truncated_recording_stops_the_stage_with_one_line(copied, study, layouts, tmp_path):
    root = copied("librispeech")
    path = max((root / "LibriSpeech" / "test-clean").rglob("*.flac"))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    made = study(layouts.entries(tmp_path)["librispeech"], kind="asr")
    with pytest.raises(StudyError) as raised:
        corpus.prepare(made, "it")
    assert str(raised.value).startswith(f"corpora.it: 1 recordings cannot be used: {path}: ")
    assert not made.corpus_dir("it").exists()


def test_another_rate_or_two_channels_are_told_resampled_and_averaged(copied, staged, tone, capsys):
    root = copied("fluent_speech_commands")
    path = root / "wavs" / "speakers" / "speakertest0" / "test-0000.wav"
    tone(path, seconds=0.5, rate=44_100, channels=2)
    keys = {"kind": "fluent_speech_commands", "root": root}
    prepared, _ = staged(keys, kind="ic")
    row = prepared.table["id"].to_list().index("wavs/speakers/speakertest0/test-0000")
    told = [line for line in capsys.readouterr().err.splitlines() if "16 kHz" in line]
    (line,) = told
    assert f": 1 recordings will be made mono and 16 kHz: {path}: 44100 Hz, 2 channels" in line
    assert len(prepared.waveform(row)) == 8_000
    assert len(audio.load(path)) == 8_000
