"""The batches of a pass are s3prl's and ESPnet's."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from ssl_bench.neighbours import grouped_batches, groups_of


def of_a_pass(groups: np.ndarray, frames: np.ndarray) -> Counter:
    """Which utterances the batches of the first pass hold, as often as they come."""
    rows = np.arange(len(frames))
    batches = grouped_batches(rows, frames, groups, 1, 4, len(groups), [0])
    return Counter(tuple(sorted(batch.rows[0].tolist())) for batch in batches)


@pytest.mark.parametrize("count", [256, 128, 130, 147])
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
    found = of_a_pass(groups_of("sorted", lengths, 16), lengths)
    whole = Counter(batch for batch in expected if len(batch) == 16)
    assert sum(whole.values()) == count // 32 * 2
    assert not whole - found
    # What is left of the last 32 is one batch there, of any size; here batches of 16 that hold it.
    left = {place for batch in (found - whole) for place in batch}
    assert left >= {place for batch in expected if len(batch) != 16 for place in batch}
    assert sum((found - whole).values()) == -(-(count % 32) // 16)


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


def test_ml_superb_has_espnets_batches_of_8_where_8_divides() -> None:
    """By ``SortedBatchSampler``: ⌊N / 8⌋ slices of one order, of 8 if 8 divides N."""
    lengths = np.random.default_rng(0).permutation(np.arange(100, 260))
    keys = sorted(range(160), key=lambda n: -lengths[n])
    slices = [keys[i * 160 // 20 : (i + 1) * 160 // 20] for i in range(20)]
    expected = Counter(tuple(sorted(part)) for part in slices)
    assert of_a_pass(groups_of("sorted", lengths, 8), lengths) == expected
