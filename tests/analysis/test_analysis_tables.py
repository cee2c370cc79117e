"""Loading, checking, the comparison table and the claims."""

import numpy as np
import pandas as pd
import pytest

from analysis import captions, claims, comparison, style
from analysis.evidence import Evidence
from analysis.statistics import holm, mean_interval
from analysis.tables import checked, load
from ssl_bench.errors import StudyError


def test_written_tables_are_read_back(small, small_folder):
    again = load(small_folder)
    pd.testing.assert_frame_equal(again.results, small.results, check_dtype=False)
    assert len(again.scores) == len(small.scores)
    assert again.sweep is None
    assert again.similarity is None
    assert again.study == "fake"
    assert again.tasks == ["pr", "ks", "er", "sv"]
    assert again.interfaces[0] == "weighted_sum"


def test_missing_folder_is_one_line(tmp_path):
    with pytest.raises(StudyError, match=r"results\.csv: no such table"):
        load(tmp_path)


def test_header_only_tables_are_absent(small_folder, tmp_path):
    for path in small_folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    header = "upstream,corpus,measure,layer_a,layer_b,value\n"
    (tmp_path / "similarity.csv").write_text(header)
    (tmp_path / "sweep.csv").write_text("")
    tables = load(tmp_path)
    assert tables.similarity is None
    assert tables.sweep is None


def broken(frames, **change):
    results = frames["results"].copy()
    for column, values in change.items():
        results[column] = values
    return {**frames, "results": results}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda f: {**f, "results": f["results"].drop(columns="dev")},
            "no column 'dev'; did you mean 'n_dev'",
        ),
        (lambda f: {**f, "results": f["results"].iloc[:0]}, "has no rows"),
        (
            lambda f: {**f, "results": pd.concat([f["results"], f["results"].iloc[:1]])},
            "twice the same cell and seed, expected once: task pr",
        ),
        (lambda f: broken(f, test="fast"), "test: expected numbers, found 'fast'"),
        (lambda f: broken(f, test=np.nan), "line 2: test is empty"),
        (lambda f: broken(f, dev=np.nan), "line 2: dev is empty"),
        (lambda f: broken(f, test=-1.0), "test: expected percent, found -1.0"),
        (lambda f: broken(f, higher_is_better="up"), "expected true or false, found 'up'"),
        (
            lambda f: broken(f, metric=["per"] + ["wer"] * (len(f["results"]) - 1)),
            "task 'pr' has several values of metric, expected one",
        ),
        (
            lambda f: {**f, "history": f["history"].assign(task="prr")},
            "task 'prr' is not in results.csv; did you mean 'pr'",
        ),
        (lambda f: {**f, "weights": f["results"]}, "unknown table 'weights'"),
    ],
)
def test_bad_tables_are_refused(small_frames, change, message):
    with pytest.raises(StudyError, match=message) as error:
        checked(change(small_frames))
    assert "\n" not in str(error.value)


def test_best_layer_is_chosen_on_dev_not_on_test(fake):
    frames = fake(tasks=("pr", "ks"), interfaces=("weighted_sum",), probes=True, size=40)
    results = frames["results"]
    single = results["interface"] == "single_layer"
    results.loc[single, "dev"] = np.where(results.loc[single, "task"] == "pr", 50.0, 10.0)
    results.loc[single & (results["layer"] == 4), "dev"] = 30.0
    results.loc[single & (results["layer"] == 9), "test"] = np.where(
        results.loc[single & (results["layer"] == 9), "task"] == "pr", 0.0, 100.0
    )
    cells = checked(frames).cells
    kept = cells[cells["interface"] == "single_layer"]
    assert set(kept["layer"]) == {4}
    assert len(kept) == 2 * 2


def test_improvement_is_up_for_every_metric(small):
    mean = small.errors.pivot_table(index="task", columns="interface", values="improvement")
    assert mean["weighted_sum"].to_numpy() == pytest.approx(0, abs=1e-9)
    assert (mean["hconv"] > 5).all()
    assert (mean["pca_concat"] < -5).all()
    ks = small.results[small.results["task"] == "ks"].groupby("interface")["test"].mean()
    by_hand = 100 * (ks["hconv"] - ks["weighted_sum"]) / (100 - ks["weighted_sum"])
    assert mean.loc["ks", "hconv"] == pytest.approx(by_hand)


def test_direction_is_read_not_guessed(small_frames):
    flipped = small_frames["results"].copy()
    flipped.loc[flipped["task"] == "pr", "higher_is_better"] = True
    table = comparison.compare(checked({"results": flipped}))
    row = table[(table["task"] == "pr") & table["best"]].iloc[0]
    assert row["interface"] == "pca_concat"


def test_comparison_has_means_intervals_and_marks(small):
    table = comparison.compare(small, Evidence(small, 500))
    assert len(table) == 4 * 9
    assert (table.groupby("task")["best"].sum() == 1).all()
    cell = table[(table["task"] == "pr") & (table["interface"] == "concat")].iloc[0]
    values = small.results.query("task == 'pr' and interface == 'concat'")["test"]
    assert cell["mean"] == pytest.approx(values.mean())
    assert cell["half_width"] == pytest.approx(mean_interval(values).half)
    pr = table[table["task"] == "pr"].set_index("interface")
    assert set(pr.index[pr["best"] | pr["not_worse"]]) >= {"hconv", "weighted_sum_mlp"}
    assert not pr.loc["pca_concat", "not_worse"]
    assert not (table["best"] & table["not_worse"]).any()


def test_without_scores_nothing_is_marked(small_frames):
    tables = checked({"results": small_frames["results"]})
    table = comparison.compare(tables)
    assert not table["not_worse"].any()
    assert table["p_holm"].isna().all()
    assert claims.claims(tables).empty
    assert "No claim can be tested" in claims.markdown(claims.claims(tables))


def test_comparison_files(small, tmp_path):
    table = comparison.compare(small, Evidence(small, 200))
    paths = comparison.write(table, tmp_path, "A caption, 95 %.")
    paths += comparison.write_main(table, small, tmp_path, "A caption.")
    assert [path.name for path in paths] == [
        "comparison.csv",
        "comparison.md",
        "comparison.tex",
        "comparison_main.md",
    ]
    text = (tmp_path / "comparison.md").read_text()
    assert "PR (PER ↓)" in text
    assert "KS (acc. ↑)" in text
    assert text.count("**") == 2 * 4
    latex = (tmp_path / "comparison.tex").read_text()
    assert r"\toprule" in latex
    assert latex.count(r"\mathbf") == 4
    assert r"95 \%" in latex
    assert r"Grouped WS \#2" in latex
    bodies = [line for line in latex.splitlines() if line.endswith(r"\\")]
    assert {line.count("&") for line in bodies} == {1 + 4}
    back = pd.read_csv(tmp_path / "comparison.csv")
    assert back["mean"].to_numpy() == pytest.approx(table["mean"].to_numpy(), rel=1e-5)


def test_one_seed_has_no_plus_minus(fake):
    tables = checked(fake(seeds=1, size=60, tasks=("pr",)))
    text = comparison.markdown(comparison.compare(tables, Evidence(tables, 200)))
    assert "±" not in text
    told = captions.caption("comparison", tables)
    assert "one seed (n = 1 seed a cell)" in told
    assert "interval" not in told
    assert "variance" not in told


def test_scores_that_do_not_fit_the_results_are_refused(small_frames):
    tables = checked(broken(small_frames, test=small_frames["results"]["test"] + 2))
    with pytest.raises(StudyError, match="the scores make"):
        Evidence(tables, 100).draws("pr", "embedded_13", "hconv")


def test_scores_of_other_utterances_are_refused(small_frames):
    scores = small_frames["scores"].copy()
    swap = (scores["seed"] == 1) & (scores["id"] == "u0003") & (scores["task"] == "pr")
    scores.loc[swap, "id"] = "u9999"
    tables = checked({**small_frames, "scores": scores})
    with pytest.raises(
        StudyError, match="expected the same utterances for every seed, found others"
    ):
        Evidence(tables, 100).draws("pr", "embedded_13", "hconv")


def test_claims_find_what_was_put_in(small):
    table = claims.claims(small, Evidence(small, 1000)).set_index(["claim", "task"])
    gain = table.loc[("HConv vs weighted sum", "pr")]
    assert gain["verdict"] == "better"
    assert gain["relative"] == pytest.approx(25, abs=8)
    assert gain["low"] < gain["improvement"] < gain["high"]
    accuracy = table.loc[("HConv vs weighted sum", "ks")]
    assert accuracy["improvement"] > 0
    control = table.loc[("HConv vs weighted sum + MLP", claims.POOLED)]
    assert control["verdict"] == "no difference shown"
    assert table.loc[("Concat + projection vs HConv", "pr"), "verdict"] == "worse"
    assert table.loc[("HConv vs weighted sum", claims.POOLED), "n_cells"] == 4


def test_holm_is_within_a_claim(small):
    table = claims.claims(small, Evidence(small, 300))
    cells = table[table["task"] != claims.POOLED]
    for _, group in cells.groupby("claim"):
        assert group["p_holm"].to_numpy() == pytest.approx(holm(group["p"]))
    pooled = table[table["task"] == claims.POOLED]
    assert pooled["p_holm"].to_numpy() == pytest.approx(holm(pooled["p"]))


def test_relu_head_against_linear_head_and_baselines_stay_out_of_the_pool(fake):
    tables = checked(
        fake(
            tasks=("pr", "pr_relu"),
            upstreams=("untrained", "embedded_13"),
            interfaces=("weighted_sum", "hconv"),
            size=80,
        )
    )
    table = claims.claims(tables, Evidence(tables, 300))
    relu = table[table["claim"] == "PR, ReLU head vs linear head"]
    assert len(relu) == 2 * 2 + 1
    assert relu.iloc[-1]["n_cells"] == 2
    assert relu["relative"].iloc[-1] > 10
    assert relu["verdict"].iloc[-1] == "better"
    assert "interface" in claims.markdown(relu)


def test_the_same_seed_makes_the_same_numbers(small):
    one, two = (claims.claims(small, Evidence(small, 200, seed=3)) for _ in range(2))
    pd.testing.assert_frame_equal(one, two)


def test_names_and_looks():
    assert style.interface_name("my_own") == "My own"
    assert style.task_name("ic_relu") == "IC, ReLU head"
    assert style.is_baseline("untrained_13")
    assert style.ordered(["zz", "hconv", "weighted_sum"], style.INTERFACES) == [
        "weighted_sum",
        "hconv",
        "zz",
    ]
    among = ["embedded_13", "embedded_25", "fbank"]
    looks = [style.upstream_look(name, among) for name in among]
    assert len({look.colour for look in looks}) == 3
    assert len({look.marker for look in looks}) == 3
