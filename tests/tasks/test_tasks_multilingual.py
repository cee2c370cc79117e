"""ML-SUPERB's multilingual tasks and phones: what is recognised and what is counted."""

import numpy as np
import pytest

from ssl_bench.errors import StudyError


def tokens_of(task, symbols: list[str]) -> np.ndarray:
    index = {symbol: i for i, symbol in enumerate(task.symbols)}
    return np.array([index[symbol] for symbol in symbols])


def test_language_identification_is_one_symbol(small) -> None:
    task = small.task("multi_lid")
    assert task.symbols.tolist() == ["<pad>", "<unk>", "[de]", "[en]"]
    assert task.target("train-00").tolist() == [3]
    assert task.target("dev-01").tolist() == [2]
    heard = [["[en]"], ["[en]"], [], ["[de]", "[en]"]]
    ids = ["test-00", "test-01", "test-02", "test-03"]
    scores = task.score("test", ids, [tokens_of(task, symbols).astype(int) for symbols in heard])
    assert scores["correct"].tolist() == [1, 0, 0, 1]  # the first symbol counts
    assert task.value(scores) == 50


def test_one_symbol_set_for_all_languages(small) -> None:
    table = small.table()
    table.loc[table["language"] == "de", "text"] = "übel"
    task = small.task("multi_asr", table)
    assert {"Ü", "Y", "|"} <= set(task.symbols)
    assert "[en]" not in task.symbols
    assert task.metric == "cer"


def test_the_joint_task_begins_with_the_language_and_counts_text_alone(small) -> None:
    task = small.task("multi_asr", language_token=True)
    target = task.symbols[task.target("train-00").numpy()].tolist()
    assert target == ["[en]", *"YES|NO"]
    heard = [["[en]", *"YES|NO"], ["[en]", *"NO|STOP"], [*"STOP|YES"]]
    ids = ["test-00", "test-01", "test-02"]
    scores = task.score("test", ids, [tokens_of(task, symbols) for symbols in heard])
    assert scores["errors"].tolist() == [0, 0, 0]
    assert scores["reference_length"].tolist() == [6, 7, 8]
    assert scores["language_correct"].tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    ("kind", "keys"), [("multi_lid", {}), ("multi_asr", {"language_token": True})]
)
def test_a_language_that_only_test_has(small, kind: str, keys: dict) -> None:
    table = small.table()
    table.loc[table["id"] == "test-05", "language"] = "fr"
    with pytest.raises(StudyError, match=r"'language' labels .* '\[fr\]' in test-05 \(test\)"):
        small.task(kind, table, **keys)


def test_one_language_is_nothing_to_identify(small) -> None:
    with pytest.raises(StudyError, match="one language only"):
        small.task("multi_lid", small.table().assign(language="en"))


def test_mandarin_and_japanese_are_recognised_by_phones(small) -> None:
    task = small.task("mono_asr", column="phones", metric="per")
    assert set(task.symbols[2:]) == {"Y", "EH", "S", "N", "OW", "T", "AA", "P"}
    assert task.reference("test-00") == ["Y", "EH", "S", "N", "OW"]
    scores = task.score("test", ["test-00"], [tokens_of(task, ["Y", "EH", "N", "OW"])])
    assert (scores["errors"].item(), scores["reference_length"].item()) == (1, 5)


def test_a_character_that_only_dev_has_is_unknown_to_its_loss(small) -> None:
    table = small.table()
    table.loc[table["id"] == "dev-00", "text"] = "yeß"
    task = small.task("mono_asr", table)
    assert task.symbols[task.target("dev-00").numpy()].tolist() == ["Y", "E", "S", "S"]  # ß → SS
    table.loc[table["id"] == "dev-00", "text"] = "yeø"
    task = small.task("mono_asr", table)
    assert task.symbols[task.target("dev-00").numpy()].tolist() == ["Y", "E", "<unk>"]
