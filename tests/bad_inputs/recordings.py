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


def listed(spoil, *parts: str) -> Row:
    """Return the row of a list that is spoilt."""
    return Row(CORPUS, spoil, ("list.", *parts))


FIRST = '{"path": "audio/train-0.wav", "split": "train"}'
LISTS = {
    "no path": listed(column("path", None), "list.tsv: no column 'path'; known: keyword"),
    "a column by another name": listed(
        column("split", "splits"), "no column 'split'; did you mean 'splits'?"
    ),
    "a column twice": listed(
        swap("list.tsv", "\tphones\t", "\tkeyword\t"), "row 1: two columns are named 'keyword'"
    ),
    "a file that is not there": listed(
        gone("audio/dev-1.wav"), "1 recordings do not exist: row 9: audio/dev-1.wav"
    ),
    "a folder in place of a file": listed(
        cell(4, path="audio"), "1 recordings do not exist: row 4: audio"
    ),
    "a row without a path": listed(cell(3, path=""), "row 3: no path"),
    "a row without a split": listed(cell(3, split=""), "row 3: no split"),
    "a bad split": listed(
        cell(8, split="valid"), "row 8: split 'valid'; expected train, dev or test", "splits:"
    ),
    "an id twice": listed(
        lambda: write_list([{**row, "id": "a"} for row in rows()]),
        "id 'a' stands in row 2 and in row 3",
    ),
    "a recording twice": listed(
        lambda: _extra({}), "id 'audio/train-0' stands in row 2 and in row 14"
    ),
    "a recording in two splits": listed(
        lambda: write_list(
            [{**r, "id": str(n)} for n, r in enumerate([*rows(), {**rows()[0], "split": "test"}])]
        ),
        "audio/train-0.wav is in split train (row 2) and in test (row 14)",
    ),
    "a row that is too short": listed(_widths, "row 14: 2 cells, but the header has 6"),
    "a column that is empty": listed(
        lambda: write_list([{**row, "text": ""} for row in rows()]),
        "column 'text' is empty in all 12 rows",
    ),
    "a speaker with the sign of trials": listed(cell(5, speaker="a|b"), "row 5: speaker has a '|'"),
    "no rows": listed(text("list.tsv", "\t".join(HEADER) + "\n"), "lists no recording"),
    "an empty file": listed(text("list.tsv", ""), "lists no recording"),
    "not UTF-8": listed(text("list.tsv", b"path\tsplit\n\xff\ttrain\n"), "not UTF-8"),
    "not there": listed(gone("list.tsv"), "list.tsv: no such manifest"),
    "a spreadsheet": Row(
        CORPUS,
        both(keys(corpora__tones__path="list.xlsx"), text("list.xlsx", b"PK\x03\x04")),
        ("list.xlsx: a manifest ends in .tsv, .csv or .jsonl",),
    ),
    "a quote that is not closed": Row(
        CORPUS,
        both(keys(corpora__tones__path="list.csv"), text("list.csv", 'path,split\n"a.wav,train\n')),
        ("list.csv: line 2: unexpected end of data",),
    ),
    "a line that is not JSON": listed(_json(FIRST, "{path"), "list.jsonl: line 2: not JSON"),
    "a line that is no object": listed(_json(FIRST, "[1]"), "line 2: expected an object"),
    "a cell that is an object": listed(
        _json(FIRST, '{"path": {"a": 1}}'), "line 2: 'path' is neither text"
    ),
    "a key that is no column": listed(
        keys(corpora__tones__columns={"keywrd": "word"}), "no column 'keywrd'", "'keyword'?"
    ),
    "a split without recordings": Row(
        CORPUS,
        lambda: write_list([r for r in rows() if r["split"] != "dev"]),
        ("corpora.tones: no utterance in split dev",),
    ),
    "CutSets that are not there": Row(
        CORPUS,
        keys(
            corpora__tones={
                "kind": "manifest",
                **dict.fromkeys(("train", "dev", "test"), "c.jsonl"),
            }
        ),
        ("c.jsonl: no such CutSet file",),
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
        ("c.jsonl: not a lhotse CutSet",),
    ),
}


def audio(spoil, *parts: str) -> Row:
    """Return the row of a recording that is spoilt."""
    return Row(CORPUS, spoil, (SPOILT, *parts))


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
    "an empty file": audio(text(SPOILT, b""), "row 11", "not readable as audio"),
    "no samples": audio(samples(lambda: np.zeros(0)), "row 11", "empty recording (0 samples)"),
    "not audio": audio(text(SPOILT, "not audio"), "row 11", "not readable as audio"),
    "cut off within its header": audio(cut(SPOILT, 0.002), "row 11", "not readable as audio"),
    "cut off": audio(_cut_off, "row 11", "truncated: 64,080 bytes expected, 32,040 found"),
    "FLAC that is cut off": Row(CORPUS, lambda: _flac(0.5), ("audio/cut",)),
    "NaN": Row(CORPUS, _with(np.nan), ("audio/test-1", "not finite numbers (NaN or infinity)")),
    "infinity": Row(CORPUS, _with(np.inf), ("audio/test-1", "not finite numbers")),
    "10 ms": audio(
        samples(lambda: tone(0.01)), "row 11", "10.0 ms is too short", "at least 25 ms (400 samples"
    ),
    "10 ms at 48 kHz": audio(
        samples(lambda: tone(0.01, 48_000), 48_000), "10.0 ms is too short; at least 25 ms"
    ),
    "an hour": audio(
        lambda: write_wave(SPOILT, np.zeros(3600 * 2000), 2000),
        "row 11",
        "3600 s is too long; at most 600 s",
    ),
}


def _misspelt_and_cut_off() -> None:
    """A column by another name, and a recording that only decoding finds to be cut off."""
    _flac(0.5)
    listed = rows()
    listed[9]["path"] = "audio/cut.flac"
    write_list([{"keywords" if k == "keyword" else k: v for k, v in r.items()} for r in listed])


def task(spoil, *parts: str, **entry: object) -> Row:
    """Return the row of a task, ks unless an entry is given, that labels do not fit."""
    made = both(keys(tasks={"t": {"corpus": "tones", **entry}}), spoil) if entry else spoil
    return Row(CORPUS, made, (f"tasks.{'t' if entry else 'ks'}: ", *parts))


TRIALS = "audio/test-0 audio/test-1"
LABELS = {
    "a column that is not there": task(
        column("keyword", "keywords"), "no column 'keyword'; did you mean 'keywords'?"
    ),
    "the same, told before recordings are read": task(
        _misspelt_and_cut_off, "no column 'keyword'; did you mean 'keywords'?"
    ),
    "a label missing": task(cell(4, keyword=""), "1 of 12 utterances have no 'keyword'", "train-2"),
    "a label of test alone": task(
        cell(11, keyword="huge"), "'keyword' labels of dev or test are not in train: 'huge' in"
    ),
    "one label only": task(
        lambda: write_list([{**row, "keyword": "low"} for row in rows()]),
        "one 'keyword' only, 'low'",
    ),
    "empty text": task(
        cell(6, text=""), "1 of 12 utterances have no 'text'", "train-4 (train)", kind="asr"
    ),
    "text without a letter": task(cell(6, text="?!"), "audio/train-4 (train)", kind="mono_asr"),
    "a phone of test alone": task(
        cell(11, phones="h zh"), "1 phones of column 'phones'", "'zh' in audio/test-1", kind="pr"
    ),
    "a list of phones that is not there": task(
        nothing, "no vocabulary_file 'phones.txt'", kind="pr", vocabulary_file="phones.txt"
    ),
    "a list of phones that lacks one": task(
        text("phones.txt", "l\no\nh\n"),
        "1 phones of column 'phones' are not in phones.txt: 'ai'",
        kind="pr",
        vocabulary_file="phones.txt",
    ),
    "a trial of nobody": task(
        text("trials.txt", "0 audio/test-0 nobody\n"),
        "trials.txt:1: the corpus has no utterance 'nobody'",
        kind="sv",
        trials_file="trials.txt",
    ),
    "a trial of three words": task(
        text("trials.txt", f"yes {TRIALS}\n"),
        "trials.txt:1: expected '<1|0> <utterance> <utterance>', found",
        kind="sv",
        trials_file="trials.txt",
    ),
    "a trial that contradicts the speakers": task(
        text("trials.txt", f"0 {TRIALS}\n"),
        "trials.txt:1: label 0 contradicts the speakers",
        kind="sv",
        trials_file="trials.txt",
    ),
    "a speaker of train in test": task(
        cell(11, speaker="train-0"), "'train-0' in audio/test-1 (test)", kind="sv"
    ),
    "more minutes than there are": task(
        nothing,
        "train_minutes is 10, but the train split has only",
        kind="mono_asr",
        train_minutes=10.0,
    ),
}
