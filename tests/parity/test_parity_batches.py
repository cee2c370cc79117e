"""The batches of a pass are s3prl's and ESPnet's."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from ssl_bench.neighbours import Groups, grouped_batches, groups_of
from ssl_bench.sampling import Batch, Crops
from ssl_bench.tasks._published import LONG


def of_a_pass(groups: Groups, frames: np.ndarray, cut: int | None = None) -> Counter:
    """Which utterances the batches of the first pass hold, as often as they come."""
    rows, steps = np.arange(len(frames)), -(-len(groups) // (cut or 1))
    batches = grouped_batches(rows, frames, groups, 1, 4, steps, [0], cut=cut)
    return Counter(map(trained_on, batches))


def trained_on(batch: Batch) -> tuple[int, ...]:
    """The utterances that count, each as much as any other."""
    rows = batch.rows[0]
    if batch.weights is not None:
        rows = rows[batch.weights[0] > 0]
        shares = batch.weights[0][batch.weights[0] > 0]
        np.testing.assert_allclose(shares, 1 / len(shares), rtol=1e-6)
    return tuple(sorted(rows.tolist()))


@pytest.mark.parametrize("count", [256, 128, 129, 130, 147])
def test_asr_has_s3prls_sorted_batches_of_16(superb, tmp_path, count) -> None:
    """s3prl's own loader, on a length file and transcripts; every bucket of 32 is split in two."""
    module = superb("downstream.asr.dataset")
    lengths = np.random.default_rng(count).permutation(np.arange(20_000, 20_000 + count))
    paths = [f"train/1/2/1-2-{n:04}.flac" for n in range(count)]
    (tmp_path / "train/1/2").mkdir(parents=True)
    transcripts = [f"1-2-{n:04} A WORD" for n in range(count)]
    (tmp_path / "train/1/2/1-2.trans.txt").write_text("\n".join(transcripts))
    pd.DataFrame({"file_path": paths, "length": lengths}).to_csv(tmp_path / "train.csv")
    dictionary = SimpleNamespace(encode_line=lambda *_, **__: torch.zeros(3))
    theirs = module.SequenceDataset(
        "train", 32, dictionary, str(tmp_path), str(tmp_path), train=["train"]
    )
    place = {path: n for n, path in enumerate(paths)}
    expected = [tuple(sorted(place[path] for path in batch)) for batch in theirs.X]
    found = of_a_pass(groups_of("sorted", lengths, 16, "halves"), lengths)
    assert found == Counter(expected)


@pytest.mark.parametrize("count", [96, 100, 7])
def test_batches_at_random_are_those_of_torchs_loader(count) -> None:
    """As s3prl's KS, IC, SID, SV and ER have it; which utterances they hold is drawn in both."""
    theirs = torch.utils.data.DataLoader(range(count), batch_size=8, shuffle=True)
    sizes = Counter(len(batch) for batch in theirs)
    found = of_a_pass(groups_of("random", np.ones(count), 8), np.ones(count, int), cut=8)
    assert Counter(map(len, found)) == sizes
    assert sorted(sum(found, ())) == list(range(count))


@pytest.mark.parametrize("samples", [300_000, 300_001])
@pytest.mark.parametrize("size", [16, 7, 1])
def test_a_batch_that_begins_with_a_long_recording_is_halved(superb, monkeypatch, samples, size):
    """By the function that s3prl's PR and SF collect their batches with."""
    module = superb("downstream.ctc.data")
    lengths = np.full(size, 20_000)
    lengths[0] = samples
    monkeypatch.setattr(
        module.torchaudio, "load", lambda path: (torch.zeros(1, lengths[int(path)]), 16_000)
    )
    audio, *_ = module.collect_audio_batch([(str(n), [1]) for n in range(size)], "train")
    groups = Groups(np.arange(size)[None]).halved(lengths / 16_000 > LONG)
    assert groups.sizes.tolist() == [len(audio)]
    assert groups.places[0, 0] == 0


@pytest.mark.parametrize("count", [97, 200])
def test_pr_has_s3prls_batches_from_each_place(count) -> None:
    """By what ``LibriPhoneDataset`` is documented to return for an index: its file is not packaged.

    Texts are sorted by their lengths, the longest first, and an index takes the 16 from there on,
    the last 16 if there are fewer; a pass has every index once.
    """
    rng = np.random.default_rng(count)
    texts = [[n] * int(rng.integers(3, 30)) for n in range(count)]
    ordered = [text[0] for text in sorted(texts, key=len, reverse=True)]
    expected = Counter()
    for index in range(count):
        index = min(count - 16, index)
        expected[tuple(sorted(ordered[index : index + 16]))] += 1
    lengths = np.array([len(text) for text in texts])
    frames = rng.integers(20, 300, size=count)
    assert of_a_pass(groups_of("sliding", lengths, 16), frames) == expected


@pytest.mark.parametrize("count", [160, 167, 161, 15, 5])
def test_ml_superb_has_espnets_batches_of_8_or_more(count) -> None:
    """By ``SortedBatchSampler``: max(⌊N / 8⌋, 1) slices of one order, which share what is left."""
    lengths = np.random.default_rng(0).permutation(np.arange(100, 100 + count))
    keys = sorted(range(count), key=lambda n: -lengths[n])
    number = max(count // 8, 1)
    slices = [keys[i * count // number : (i + 1) * count // number] for i in range(number)]
    expected = Counter(tuple(sorted(part)) for part in slices)
    assert of_a_pass(groups_of("sorted", lengths, 8, "shared"), lengths) == expected


@pytest.mark.parametrize(("count", "accumulated"), [(2, 4), (5, 4), (13, 4), (97, 2), (3, 5)])
def test_updates_are_cut_from_espnets_and_s3prls_stream_of_passes(count, accumulated) -> None:
    """By ``SequenceIterFactory`` of ESPnet; s3prl's runner is held to it with its own code.

    Both shuffle the batches of a pass and go through them, pass after pass; an update follows each
    ``accumulated`` of them, whichever pass they are of.
    """
    frames = np.arange(100, 100 + 8 * count)
    groups, steps = groups_of("sorted", frames, 8), 3 * count
    rng, stream = np.random.default_rng((7, 0)), []
    while len(stream) < steps * accumulated:
        stream.extend(groups.places[rng.permutation(count)])
    expected = np.reshape(stream[: steps * accumulated], (steps, -1))
    rows = np.arange(len(frames))
    found = grouped_batches(rows, frames, groups, accumulated, 4, steps, [7])
    np.testing.assert_array_equal(np.stack([batch.rows[0] for batch in found]), expected)


def test_crops_are_cut_as_s3prl_cuts_waveforms(superb, monkeypatch) -> None:
    """By its data set of SID: 128,000 samples from anywhere, both ends included; the rest whole."""
    module = superb("downstream.voxceleb1.dataset")
    lengths = {"long": 128_003, "equal": 128_000, "short": 90_000}
    monkeypatch.setattr(
        module.torchaudio, "load", lambda path: (torch.arange(lengths[path])[None], 16_000)
    )
    theirs = module.SpeakerClassifiDataset.__new__(module.SpeakerClassifiDataset)
    theirs.dataset, theirs.label, theirs.max_timestep = list(lengths), [0] * 3, 128_000
    samples = np.array([*lengths.values()])
    spare = np.maximum(samples - 128_000, 0)
    crops = Crops([0], 1)
    for place, name in enumerate(lengths):
        waves = [read(theirs, place) for _ in range(200)]
        expected = {(int(wave[0]), len(wave)) for wave in waves}
        firsts = [int(crops.draw({0: spare})[0][place]) for _ in range(200)]
        found = {(first, min(128_000, samples[place] - first)) for first in firsts}
        assert found == expected, name


def read(dataset, place: int):
    return dataset[place][0]
