"""The paper's seven claims: on its own numbers, and on studies whose effects are known."""

import numpy as np
import pandas as pd
import pytest

from analysis import paper, paper_verdicts
from analysis.evidence import Evidence
from analysis.paper import Place
from analysis.paper_claims import CLAIMS, partial_conjunction
from analysis.paper_gains import Own, Printed, difference, gain, mean
from analysis.paper_verdicts import FAILS, HOLDS, OPEN, UNTESTED, together
from analysis.resampling import Draws, estimate, nested_draws
from analysis.tables import checked

PARTS = [part for _, parts in CLAIMS.values() for part in parts]


def named(frames, **names):
    """Rename tasks, upstreams and interfaces in every table."""
    out = {}
    for table, frame in frames.items():
        frame = frame.copy()
        for column in ("task", "upstream", "interface"):
            if column in frame:
                frame[column] = frame[column].replace(names.get(column, {}))
        out[table] = frame
    return out


def joined(*several):
    return {
        name: pd.concat([frames[name] for frames in several], ignore_index=True)
        for name in ("results", "scores")
    }


def verdicts(frames, resamples=300):
    tables = checked({name: frames[name] for name in ("results", "scores") if name in frames})
    return paper_verdicts.claims(Evidence(tables, resamples)).set_index("part")


PAPER = {"embedded_13": "hubert_base", "embedded_25": "hubert_large"}
PAIR = ("weighted_sum", "hconv")


@pytest.fixture(scope="module")
def two_sizes(fake):
    return fake(tasks=("pr", "ks", "sv"), upstreams=tuple(PAPER), interfaces=PAIR, seeds=3)


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_the_published_numbers_say_what_the_paper_claims(part):
    found = part.find(Printed())
    assert found.agrees
    assert np.isnan(found.p)


def test_published_estimates_by_hand():
    values = {part.name: part.find(Printed()).value for part in PARTS}
    assert values["7"] == pytest.approx(100 * (3.53 - 3.07) / 3.53)
    assert values["6a"] == pytest.approx(100 * (31.5 - 31.1) / 31.5)
    assert values["2a"] == pytest.approx(100 * (42.85 - 48.36) / 42.85)
    large = [(35.2, 33.88), (32.9, 30.0), (34.4, 32.4), (30.5, 28.0), (35.4, 30.6)]
    assert values["5"] == pytest.approx(np.mean([100 * (a - b) / a for a, b in large]))
    sv = [(5.11, 5.62), (5.98, 6.03), (4.69, 5.48), (3.77, 5.20)]
    assert values["4a"] == pytest.approx(np.mean([100 * (a - b) / a for a, b in sv]))


def test_a_smaller_encoder_with_hconv(two_sizes):
    table = verdicts(named(two_sizes, upstream=PAPER))
    assert table.loc["7", "verdict"] == HOLDS
    assert table.loc["7", "estimate"] == pytest.approx(25, abs=8)
    assert table.loc["7", "low"] < table.loc["7", "estimate"] < table.loc["7", "high"]
    assert table.loc["7", "n_cells"] == 2
    swapped = {"weighted_sum": "hconv", "hconv": "weighted_sum"}
    linear = {n: two_sizes[n][two_sizes[n]["task"] == "pr"] for n in ("results", "scores")}
    table = verdicts(named(linear, upstream=PAPER, interface=swapped))
    assert table.loc["7", "verdict"] == FAILS
    assert table.loc["1a", "verdict"] == FAILS
    assert table.loc["1b", "verdict"] == FAILS


def test_parts_on_depth_and_verification(two_sizes):
    table = verdicts(named(two_sizes, upstream=PAPER))
    assert table.loc["1a", "verdict"] == HOLDS
    assert table.loc["1b", "verdict"] == HOLDS
    assert "3 of 3 tasks" in table.loc["1a", "note"]
    assert table.loc["3", "verdict"] == OPEN
    assert table.loc["3", "n_cells"] == 3 * 2 * 2
    assert table.loc["4a", "verdict"] == FAILS  # HConv was made better on SV too
    assert table.loc["4a", "claim_verdict"] == FAILS
    assert table.loc["5", "verdict"] == UNTESTED
    assert "lacks the cells" in table.loc["5", "note"]


def test_cls_pooling_with_little_and_with_more_data(fake):
    interfaces = ("weighted_sum", "cls_pooling", "pca_concat")
    made = fake(tasks=("pr",), interfaces=interfaces, seeds=3, size=200)
    short = named(
        made,
        task={"pr": "mono_10min"},
        interface={"pca_concat": "cls_pooling", "cls_pooling": "concat"},
    )
    long = named(made, task={"pr": "mono_1h"})
    table = verdicts(named(joined(short, long), upstream=PAPER))
    assert list(table.loc[["2a", "2b", "2c"], "verdict"]) == [HOLDS] * 3
    assert table.loc["2a", "claim_verdict"] == HOLDS
    assert table.loc["2a", "estimate"] == pytest.approx(-22, abs=8)
    both = joined(named(made, task={"pr": "mono_10min"}), long)
    table = verdicts(named(both, upstream=PAPER))
    assert list(table.loc[["2a", "2b"], "verdict"]) == [FAILS, HOLDS]
    assert table.loc["2c", "verdict"] == UNTESTED or table.loc["2c", "estimate"] == 0


def test_enlarged_downstream_and_fine_tuning(fake):
    made = fake(tasks=("pr",), interfaces=(*PAIR, "grouped_3"), seeds=5, size=400)
    made = named(made, task={"pr": "mono_1h"}, upstream=PAPER)

    def only(frames, *kept):
        return {n: f[f["interface"].isin(kept)] for n, f in frames.items() if n in joined(made)}

    large = named(
        only(made, "grouped_3"),
        task={"mono_1h": "mono_1h_large"},
        interface={"grouped_3": "weighted_sum"},
    )
    tuned = only(made, "hconv", "grouped_3")
    tuned = named(
        tuned, upstream={"hubert_base": "hubert_base_ft"}, interface={"grouped_3": "weighted_sum"}
    )
    table = verdicts(joined(only(made, *PAIR), large, tuned))
    assert list(table.loc[["5", "6a", "6b"], "verdict"]) == [HOLDS] * 3
    assert table.loc["5", "estimate"] == pytest.approx(100 * (0.92 - 0.75) / 0.92, abs=6)
    assert table.loc["1a", "n_cells"] == 2  # neither counts as a task or an encoder of its own


def test_folds_are_one_cell(fake):
    folds = [
        named(
            fake(tasks=("er",), interfaces=PAIR, seeds=2, size=60, seed=fold),
            task={"er": f"er_fold{fold}"},
            upstream=PAPER,
        )
        for fold in range(1, 6)
    ]
    tables = checked(joined(*folds))
    own = Own(Evidence(tables, 100))
    assert own.tasks == ["er"]
    draws = own.draws(Place("er", "hubert_base", "hconv"))
    rows = tables.results[tables.results["interface"] == "hconv"]
    by_hand = rows.groupby("seed")["test"].mean()
    assert draws.value == pytest.approx(by_hand.to_numpy())
    assert draws.speakers == 1 + 5 * 19


def test_stand_ins_are_named(two_sizes):
    mini = {"embedded_13": "hubert-mini-13", "embedded_25": "hubert-mini-25"}
    table = verdicts(named(two_sizes, upstream=mini))
    assert table.loc["7", "verdict"] == HOLDS
    assert "HuBERT mini, 13 states for HuBERT Base" in table.loc["7", "note"]
    assert (
        paper.held(map(tuple, named(two_sizes, upstream=mini)["results"].iloc[:, 1:4].to_numpy()))
        == []
    )


def test_without_scores_nothing_is_tested(two_sizes):
    table = verdicts({"results": named(two_sizes, upstream=PAPER)["results"]})
    assert set(table["verdict"]) == {UNTESTED}
    assert "scores.parquet" in table.loc["7", "note"]


def test_files(two_sizes, tmp_path):
    tables = checked(named(two_sizes, upstream=PAPER))
    table = paper_verdicts.claims(Evidence(tables, 100))
    paper_verdicts.write(table, tmp_path, "A caption.")
    back = pd.read_csv(tmp_path / "paper_claims.csv")
    assert list(back) == list(paper_verdicts.COLUMNS)
    assert list(back["claim"].unique()) == [1, 2, 3, 4, 5, 6, 7]
    text = (tmp_path / "paper_claims.md").read_text()
    assert "**7. HuBERT Base with HConv beats HuBERT Large with the weighted sum on PR**" in text
    assert text.endswith("A caption.\n")


def test_gains_add_up(two_sizes):
    own = Own(Evidence(checked(named(two_sizes, upstream=PAPER)), 200))
    cells = [Place("pr", up, i) for up in ("hubert_base", "hubert_large") for i in PAIR]
    base, large = gain(own, cells[1], cells[0]), gain(own, cells[3], cells[2])
    both = mean([base, None, large])
    assert both.test().value == pytest.approx((base.test().value + large.test().value) / 2)
    nothing = difference(base, base)
    assert set(nothing.by_seed.values()) == {0.0}
    assert mean([None]) is None
    assert difference(base, None) is None
    moved = base.test(5.0)
    assert moved.value == pytest.approx(base.test().value)
    shifted = estimate(np.array(list(base.by_seed.values())) - 5, base.resampled - 5, base.speakers)
    assert moved.p == pytest.approx(shifted.p)


def test_an_average_needs_common_seeds():
    def drawn(seeds):
        count = len(seeds)
        return Draws(np.arange(count) + 1.0, np.ones((4, count)), seeds, 3, 10, 0)

    assert nested_draws([[drawn((0, 1))], [drawn((2, 3))]]) is None
    joint = nested_draws([[drawn((0, 1, 2)), drawn((1, 2))], [drawn((1, 2, 3))]])
    assert joint.seeds == (1, 2)
    assert joint.value == pytest.approx([((2 + 1) / 2 + 1) / 2, ((3 + 2) / 2 + 2) / 2])
    assert joint.resampled.shape == (4, 2)
    assert joint.speakers == 7


@pytest.mark.parametrize(
    ("p", "expected"),
    [([0.01], 0.01), ([0.01, 0.2], 0.2), ([0.2, 0.001, 0.01], 0.02), ([0.9, 0.9, 0.9], 1.0)],
)
def test_more_than_half(p, expected):
    assert partial_conjunction(p) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("parts", "whole"),
    [
        ([HOLDS, HOLDS], HOLDS),
        ([HOLDS, OPEN], OPEN),
        ([HOLDS, UNTESTED], UNTESTED),
        ([OPEN, UNTESTED, FAILS], FAILS),
    ],
)
def test_a_claim_is_as_good_as_its_parts(parts, whole):
    assert together(parts) == whole
