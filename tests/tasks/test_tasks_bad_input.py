"""Users' mistakes: one clear line each."""

import pytest
from pydantic import ValidationError

from ssl_bench import registry
from ssl_bench.errors import StudyError

KINDS = registry.kinds("tasks")
COLUMN = {
    "pr": "phones",
    "asr": "text",
    "mono_asr": "text",
    "multi_asr": "text",
    "multi_lid": "language",
    "sf": "slots",
    "ks": "keyword",
    "er": "keyword",
    "sid": "speaker",
    "lid": "language",
    "ic": "object",
    "sv": "speaker",
}


@pytest.fixture
def fails(small):
    """Return a function that makes a task, which must fail, and gives its one error line."""

    def run(kind, table=None, **keys) -> str:
        with pytest.raises(StudyError) as caught:
            small.task(kind, table, **keys)
        line = str(caught.value)
        assert "\n" not in line
        return line

    return run


def table_for(small, kind):
    return small.table(speakers="shared" if kind == "sid" else "disjoint")


def test_every_kind_has_a_bad_input_test():
    assert set(COLUMN) == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_missing_column(small, fails, kind):
    table = table_for(small, kind).drop(columns=COLUMN[kind])
    line = fails(kind, table)
    assert line.startswith(f"task '{kind}' on corpus 'small': ")
    assert f"no column '{COLUMN[kind]}'" in line
    assert "found: " in line
    assert line.endswith(f"expected: {COLUMN[kind]}")


def test_misspelt_column_suggests_the_nearest(fails):
    assert "did you mean 'keyword'?" in fails("ks", column="keywords")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("empty", [None, " ", float("nan")], ids=["none", "blank", "nan"])
def test_empty_labels(small, fails, kind, empty):
    table = table_for(small, kind).astype({COLUMN[kind]: object})
    table.loc[[1, 30], COLUMN[kind]] = empty
    line = fails(kind, table)
    assert f"2 of 36 utterances have no '{COLUMN[kind]}': train-01 (train), test-06 (test)" in line


def test_label_only_in_test(small, fails):
    table = small.table()
    table.loc[table["id"] == "test-03", "keyword"] = "go"
    assert "1 'keyword' labels of dev or test are not in train: 'go' in test-03 (test)" in fails(
        "ks", table
    )


def test_one_class_only(small, fails):
    assert "one 'keyword' only, 'yes'" in fails("ks", small.table().assign(keyword="yes"))


def test_phone_outside_the_vocabulary(small, fails):
    table = small.table()
    table.loc[table["id"].isin(["dev-03", "dev-04"]), "phones"] = "Y ZH"
    table.loc[table["id"] == "test-05", "phones"] = "B"
    line = fails("pr", table)
    assert "2 phones of column 'phones' are not in the train split" in line
    assert "'ZH' in dev-03 (dev), 'B' in test-05 (test)" in line


def test_vocabulary_file_that_misses_a_phone_or_does_not_exist(fails, tmp_path):
    assert "no vocabulary_file 'nowhere.txt'" in fails("pr", vocabulary_file="nowhere.txt")
    file = tmp_path / "phones.txt"
    file.write_text("Y\nEH\nS\nN\nOW\nT\nAA\n")
    line = fails("pr", vocabulary_file=str(file))
    assert f"1 phones of column 'phones' are not in {file}: 'P' in train-01 (train)" in line


def test_text_of_punctuation_only(small, fails):
    table = small.table()
    table.loc[2, "text"] = "?!"
    assert "train-02 (train)" in fails("mono_asr", table)


def test_more_minutes_than_there_are(fails):
    line = fails("mono_asr", train_minutes=10.0)
    assert "train_minutes is 10, expected at most 6.00" in line


def test_speakers_of_dev_or_test_in_train(small, fails):
    table = small.table()
    table.loc[table["id"] == "dev-05", "speaker"] = "train-2"
    line = fails("sv", table)
    assert "'train-2' in dev-05 (dev)" in line


def test_too_few_pairs_for_the_trials_asked_for(fails):
    line = fails("sv", trials=40)
    assert "dev: trials is 40, but there are only 12 pairs of the same speaker and 54" in line


def test_no_target_trial_at_all(small, fails):
    table = small.table()
    dev = table["split"] == "dev"
    table.loc[dev, "speaker"] = [f"solo-{i}" for i in range(dev.sum())]
    assert "'dev' needs trials of the same and of different speakers" in fails("sv", table)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 test-00\n", "expected '<1|0> <utterance> <utterance>', found '1 test-00'"),
        ("2 test-00 test-01\n", "expected '<1|0> <utterance> <utterance>'"),
        ("0 test-00 nobody\n", "the corpus has no utterance 'nobody'"),
        ("0 test-00 dev-00\n", "'test-00' is in 'test', but 'dev-00' in 'dev'"),
        ("1 test-00 test-01\n", "label 1 contradicts the speakers"),
    ],
)
def test_bad_trials_file(fails, tmp_path, text, message):
    file = tmp_path / "trials.txt"
    file.write_text("0 test-00 test-01\n" + text)
    line = fails("sv", trials_file=str(file))
    assert f"{file}:2: {message}" in line


def test_missing_trials_file(fails):
    assert "no trials_file 'nowhere.txt'" in fails("sv", trials_file="nowhere.txt")


def test_empty_split_and_repeated_utterance(small, fails):
    table = small.table()
    assert "no utterances in its 'dev' split" in fails("ks", table[table["split"] != "dev"])
    table.loc[1, "id"] = "train-00"
    assert "utterance 'train-00' occurs more than once" in fails("ks", table)


@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        ("pr", {"activation": "gelu"}),
        ("pr", {"hiden": 3}),
        ("mono_asr", {"dim": 20, "attention_heads": 8}),
        ("mono_asr", {"projection": 6}),
        ("asr", {"metric": "per"}),
        ("sv", {"trials": 1}),
    ],
)
def test_bad_keys(kind, keys):
    config = registry.load("tasks", kind).Config
    with pytest.raises(ValidationError):
        config.model_validate({"kind": kind, "corpus": "c", **keys})
