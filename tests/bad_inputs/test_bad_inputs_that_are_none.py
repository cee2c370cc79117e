"""What looks like a bad input and is none: it works, and does what it should."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from bad_inputs.conftest import call
from bad_inputs.house import CORPUS, FEATURES, SPOILT, SWEEP, cell, keys, rows, samples, tone

ODD = {
    "8 kHz": (lambda: tone(0.5, 8000), 8000, 8000),
    "44.1 kHz": (lambda: tone(0.5, 44_100), 44_100, 8000),
    "stereo": (lambda: np.stack([tone(0.5), 0 * tone(0.5)], axis=1), 16_000, 8000),
    "six channels": (lambda: np.repeat(tone(0.5)[:, None], 6, axis=1), 16_000, 8000),
    "25 ms, one frame": (lambda: tone(0.025), 16_000, 400),
    "silence": (lambda: np.zeros(8000), 16_000, 8000),
    "louder than full scale": (lambda: 3 * tone(0.5), 16_000, 8000),
}


@pytest.mark.parametrize(("made", "rate", "expected"), ODD.values(), ids=ODD)
def test_odd_audio_goes_all_the_way(at, capfd, made, rate, expected) -> None:
    at(CORPUS)
    samples(made, rate)()
    for command in (CORPUS, FEATURES, SWEEP):
        assert call(command) == 0, capfd.readouterr().err
    table = pd.read_parquet("work/tiny/corpora/tones/table.parquet").set_index("id")
    assert table.loc["audio/test-1", "samples"] == expected
    swept = pd.read_csv("results/tiny/cells/ks/mini/all/sweep.csv")
    assert swept["dev"].between(0, 100).all()


def waveform(name: str) -> np.ndarray:
    row = pd.read_parquet("work/tiny/corpora/tones/table.parquet").set_index("id").loc[name]
    packed = np.fromfile("work/tiny/corpora/tones/waveforms.bin", "<i2")
    return packed[row["start"] : row["start"] + row["samples"]] / 32767


def test_channels_are_averaged_and_rates_made_one(at) -> None:
    at(CORPUS)
    samples(lambda: np.stack([tone(0.5, 8000), 0 * tone(0.5, 8000)], axis=1), 8000)()
    assert call(CORPUS) == 0
    middle = slice(1000, 7000)  # away from the ends, where the filter of resampling rings
    np.testing.assert_allclose(waveform("audio/test-1")[middle], tone(0.5)[middle] / 2, atol=2e-3)


def test_parts_of_a_recording_of_an_hour(at) -> None:
    """An hour is too long for one utterance, and no trouble as a recording that is cut."""
    from lhotse import CutSet, Recording, SupervisionSegment

    at(CORPUS)
    hour = np.zeros(3600 * 2000, np.float32)
    hour[3599 * 2000 :] = 0.25
    soundfile.write("hour.flac", hour, 2000)
    recording = Recording.from_file("hour.flac")
    for split, parts in {"train": [0, 1800], "dev": [60], "test": [3599]}.items():
        cuts = []
        for number, start in enumerate(parts):
            cut = recording.to_cut().truncate(offset=start, duration=1.0)
            cut.id = f"{split}-{number}"
            word = {"keyword": ("low", "high")[number]}
            cut.supervisions = [SupervisionSegment(cut.id, "hour", 0.0, 1.0, custom=word)]
            cuts.append(cut)
        CutSet.from_cuts(cuts).to_file(f"{split}.jsonl")
    files = {split: f"{split}.jsonl" for split in ("train", "dev", "test")}
    keys(corpora__tones={"kind": "manifest", "root": ".", **files})()
    assert call(CORPUS) == 0
    np.testing.assert_allclose(waveform("test-0")[1000:15000], 0.25, atol=1e-3)


@pytest.mark.parametrize(
    ("entry", "changed"),
    [
        ({"kind": "asr"}, {"text": "LÖW"}),  # counted as an error, as the published recipes do
        ({"kind": "ks"}, {"text": ""}),  # a label that no task reads
        ({"kind": "ks", "column": "speaker"}, {"speaker": "train-0"}),
    ],
    ids=["a character of test alone", "an empty label that nobody reads", "a label of one split"],
)
def test_labels_that_will_do(at, entry, changed) -> None:
    at(CORPUS)
    listed = [row | ({"speaker": "train-0"} if "column" in entry else {}) for row in rows()]
    if "column" in entry:
        for number, row in enumerate(listed):
            row["speaker"] = f"s{number % 2}"
        from bad_inputs.house import write_list

        write_list(listed)
    else:
        cell(11, **changed)()
    keys(tasks={"t": {"corpus": "tones", **entry}})()
    assert call(CORPUS) == 0


def test_names_that_a_shell_could_read(at) -> None:
    at(CORPUS)
    name = "audio/it's $HOME; ñ 電 .wav"
    Path(SPOILT).rename(name)
    cell(11, path=name)()
    assert call(CORPUS) == 0
    table = pd.read_parquet("work/tiny/corpora/tones/table.parquet")
    assert "audio/it's $HOME; ñ 電 " in set(table["id"])
