"""Slot filling: symbols, F1 of slot types and CER of slot values are s3prl's."""

import sys
import types

import numpy as np
import pytest

from ssl_bench import metrics
from ssl_bench.tasks._slots import read_slots, type_f1, value_errors
from ssl_bench.tasks.sf import marked, written

REFERENCES = [
    "B-artist QUEEN E-artist PLAY B-city NEW YORK E-city",
    "NO SLOTS HERE",
    "B-city ROME E-city AND B-city PARIS E-city IN B-date MAY E-date",
    "B-date JUNE E-date",
    "B-year NINETEEN E-year",
]
HYPOTHESES = [
    "B-artist QUEEN E-artist PLAY B-city NEW FORK E-city",
    "NO B-city SLOT E-city HERE",
    "B-city ROMA E-city AND B-city PARI E-city IN MAY E-date",
    "B-date B-city JUNE E-date",  # a mark inside a slot is no part of its value
    "SILENCE",
]


@pytest.fixture
def theirs(s3prl_module, monkeypatch):
    """s3prl's metrics; editdistance, which they import, is not a dependency here."""
    stub = types.ModuleType("editdistance")
    stub.eval = lambda a, b: metrics.edit_errors([list(a)], [list(b)])[0]
    monkeypatch.setitem(sys.modules, "editdistance", stub)
    return s3prl_module("downstream/ctc/metric.py")


def pairs(hypotheses: list[str], references: list[str]):
    return [
        (read_slots(r, clean=False), read_slots(h, clean=True))
        for h, r in zip(hypotheses, references, strict=True)
    ]


def test_both_numbers_are_s3prls(theirs) -> None:
    random = np.random.default_rng(0)
    names, words = ["city", "date", "artist"], ["NEW", "YORK", "MAY", "QUEEN", "PLAY"]

    def sentence() -> str:
        parts = []
        for _ in range(random.integers(1, 5)):
            word = " ".join(random.choice(words, size=random.integers(1, 3)))
            name = random.choice(names)
            parts.append(word if random.random() < 0.4 else f"B-{name} {word} E-{name}")
        return " ".join(parts)

    references = REFERENCES + [sentence() for _ in range(200)]
    hypotheses = HYPOTHESES + [sentence() for _ in range(200)]
    found = pairs(hypotheses, references)
    f1 = np.mean([type_f1(*pair) for pair in found])
    assert f1 == pytest.approx(theirs.slot_type_f1(hypotheses, references), abs=1e-12)
    errors, length = np.sum([value_errors(*pair) for pair in found], axis=0)
    assert errors / length == pytest.approx(theirs.slot_value_cer(hypotheses, references))
    assert 0.2 < f1 < 0.8


def test_by_hand() -> None:
    found = pairs(HYPOTHESES, REFERENCES)
    assert [type_f1(*pair) for pair in found] == [1, 0, 2 / 3, 1, 0]
    # FORK for YORK; none; ROMA and PARI, MAY is lost; none; all is lost
    assert [value_errors(*pair) for pair in found] == [(1, 13), (0, 0), (5, 12), (0, 4), (8, 8)]


def test_symbols_are_s3prls(s3prl_module, tmp_path) -> None:
    text = s3prl_module("downstream/ctc/text.py")
    (tmp_path / "characters").write_text(" \nA\nB\nC\n'\n")
    (tmp_path / "slots").write_text("O\ncity\ndate")
    encoder = text.CharacterTextSlotEncoder.load_from_file(
        tmp_path / "characters", tmp_path / "slots"
    )
    words, slots = ["A", "B'C", "CAB", "A", "A"], ["O", "city", "city", "O", "date"]
    line = f"BOS {' '.join(words)} EOS\tO {' '.join(slots)} intent"
    tokens = encoder.encode(line)
    assert written(marked(words, slots)) == encoder.decode(tokens)
    assert len(marked(words, slots)) + 1 == len(tokens)  # <eos>


def test_a_task_decodes_what_it_encoded(small) -> None:
    table = small.table()
    table.loc[table["id"] == "test-00", "text"] = "7up no"
    task = small.task("sf", table)
    assert len(task.symbols) == 3 + 28 + 2 * 2
    assert task.truth["test-00"] == "B-answer <unk>UP E-answer NO"
    ids = task.ids("test")
    index = {symbol: i for i, symbol in enumerate(task.symbols)}
    rows = table.set_index("id")
    pairs = [(rows.at[n, "text"].upper().split(), rows.at[n, "slots"].split()) for n in ids]
    perfect = [np.array([index.get(symbol, 2) for symbol in marked(*pair)]) for pair in pairs]
    scores = task.score("test", ids, perfect)
    assert task.value(scores) == 100
    assert not scores["value_errors"].any()
    cer = small.task("sf", table, metric="slot_value_cer")
    assert not cer.higher_is_better
    assert task.higher_is_better
    assert cer.value(cer.score("test", ids, perfect)) == 0
    assert cer.value(cer.score("test", ids, [np.array([], int)] * len(ids))) == 100
    hypotheses = ["".join(cer.hypothesis(cer.symbols[tokens])) for tokens in perfect]
    assert hypotheses == [task.truth[name] for name in ids]


def test_slots_that_do_not_fit(small) -> None:
    from ssl_bench.errors import StudyError

    table = small.table()
    with pytest.raises(StudyError, match="12 utterances do not have one of 'slots' for each word"):
        small.task("sf", table.assign(slots=table["slots"].str.replace("answer O", "answer")))
    table.loc[table["id"] == "dev-02", "slots"] = "place O"
    with pytest.raises(StudyError, match=r"1 'slots' labels .* not in train: 'place' in dev-02"):
        small.task("sf", table)
