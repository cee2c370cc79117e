"""The published numbers, and finding their cells among a study's names."""

import pandas as pd
import pytest

from analysis import paper, style
from analysis.paper import Finder, Place
from ssl_bench.errors import StudyError


@pytest.mark.parametrize(
    ("table", "cell", "value"),
    [
        ("table1", ("hubert_base", "grouped_2", "published", "frozen", "mono_10min"), 41.84),
        ("table1", ("hubert_base", "cls_pooling", "published", "frozen", "mono_10min"), 48.36),
        ("table1", ("hubert_base", "pca_concat", "published", "frozen", "mono_1h"), 36.58),
        ("table2", ("hubert_base", "cls_pooling", "published", "frozen", "sv"), 49.91),
        ("table2", ("hubert_large", "hconv", "published", "frozen", "er"), 72.44),
        ("table2", ("wavlm_large", "cls_pooling", "published", "frozen", "multi_1h"), 18.8),
        ("table2", ("xlsr_53", "weighted_sum", "published", "frozen", "ic"), 95.62),
        ("table2", ("wavlm_base", "hconv", "published", "frozen", "lid_1h"), 67.9),
        ("table3", ("xlsr_53", "weighted_sum", "large", "frozen", "mono_1h"), 35.4),
        ("table4", ("hubert_base", "hconv", "published", "fine_tuned", "mono_1h"), 31.1),
        ("table4", ("hubert_base", "weighted_sum", "large", "fine_tuned", "mono_1h"), 31.6),
    ],
)
def test_cells_are_those_of_the_paper(table, cell, value):
    frame = paper.published(table).set_index(
        ["upstream", "interface", "downstream", "tuning", "task"]
    )
    assert frame.loc[cell, "value"] == value


@pytest.mark.parametrize(("table", "size"), [("1", 16), ("2", 105), ("3", 10), ("4", 6)])
def test_tables_are_whole(table, size):
    frame = paper.published(f"table{table}")
    assert len(frame) == size
    assert set(frame["table"]) == {table}
    assert not frame.duplicated(list(Place._fields)).any()
    assert frame["value"].between(0, 100, inclusive="neither").all()
    assert set(frame["upstream"]) <= set(style.UPSTREAMS)
    assert set(frame["interface"]) <= set(style.INTERFACES)
    assert frame["printed"].str.fullmatch(r"\d+\.\d+").all()


def test_tables_agree_where_they_repeat_a_cell():
    frame = pd.concat([paper.published(name) for name in paper.NUMBERS])
    spread = frame.groupby(list(Place._fields))["value"].agg(["size", "max", "min"])
    assert (spread["size"] > 1).sum() == 8
    assert (spread["max"] - spread["min"]).max() <= 0.051


def test_every_published_name_has_an_entry():
    known = paper.names()
    frame = pd.concat([paper.published(name) for name in paper.NUMBERS])
    assert set(frame["upstream"]) == set(known["upstreams"])
    assert set(frame["interface"]) == set(known["interfaces"])
    assert set(frame["task"]) == set(known["tasks"])
    assert set(frame["downstream"]) | set(frame["tuning"]) == {
        "published",
        "frozen",
        *known["variants"],
    }


def finder(*cells, **options):
    return Finder(frozenset(cells), **options)


def test_a_cell_is_found_under_its_other_name():
    cell = ("mono_1hr", "hubert_large_ll60k", "hconv")
    assert finder(cell).find(Place("mono_1h", "hubert_large", "hconv")) == [[cell]]
    assert finder(cell).find(Place("mono_1h", "hubert_base", "hconv")) is None


@pytest.mark.parametrize(
    "cell",
    [
        ("mono_1h_large_ft", "hubert_base", "weighted_sum"),
        ("mono_1h_large", "hubert_base_fine_tuned", "weighted_sum"),
        ("mono_1h", "hubert_base_tuned", "weighted_sum_large"),
    ],
)
def test_variants_may_end_any_name(cell):
    place = Place("mono_1h", "hubert_base", "weighted_sum", "large", "fine_tuned")
    assert finder(cell).find(place) == [[cell]]
    assert finder(cell).find(place._replace(tuning="frozen")) is None
    assert finder(cell).find(place._replace(downstream="published")) is None


def test_folds_count_only_together():
    place = Place("er", "wavlm_base", "hconv")
    folds = [(f"er_fold{fold}", "wavlm_base", "hconv") for fold in range(1, 6)]
    assert finder(*folds).find(place) == [[fold] for fold in folds]
    assert finder(*folds[:4]).find(place) is None


def test_languages_count_once_however_many_sets_they_have():
    sets = [name for group in paper.names()["groups"]["languages"] for name in group]
    assert len(sets) == 13
    cells = [(f"{name}_1h", "hubert_base", "hconv") for name in sets]
    groups = finder(*cells).find(Place("mono_1h", "hubert_base", "hconv"))
    assert [len(group) for group in groups] == [3, 2, 2, 1, 1, 1, 1, 1, 1]
    rows = [
        dict(zip(("task", "upstream", "interface"), cell, strict=True))
        | {"seed": seed, "test": (60 if cell[0].startswith("eng") else 30) + seed}
        | {"metric": "cer", "higher_is_better": False}
        for cell in cells
        for seed in (0, 1)
    ]
    frame = pd.DataFrame(rows)
    values = paper.nested(groups, frame)
    assert values.to_dict() == pytest.approx({0: (60 + 8 * 30) / 9, 1: (60 + 8 * 30) / 9 + 1})
    fewer = frame[~((frame["task"] == "xty_1h") & (frame["seed"] == 1))]
    assert list(paper.nested(groups, fewer).index) == [0]
    frame.loc[frame["task"] == "rus_1h", "higher_is_better"] = True
    with pytest.raises(StudyError, match=r"differ in direction: .*rus_1h cer"):
        paper.nested(groups, frame)


def test_stand_ins_serve_claims_and_never_tables():
    cell = ("pr", "hubert-mini-13", "hconv")
    place = Place("pr", "hubert_base", "hconv")
    assert finder(cell).find(place) is None
    assert finder(cell, stand_ins=True).find(place) == [[cell]]
    assert paper.held([cell]) == []
    assert paper.held([("pr", "hubert_base", "hconv")]) == ["table2"]
