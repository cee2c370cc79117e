"""Bad lists of recordings, bad recordings, labels that no task can use."""

from pathlib import Path

import numpy as np
from bad_inputs.house import (
    CORPUS,
    HEADER,
    SPOILT,
    Row,
    both,
    cell,
    column,
    cut,
    gone,
    keys,
    nothing,
    rows,
    samples,
    swap,
    text,
    tone,
    write_list,
    write_wave,
)


def _extra(row: dict[str, str]) -> None:
    write_list([*rows(), {**rows()[0], **row}])


def _widths() -> None:
    content = Path("list.tsv").read_text()
    Path("list.tsv").write_text(content + "audio/more.wav\ttrain\n")


def _json(*lines: str) -> object:
    return both(
        keys(corpora__tones__path="list.jsonl"), text("list.jsonl", "\n".join(lines) + "\n")
    )


def listed(spoil, where: str, found: str, expected: str) -> Row:
    """Return the row of a list that is spoilt."""
    return Row(CORPUS, spoil, where, found, expected)


FIRST = '{"path": "audio/train-0.wav", "split": "train"}'
LISTS = {
    "no path": listed(
        column("path", None),
        "list.tsv",
        "no column 'path'; found: keyword, phones",
        "expected: path, split",
    ),
    "a column by another name": listed(
        column("split", "splits"),
        "list.tsv",
        "no column 'split'; did you mean 'splits'? found: keyword",
        "expected: path, split",
    ),
    "a column twice": listed(
        swap("list.tsv", "\tphones\t", "\tkeyword\t"),
        "list.tsv: row 1",
        "two columns are named 'keyword'",
        "expected one",
    ),
    "a file that is not there": listed(
        gone("audio/dev-1.wav"),
        "list.tsv",
        "1 recordings do not exist: row 9: audio/dev-1.wav",
        "expected files, relative to '.'",
    ),
    "a folder in place of a file": listed(
        cell(4, path="audio"),
        "list.tsv",
        "1 recordings do not exist: row 4: audio (a folder)",
        "expected files, relative to '.'",
    ),
    "a row without a path": listed(
        cell(3, path=""), "list.tsv: row 3", "no path: found an empty cell", "expected a recording"
    ),
    "a row without a split": listed(
        cell(3, split=""),
        "list.tsv: row 3",
        "no split: found an empty cell",
        "expected train, dev or test",
    ),
    "a bad split": listed(
        cell(8, split="valid"),
        "list.tsv: row 8",
        "split 'valid'",
        "expected train, dev or test; name yours with splits: {valid: dev}",
    ),
    "an id twice": listed(
        lambda: write_list([{**row, "id": "a"} for row in rows()]),
        "list.tsv",
        "id 'a' stands in row 2 and in row 3",
        "expected in one",
    ),
    "a recording twice": listed(
        lambda: _extra({}),
        "list.tsv",
        "id 'audio/train-0' stands in row 2 and in row 14",
        "expected in one",
    ),
    "a recording in two splits": listed(
        lambda: write_list(
            [{**r, "id": str(n)} for n, r in enumerate([*rows(), {**rows()[0], "split": "test"}])]
        ),
        "list.tsv: audio/train-0.wav",
        "is in split train (row 2) and in test (row 14)",
        "expected in one",
    ),
    "a row that is too short": listed(
        _widths, "list.tsv: row 14", "found 2 cells", "expected 6 as in the header"
    ),
    "a column that is empty": listed(
        lambda: write_list([{**row, "text": ""} for row in rows()]),
        "list.tsv: column 'text'",
        "is empty in all 12 rows",
        "expected a value in one, or no such column",
    ),
    "a speaker with the sign of trials": listed(
        cell(5, speaker="a|b"), "list.tsv: row 5: speaker 'a|b'", "found one", "expected no '|'"
    ),
    "no rows": listed(
        text("list.tsv", "\t".join(HEADER) + "\n"),
        "list.tsv",
        "lists no recording",
        "expected a row for each",
    ),
    "an empty file": listed(
        text("list.tsv", ""), "list.tsv", "lists no recording", "expected a row for each"
    ),
    "not UTF-8": listed(
        text("list.tsv", b"path\tsplit\n\xff\ttrain\n"),
        "list.tsv",
        "found the byte 0xff in line 2",
        "not UTF-8",
    ),
    "not there": listed(
        gone("list.tsv"),
        "list.tsv",
        "no such manifest",
        "expected a file that ends in .tsv, .csv or .jsonl",
    ),
    "a spreadsheet": Row(
        CORPUS,
        both(keys(corpora__tones__path="list.xlsx"), text("list.xlsx", b"PK\x03\x04")),
        "list.xlsx",
        "found a name that ends in '.xlsx'",
        "expected .tsv, .csv or .jsonl",
    ),
    "a quote that is not closed": Row(
        CORPUS,
        both(keys(corpora__tones__path="list.csv"), text("list.csv", 'path,split\n"a.wav,train\n')),
        "list.csv: line 2",
        "found the end of the file",
        "expected a cell's closing quote",
    ),
    "a line that is not JSON": listed(
        _json(FIRST, "{path"),
        "list.jsonl: line 2",
        "found 'path' at column 2",
        "not JSON: expected a property name enclosed in double quotes",
    ),
    "a line that is no object": listed(
        _json(FIRST, "[1]"), "list.jsonl: line 2", "found [1]", "expected an object of columns"
    ),
    "a cell that is an object": listed(
        _json(FIRST, '{"path": {"a": 1}}'),
        "list.jsonl: line 2: 'path'",
        'found {"a": 1}',
        "expected text, a number or a list of symbols",
    ),
    "a key that is no column": listed(
        keys(corpora__tones__columns={"keywrd": "word"}),
        "list.tsv: columns",
        "no column 'keywrd'",
        "did you mean 'keyword'? known: keyword, path",
    ),
    "a split without recordings": Row(
        CORPUS,
        lambda: write_list([r for r in rows() if r["split"] != "dev"]),
        "corpora.tones",
        "no utterance in split dev",
        "expected some in each of train, dev, test",
    ),
    "CutSets that are not there": Row(
        CORPUS,
        keys(
            corpora__tones={
                "kind": "manifest",
                **dict.fromkeys(("train", "dev", "test"), "c.jsonl"),
            }
        ),
        "c.jsonl",
        "no such CutSet file",
        "expected a lhotse CutSet",
    ),
    "CutSets that are none": Row(
        CORPUS,
        both(
            keys(
                corpora__tones={
                    "kind": "manifest",
                    **dict.fromkeys(("train", "dev", "test"), "c.jsonl"),
                }
            ),
            text("c.jsonl", '{"a": 1}\n'),
        ),
        "c.jsonl",
        "found what lhotse cannot read as one",
        "expected a lhotse CutSet",
    ),
}


def audio(spoil, found: str, expected: str) -> Row:
    """Return the row of a recording that is spoilt."""
    return Row(
        CORPUS, spoil, f"list.tsv: 1 recordings cannot be used: row 11: {SPOILT}", found, expected
    )


def _cut_off() -> None:
    samples(lambda: tone(1.0))()
    cut(SPOILT)()


def _flac(share: float) -> None:
    import soundfile

    soundfile.write("audio/whole.flac", tone(1.0), 16_000)
    content = Path("audio/whole.flac").read_bytes()
    Path("audio/cut.flac").write_bytes(content[: int(share * len(content))])
    Path("audio/whole.flac").unlink()
    cell(11, path="audio/cut.flac")()


def _with(value: float):
    def make() -> np.ndarray:
        wave = tone(0.5).astype(np.float32)
        wave[100] = value
        return wave

    return samples(make)


AUDIO = {
    "an empty file": audio(
        text(SPOILT, b""),
        "found 'Format not recognised'",
        "not readable as audio: expected what libsndfile reads",
    ),
    "no samples": audio(
        samples(lambda: np.zeros(0)),
        "empty recording (0 samples)",
        "expected at least 25 ms (400 samples at 16 kHz)",
    ),
    "not audio": audio(
        text(SPOILT, "not audio"),
        "found 'Format not recognised'",
        "not readable as audio: expected what libsndfile reads",
    ),
    "cut off within its header": audio(
        cut(SPOILT, 0.002),
        "found \"Error in WAV file. No 'data' chunk marker\"",
        "not readable as audio: expected what libsndfile reads",
    ),
    "cut off": audio(_cut_off, "32,040 found", "truncated: 64,080 bytes expected"),
    "FLAC that is cut off": Row(
        CORPUS,
        lambda: _flac(0.5),
        "audio/cut.flac",
        "found 'Error : flac decoder lost sync'",
        "not readable as audio: expected what libsndfile reads",
    ),
    "NaN": Row(
        CORPUS,
        _with(np.nan),
        "cut audio/test-1",
        "found NaN or infinity",
        "expected finite samples",
    ),
    "infinity": Row(
        CORPUS,
        _with(np.inf),
        "cut audio/test-1",
        "found NaN or infinity",
        "expected finite samples",
    ),
    "10 ms": audio(
        samples(lambda: tone(0.01)),
        "10.0 ms is too short",
        "expected at least 25 ms (400 samples at 16 kHz)",
    ),
    "10 ms at 48 kHz": audio(
        samples(lambda: tone(0.01, 48_000), 48_000),
        "10.0 ms is too short",
        "expected at least 25 ms",
    ),
    "an hour": audio(
        lambda: write_wave(SPOILT, np.zeros(3600 * 2000), 2000),
        "3600 s is too long",
        "expected at most 600 s",
    ),
}


def _misspelt_and_cut_off() -> None:
    """A column by another name, and a recording that only decoding finds to be cut off."""
    _flac(0.5)
    listed = rows()
    listed[9]["path"] = "audio/cut.flac"
    write_list([{"keywords" if k == "keyword" else k: v for k, v in r.items()} for r in listed])


def task(spoil, where: str, found: str, expected: str, **entry: object) -> Row:
    """Return the row of a task, ks unless an entry is given, that labels do not fit."""
    made = both(keys(tasks={"t": {"corpus": "tones", **entry}}), spoil) if entry else spoil
    return Row(CORPUS, made, f"tasks.{'t' if entry else 'ks'}: {where}", found, expected)


TRIALS = "audio/test-0 audio/test-1"
LABELS = {
    "a column that is not there": task(
        column("keyword", "keywords"),
        "task 'ks' on corpus 'tones'",
        "no column 'keyword'; did you mean 'keywords'? found: keywords, language",
        "expected: keyword",
    ),
    "the same, told before recordings are read": task(
        _misspelt_and_cut_off,
        "task 'ks' on corpus 'tones'",
        "no column 'keyword'; did you mean 'keywords'? found: keywords, language",
        "expected: keyword",
    ),
    "a label missing": task(
        cell(4, keyword=""),
        "task 'ks' on corpus 'tones'",
        "1 of 12 utterances have no 'keyword': audio/train-2 (train)",
        "expected one for each",
    ),
    "a label of test alone": task(
        cell(11, keyword="huge"),
        "task 'ks' on corpus 'tones'",
        "1 'keyword' labels of dev or test are not in train: 'huge' in audio/test-1 (test)",
        "expected those of train alone",
    ),
    "one label only": task(
        lambda: write_list([{**row, "keyword": "low"} for row in rows()]),
        "task 'ks' on corpus 'tones'",
        "the train split has one 'keyword' only, 'low'",
        "expected several",
    ),
    "empty text": task(
        cell(6, text=""),
        "task 'asr' on corpus 'tones'",
        "1 of 12 utterances have no 'text': audio/train-4 (train)",
        "expected one for each",
        kind="asr",
    ),
    "text without a letter": task(
        cell(6, text="?!"),
        "task 'mono_asr' on corpus 'tones'",
        "have no characters but punctuation: audio/train-4 (train)",
        "expected some in each",
        kind="mono_asr",
    ),
    "a phone of test alone": task(
        cell(11, phones="h zh"),
        "task 'pr' on corpus 'tones'",
        "1 phones of column 'phones' are not in the train split: 'zh' in audio/test-1 (test)",
        "expected all to be: drop these utterances or",
        kind="pr",
    ),
    "a list of phones that is not there": task(
        nothing,
        "task 'pr' on corpus 'tones'",
        "no vocabulary_file 'phones.txt'",
        "expected a list of phones",
        kind="pr",
        vocabulary_file="phones.txt",
    ),
    "a list of phones that lacks one": task(
        text("phones.txt", "l\no\nh\n"),
        "task 'pr' on corpus 'tones'",
        "1 phones of column 'phones' are not in phones.txt: 'ai'",
        "expected all to be: drop these utterances or",
        kind="pr",
        vocabulary_file="phones.txt",
    ),
    "a trial of nobody": task(
        text("trials.txt", "0 audio/test-0 nobody\n"),
        "trials.txt:1",
        "the corpus has no utterance 'nobody'",
        "expected one of its ids",
        kind="sv",
        trials_file="trials.txt",
    ),
    "a trial of three words": task(
        text("trials.txt", f"yes {TRIALS}\n"),
        "trials.txt:1",
        "found 'yes audio/test-0 audio/test-1'",
        "expected '<1|0> <utterance> <utterance>'",
        kind="sv",
        trials_file="trials.txt",
    ),
    "a trial that contradicts the speakers": task(
        text("trials.txt", f"0 {TRIALS}\n"),
        "trials.txt:1",
        "label 0 contradicts the speakers",
        "expected 1",
        kind="sv",
        trials_file="trials.txt",
    ),
    "a speaker of train in test": task(
        cell(11, speaker="train-0"),
        "task 'sv' on corpus 'tones'",
        "found 1 of train: 'train-0' in audio/test-1 (test)",
        "expected other speakers in dev and test than in train",
        kind="sv",
    ),
    "more minutes than there are": task(
        nothing,
        "task 'mono_asr' on corpus 'tones'",
        "train_minutes is 10",
        "expected at most 0.03",
        kind="mono_asr",
        train_minutes=10.0,
    ),
}
