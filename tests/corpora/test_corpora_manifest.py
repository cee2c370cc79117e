"""Your own recordings: what a manifest may look like, and one clear line for what it may not."""

import csv
import json

import numpy as np
import pandas as pd
import pytest
import soundfile

from ssl_bench import audio
from ssl_bench.corpora import manifest
from ssl_bench.corpora.base import SPLITS, table
from ssl_bench.errors import StudyError

HEADER = ("path", "split", "text", "speaker", "keyword")
ROWS = [
    ("one.wav", "train", "one", "ann", "1"),
    ("sub dir/zwei – é.flac", "dev", "zwei", "bo", "2"),
    ("three.wav", "test", "three", "cy", "3"),
]


@pytest.fixture
def folder(tmp_path, tone):
    tone(tmp_path / "one.wav", seconds=0.5, rate=8_000)
    tone(tmp_path / "sub dir" / "zwei – é.flac", seconds=0.25, rate=44_100, channels=2)
    tone(tmp_path / "three.wav", seconds=1.0)
    return tmp_path


def write(path, rows=ROWS, header=HEADER):
    if path.suffix == ".jsonl":
        lines = [json.dumps(dict(zip(header, row, strict=True))) for row in rows]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    elif path.suffix == ".tsv":
        lines = ["\t".join(row) for row in [header, *rows]]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([header, *rows])
    return path


def prepare(**keys):
    keys = {name: str(v) if name in ("path", *SPLITS) else v for name, v in keys.items()}
    return manifest.prepare(manifest.Config(kind="manifest", **keys), None)


def error_of(**keys):
    with pytest.raises(StudyError) as raised:
        prepare(**keys)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("suffix", [".tsv", ".csv", ".jsonl"])
def test_three_formats_give_the_same_corpus(folder, suffix):
    cuts = prepare(path=write(folder / f"list{suffix}"), columns={"keyword": "word"}, language="en")
    frame = table(cuts).set_index("id")
    assert list(cuts) == list(SPLITS)
    assert list(frame.index) == ["one", "sub dir/zwei – é", "three"]
    assert list(frame["text"]) == ["one", "zwei", "three"]
    assert list(frame["speaker"]) == ["ann", "bo", "cy"]
    assert list(frame["word"]) == ["1", "2", "3"]
    assert set(frame["language"]) == {"en"}
    np.testing.assert_allclose(frame["duration"], [0.5, 0.25, 1.0], atol=1e-6)
    for split, seconds in zip(SPLITS, (0.5, 0.25, 1.0), strict=True):
        assert len(audio.load(cuts[split][0])) == seconds * 16_000


def test_stereo_is_averaged_not_cut_to_its_left_channel(folder):
    left = np.full(1600, 0.5)
    soundfile.write(folder / "one.wav", np.stack([left, 0 * left], axis=1), 16_000, "FLOAT")
    cuts = prepare(path=write(folder / "list.tsv"))
    np.testing.assert_allclose(audio.load(cuts["train"][0]), 0.25, atol=1e-6)


def test_cuts_survive_a_file(folder):
    from lhotse import CutSet

    cuts = prepare(path=write(folder / "list.tsv"))
    for split, subset in cuts.items():
        subset.to_file(folder / f"{split}.jsonl.gz")
    read = {split: CutSet.from_file(folder / f"{split}.jsonl.gz") for split in SPLITS}
    pd.testing.assert_frame_equal(table(read), table(cuts))
    for split in SPLITS:
        assert (audio.load(next(iter(read[split]))) == audio.load(cuts[split][0])).all()


def test_own_names_of_splits(folder):
    rows = [(path, {"dev": "valid"}.get(split, split), *rest) for path, split, *rest in ROWS]
    path = write(folder / "list.tsv", rows)
    assert list(prepare(path=path, splits={"valid": "dev"})["dev"].ids) == ["sub dir/zwei – é"]
    line = error_of(path=path)
    assert line == (
        f"{path}: row 3: split 'valid'; expected train, dev or test; "
        "name yours with splits: {valid: dev}"
    )


def test_root_is_what_paths_are_relative_to(folder, tmp_path_factory):
    elsewhere = write(tmp_path_factory.mktemp("lists") / "list.csv")
    assert "3 recordings do not exist" in error_of(path=elsewhere)
    assert len(prepare(path=elsewhere, root=str(folder))["train"]) == 1


def test_a_spreadsheets_byte_order_mark_is_no_part_of_a_name(folder):
    path = write(folder / "list.csv")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(prepare(path=path)["test"]) == 1


def test_a_tsv_has_no_quoting(folder):
    rows = [("one.wav", "train", 'say "a', "ann", "1"), *ROWS[1:]]
    assert prepare(path=write(folder / "list.tsv", rows))["train"][0].supervisions[0].text == (
        'say "a'
    )


def test_computed_columns_do_not_replace_what_is_computed(folder):
    rows = [(*row[:4], "99") for row in ROWS]
    cuts = prepare(path=write(folder / "list.tsv", rows, (*HEADER[:4], "duration")))
    assert table(cuts)["duration"].max() <= 1.0


def test_an_empty_label_is_none(folder):
    rows = [ROWS[0], (*ROWS[1][:4], ""), ROWS[2]]
    frame = table(prepare(path=write(folder / "list.tsv", rows)))
    assert list(frame["keyword"].isna()) == [False, True, False]


def test_a_list_of_phones_in_json(folder):
    lines = [
        json.dumps({"path": p, "split": s, "phones": ["AA", "B"], "n": 7, "x": None})
        for p, s, *_ in ROWS
    ]
    (folder / "list.jsonl").write_text("\n".join(lines))
    frame = table(prepare(path=folder / "list.jsonl"))
    assert set(frame["phones"]) == {"AA B"}
    assert set(frame["n"]) == {"7"}


def change(number, **cells):
    rows = [dict(zip(HEADER, row, strict=True)) for row in ROWS]
    rows[number].update(cells)
    return [tuple(row.values()) for row in rows]


@pytest.mark.parametrize(
    ("rows", "header", "expected"),
    [
        (ROWS, ("file", *HEADER[1:]), "no column 'path'; found: file, keyword"),
        (ROWS, ("path", "splits", *HEADER[2:]), "no column 'split'; did you mean 'splits'?"),
        (ROWS, ("path", "split", "text", "text", "x"), "row 1: two columns are named 'text'"),
        (ROWS, ("path", "split", "text", "speaker", "start"), "a row is a whole recording"),
        ([], HEADER, "lists no recording"),
        ([*ROWS, ("four.wav", "train")], HEADER, "row 5: found 2 cells, expected 5"),
        (change(1, path="gone.wav"), HEADER, "1 recordings do not exist: row 3: "),
        (change(1, path=""), HEADER, "row 3: no path"),
        (change(2, split=""), HEADER, "row 4: no split"),
        (change(2, split="Test"), HEADER, "row 4: split 'Test'; expected train, dev or test"),
        (change(0, speaker="a|b"), HEADER, "row 2: speaker 'a|b': expected no '|'"),
        ([(*row[:2], "", *row[3:]) for row in ROWS], HEADER, "'text' is empty in all 3 rows"),
        ([*ROWS, ROWS[0]], HEADER, "id 'one' stands in row 2 and in row 5"),
    ],
)
def test_a_wrong_manifest_is_one_line(folder, rows, header, expected):
    path = write(folder / "list.tsv", rows, header)
    line = error_of(path=path)
    assert line.startswith(f"{path}: ")
    assert expected in line


def test_ids_that_are_given_must_be_unique(folder):
    rows = [(*row, "x") for row in ROWS]
    line = error_of(path=write(folder / "list.csv", rows, (*HEADER, "id")))
    assert "id 'x' stands in row 2 and in row 3" in line


def test_one_recording_in_two_splits_is_told(folder):
    rows = [(*row, str(n)) for n, row in enumerate([*ROWS, ("one.wav", "test", *ROWS[0][2:])])]
    line = error_of(path=write(folder / "list.csv", rows, (*HEADER, "id")))
    assert "one.wav is in split train (row 2) and in test (row 5)" in line


def test_many_missing_files_show_three(folder):
    rows = [(f"no{n}.wav", "train", "a", "b", "c") for n in range(5)]
    line = error_of(path=write(folder / "list.tsv", rows))
    assert "5 recordings do not exist: row 2: " in line
    assert "no2.wav; …" in line
    assert "no3.wav" not in line


def test_all_bad_recordings_are_told_with_their_rows(folder):
    (folder / "one.wav").write_bytes(b"no sound")
    soundfile.write(folder / "three.wav", np.zeros(0), 16_000)
    line = error_of(path=write(folder / "list.tsv"))
    assert "2 recordings cannot be used: row 2: " in line
    assert "row 4: " in line
    assert "empty recording" in line


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"columns": {"keywrd": "word"}}, "no column 'keywrd'; did you mean 'keyword'?"),
        (
            {"columns": {"keyword": "text"}},
            "keyword → text: expected a new name, found a column 'text'",
        ),
        (
            {"columns": {"text": "a", "keyword": "a"}},
            "expected names of their own, found ['a', 'a']",
        ),
        ({"splits": {"valid": "deev"}}, "did you mean 'dev'?"),
        ({"train": "a.jsonl"}, "expected path, or all of train, dev and test; found path, train"),
    ],
)
def test_a_wrong_key_is_one_line(folder, keys, expected):
    assert expected in error_of(path=write(folder / "list.tsv"), **keys)


def test_neither_a_table_nor_cutsets():
    assert "found none of them" in error_of()
    assert "no such manifest" in error_of(path="missing.tsv")


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.xlsx", b"", "ends in '.xlsx', expected .tsv, .csv or .jsonl"),
        ("a.csv", "path,split\nö.wav,train\n".encode("latin-1"), "not UTF-8"),
        ("a.csv", b'path,split\n"one.wav,train\n', "line 2: expected a cell's closing quote"),
        ("a.jsonl", b'{"path": 1}\n{path', "line 2: not JSON"),
        ("a.jsonl", b"[1]\n", "line 1: expected an object"),
        ("a.jsonl", b'{"path": {"a": 1}}\n', "line 1: 'path': expected text"),
        ("a.tsv", b"", "lists no recording"),
    ],
)
def test_a_file_of_another_kind_is_one_line(tmp_path, name, content, expected):
    (tmp_path / name).write_bytes(content)
    assert expected in error_of(path=tmp_path / name)


# ---- lhotse CutSets


@pytest.fixture
def cutsets(folder):
    """Three CutSet files whose recordings have relative paths, labels in custom."""
    from lhotse import CutSet, Recording, SupervisionSegment

    for path, split, text, speaker, keyword in ROWS:
        recording = Recording.from_file(folder / path, recording_id=path)
        recording.sources[0].source = path
        cut = recording.to_cut()
        cut.supervisions = [
            SupervisionSegment(
                path,
                path,
                0.0,
                cut.duration,
                channel=cut.channel,
                text=text,
                speaker=speaker,
                gender="f",
                custom={"keyword": int(keyword)},
            )
        ]
        CutSet.from_cuts([cut]).to_file(folder / f"{split}.jsonl.gz")
    return {split: folder / f"{split}.jsonl.gz" for split in SPLITS}


def test_cutsets_are_read_with_labels_as_strings(cutsets):
    cuts = prepare(**cutsets, columns={"keyword": "word"}, language="en")
    frame = table(cuts)
    assert list(frame["word"]) == ["1", "2", "3"]
    assert list(frame["speaker"]) == ["ann", "bo", "cy"]
    assert set(frame["language"]) == {"en"}
    assert set(frame["gender"]) == {"f"}
    assert [len(audio.load(cuts[split][0])) for split in SPLITS] == [8_000, 4_000, 16_000]


def test_wrong_cutsets_are_one_line(folder, cutsets):
    from lhotse import CutSet

    assert "found train, dev" in error_of(train=cutsets["train"], dev=cutsets["dev"])
    missing = folder / "no.jsonl.gz"
    assert error_of(**{**cutsets, "dev": missing}) == (
        f"{missing}: no such CutSet file; expected a lhotse CutSet"
    )
    assert "no cut has a label 'wrd'" in error_of(**cutsets, columns={"wrd": "word"})
    assert "1 recordings do not exist" in error_of(**cutsets, root=str(folder / "sub dir"))
    (folder / "rows.jsonl").write_text('{"a": 1}\n')
    assert "expected a lhotse CutSet, found what lhotse" in error_of(
        **{**cutsets, "dev": folder / "rows.jsonl"}
    )

    bare = [cut.drop_supervisions() for cut in CutSet.from_file(cutsets["dev"])]
    CutSet.from_cuts(bare).to_file(folder / "bare.jsonl")
    line = error_of(**{**cutsets, "dev": folder / "bare.jsonl"})
    assert "has 0 supervisions, expected one" in line


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("kind", ["command", "url"])
def test_a_cutset_runs_no_command_and_fetches_nothing(folder, cutsets, kind, mixed):
    from lhotse import CutSet

    cut = CutSet.from_file(cutsets["dev"])[0]
    source = cut.recording.sources[0]
    source.type, source.source = kind, f"touch {folder}/ran"
    if mixed:
        cut = cut.append(cut.drop_supervisions())
    CutSet.from_cuts([cut]).to_file(folder / "bad.jsonl")
    line = error_of(**{**cutsets, "dev": folder / "bad.jsonl"})
    assert f"its recording is a {kind}, which is not run or fetched; expected a file" in line
    assert not (folder / "ran").exists()


# ---- the real recordings


@pytest.mark.parametrize(
    ("name", "counts", "columns"),
    [
        ("speechocean762", {"train": 160, "dev": 40, "test": 200}, {}),
        ("arabic_sc", {"train": 180, "dev": 60, "test": 60}, {"keyword": "word"}),
    ],
)
def test_real_recordings_load_by_manifest(real_recordings, name, counts, columns):
    path = real_recordings / f"{name}.tsv"
    cuts = prepare(path=path, columns=columns)
    assert {split: len(cuts[split]) for split in SPLITS} == counts
    frame = table(cuts).set_index("id")
    listed = pd.read_csv(path, sep="\t", dtype=str, quoting=csv.QUOTE_NONE).set_index("id")
    assert set(frame.index) == set(listed.index)
    listed = listed.loc[frame.index]
    # The table rounds durations to a millisecond.
    difference = (frame["duration"] - listed["duration_s"].astype(float)).abs()
    assert difference.max() <= 0.00051
    assert (frame["phones"] == listed["phones"]).all()
    assert (frame["text"] == listed["text"]).all()
    assert (frame["speaker"] == listed["speaker"]).all()
    for split in SPLITS:
        cut = cuts[split][0]
        assert len(audio.load(cut)) == round(cut.duration * 16_000)
    by_split = [set(rows["speaker"]) for _, rows in frame.groupby("split")]
    assert sum(map(len, by_split)) == len(set().union(*by_split))


def test_real_phones_carry_their_stress(real_recordings):
    cuts = prepare(path=real_recordings / "speechocean762.tsv")
    phones = {p for text in table(cuts)["phones"] for p in text.split()}
    assert {"AH0", "AH1", "S"} <= phones


def test_real_digits_have_a_word(real_recordings):
    cuts = prepare(path=real_recordings / "arabic_sc.tsv", columns={"keyword": "word"})
    assert table(cuts)["word"].nunique() == 10
