"""Figures and summaries of a study with averages: each in place of its tasks."""

import re

import pandas as pd
import pytest
from figure_texts import overlapping, texts
from typer.testing import CliRunner

from analysis import captions, figures
from analysis.__main__ import app
from analysis.averages import average
from analysis.evidence import Evidence
from analysis.folding import fold
from analysis.resampling import nested_draws
from analysis.tables import checked, load
from ssl_bench.errors import StudyError

SETS = ("eng1", "eng2", "eng3", "fra1", "fra2", "deu1", "deu2", "rus", "swa", "jpn")
FOLDS = [f"er_fold{n}" for n in range(1, 6)]
NAMES = {  # task of the fake study → those of the paper's that look like it
    "pr": ["pr", *(f"mono_10min_{name}" for name in SETS)],
    "pr_relu": [f"mono_1h_{name}" for name in SETS],
    "asr": [f"mono_1h_{name}_large" for name in SETS],
    "ks": ["ic", "lid_1h"],
    "er": FOLDS,
    "sv": ["sv", "multi_1h"],
}
ENCODERS = {
    "embedded_13": ["hubert_base", "hubert_base_ft", "wavlm_base"],
    "embedded_25": ["hubert_large", "wavlm_large", "xlsr_53"],
}
EVERYWHERE = ("weighted_sum", "hconv", "cls_pooling", "weighted_sum_mlp")


def languages(name: str) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for part in SETS:
        groups.setdefault(part[:3], []).append(name.format(part))
    return groups


AVERAGES = {
    "er": {fold: [fold] for fold in FOLDS},
    "mono_10min": languages("mono_10min_{}"),
    "mono_1h": languages("mono_1h_{}"),
    "mono_1h_large": languages("mono_1h_{}_large"),
}


def renamed(frame: pd.DataFrame) -> pd.DataFrame:
    """Copy the rows of every task and upstream under the paper's names; the paper's cells alone."""
    for column, names in (("task", NAMES), ("upstream", ENCODERS)):
        if column in frame:
            copies = frame[column].astype(str).map(names)
            frame = frame.assign(**{column: copies}).explode(column, ignore_index=True)
    if "task" not in frame:
        return frame
    mono = frame["task"].str.startswith("mono")
    base = frame["upstream"] == "hubert_base"
    kept = frame["interface"].isin(EVERYWHERE) | (base & mono)
    kept &= ~frame["task"].str.endswith("_large") | (frame["interface"] == "weighted_sum")
    kept &= ~frame["task"].str.startswith("mono_10min") | base
    kept &= (frame["upstream"] != "hubert_base_ft") | frame["task"].str.startswith("mono_1h")
    return frame[kept].reset_index(drop=True)


def shifted(frame: pd.DataFrame) -> pd.DataFrame:
    """Tell tasks apart: some points more or less, the same for dev and test."""
    points = frame["task"].map(lambda name: sum(map(ord, name)) % 7 / 2)
    return frame.assign(dev=frame["dev"] + points, test=frame["test"] + points)


@pytest.fixture(scope="module")
def frames(fake):
    """A study of the paper's size: 40 tasks, 6 upstreams, 9 interfaces, with real layer counts."""
    made = fake(tasks=tuple(NAMES), upstreams=tuple(ENCODERS), size=20, speakers=5, extras=True)
    found = {name: renamed(frame) for name, frame in made.items() if name != "scores"}
    found["results"] = shifted(found["results"])
    return found | {"averages": average(found["results"], AVERAGES)}


@pytest.fixture(scope="module")
def folded(frames):
    return fold(checked(frames))


def test_averages_stand_in_place_of_their_tasks(frames, folded):
    assert len(checked(frames).tasks) == 40
    assert folded.tasks == [
        "pr", "mono_10min", "mono_1h", "mono_1h_large", "multi_1h", "lid_1h", "ic", "er", "sv"
    ]  # fmt: skip
    for name in ("sweep", "layer_profile", "history"):
        assert set(getattr(folded, name)["task"]) == set(folded.tasks)


def test_values_are_those_of_the_table(frames, folded):
    key = ["task", "upstream", "interface", "seed"]
    wanted = frames["averages"].set_index(key)[["dev", "test"]]
    found = folded.results.set_index(key).loc[wanted.index, ["dev", "test"]]
    pd.testing.assert_frame_equal(found, wanted, check_dtype=False)
    of_er = folded.results["task"] == "er"
    assert set(folded.results.loc[of_er, "n_test"]) == {5 * 20}
    assert set(folded.results.loc[~of_er, "task"]) & set(FOLDS) == set()


def test_a_task_in_no_average_is_untouched(frames, folded):
    for name in ("results", "sweep", "layer_profile", "history"):
        before, after = frames[name], getattr(folded, name)
        columns = [column for column in before if column in after]
        before, after = (f.loc[f["task"] == "sv", columns].reset_index(drop=True)
                         for f in (before, after))  # fmt: skip
        pd.testing.assert_frame_equal(before, after, check_dtype=False)


def test_a_run_that_one_task_lacks_has_no_average(frames):
    results = frames["results"]
    lacking = results[(results["task"] != FOLDS[0]) | (results["upstream"] != "xlsr_53")]
    averages = average(lacking, AVERAGES)
    found = fold(checked({"results": lacking, "averages": averages})).results
    assert not found["task"].isin(FOLDS).any()
    assert "xlsr_53" not in set(found.loc[found["task"] == "er", "upstream"])
    assert "xlsr_53" in set(found.loc[found["task"] == "mono_1h", "upstream"])


def test_a_study_without_averages_is_the_same(small):
    assert fold(small) is small


def tiny(**columns: object) -> dict[str, pd.DataFrame]:
    """Three tasks, two of one group, by one interface; test is 10, 20 and 60."""
    rows = [
        {"study": "s", "task": task, "upstream": "mini", "interface": "hconv", "layer": None,
         "seed": 0, "learning_rate": 0.1, "metric": metric, "higher_is_better": False,
         "dev": test / 2, "test": test, "n_test": 5, "interface_parameters": 7, **columns}
        for task, test, metric in (("a1", 10, "cer"), ("a2", 20, "cer"), ("b", 60, "per"))
    ]  # fmt: skip
    results = pd.DataFrame(rows)
    return {
        "results": results,
        "averages": average(
            results.astype({"layer": "Int64"}), {"all": {"a": ["a1", "a2"], "b": ["b"]}}
        ),
    }


CELL = {"upstream": "mini", "interface": "hconv", "seed": 0}


def test_the_mean_is_that_over_groups_in_every_table():
    frames = tiny()
    frames["layer_profile"] = pd.DataFrame(
        {"task": task, **CELL, "layer": layer, "share": share, "kind": "attention"}
        for task, first in (("a1", 0.2), ("a2", 0.4), ("b", 0.7))
        for layer, share in enumerate((first, 1 - first))
    )
    frames["history"] = pd.DataFrame(
        {"task": task, **CELL, "layer": None, "step": step, "train_loss": 1.0, "dev": dev + step}
        for task, dev in (("a1", 10), ("a2", 20), ("b", 60))
        for step in ((1, 2) if task == "b" else (1, 2, 3))
    )
    frames["sweep"] = pd.DataFrame(
        {"task": task, **CELL, "layer": None, "learning_rate": rate, "chosen": rate == best,
         "dev": None if (task, rate) == ("b", 0.2) else 8.0}
        for task, best in (("a1", 0.1), ("a2", 0.2), ("b", 0.1))
        for rate in (0.1, 0.2)
    )  # fmt: skip
    found = fold(checked(frames))
    assert found.results[["task", "test", "dev"]].to_numpy().tolist() == [["all", 37.5, 18.75]]
    assert found.metric("all") == ("cer/per", False)
    assert found.results["n_test"].tolist() == [15]
    assert found.layer_profile["share"].tolist() == pytest.approx([0.5, 0.5])
    history = found.history.set_index("step")["dev"]
    assert history.to_dict() == {1: 38.5, 2: 39.5}  # no task b at step 3
    sweep = found.sweep.set_index("learning_rate")
    assert sweep["chosen"].to_dict() == {0.1: 0.75, 0.2: 0.25}
    assert sweep.loc[0.1, "dev"] == 8
    assert pd.isna(sweep.loc[0.2, "dev"])  # task b diverged


def test_probes_are_averaged_layer_by_layer_and_the_best_task_by_task():
    frames = tiny()
    layered = [frames["results"].assign(layer=layer, interface="single_layer") for layer in (0, 1)]
    layered[1].loc[0, ["dev", "test"]] = [1, 2]  # the best layer of a1 is 1
    layered[1].loc[1:, "dev"] += 100  # of the others 0
    frames["results"] = pd.concat([frames["results"], *layered], ignore_index=True)
    frames["averages"] = average(
        frames["results"].astype({"layer": "Int64"}), {"all": {"a": ["a1", "a2"], "b": ["b"]}}
    )
    found = fold(checked(frames))
    by_layer = found.probes.set_index("layer")["test"]
    assert by_layer.to_dict() == {0: 37.5, 1: 35.5}
    best = found.cells.query("interface == 'single_layer'")
    assert best["test"].tolist() == [35.5]
    assert best["layer"].isna().all()


def test_draws_of_an_average_are_the_mean_of_its_tasks(small_frames):
    results = small_frames["results"]
    averages = average(results.astype({"layer": "Int64"}), {"acc": {"ks": ["ks"], "er": ["er"]}})
    tables = checked({**small_frames, "averages": averages})
    evidence = Evidence(tables, 200)
    found = evidence.draws("acc", "embedded_13", "hconv")
    tasks = [[evidence.draws(task, "embedded_13", "hconv")] for task in ("ks", "er")]
    assert (found.resampled == nested_draws(tasks).resampled).all()
    wanted = averages.query("interface == 'hconv'")["test"]
    assert found.value.tolist() == pytest.approx(wanted.tolist())
    assert evidence.draws("acc", "embedded_13", "absent") is None


@pytest.mark.parametrize("name", figures.FIGURES)
def test_figures_of_the_papers_size(folded, name):
    figure = figures.draw(name, folded)
    absent = any("study key" in text for text in texts(figure))
    assert absent == (name == "layer_probes")
    assert overlapping(figure) == []
    width, height = figure.get_size_inches()
    assert width <= 9.5
    assert height <= 12
    assert not [text for text in texts(figure) if re.search("eng1|fold", text, re.IGNORECASE)]


def test_figures_leave_out_tasks_without_a_second_interface(folded):
    for name in ("table1_heatmap", "table2_heatmap", "interface_comparison"):
        assert not [text for text in texts(figures.draw(name, folded)) if "large head" in text]
    assert "Mono-1hr, large head" in texts(figures.draw("learning_curves", folded))


def test_captions_say_over_how_many_tasks(folded):
    means = "Means over tasks: Mono-10min (10 in 6 groups); Mono-1hr (10 in 6 groups); " \
        "Mono-1hr, large head (10 in 6 groups); ER (5)."  # fmt: skip
    for name in figures.FIGURES:
        expected = name not in ("layer_probes", "layer_similarity")
        assert (means in captions.caption(name, folded)) == expected


def test_command_line_folds_the_main_comparison_alone(small_frames, write, tmp_path):
    tables = tmp_path / "tables"
    averages = average(
        small_frames["results"].astype({"layer": "Int64"}), {"acc": {"ks": ["ks"], "er": ["er"]}}
    )
    write({**small_frames, "averages": averages}, tables)
    options = ["--tables", str(tables), "--out", str(tables), "--resamples", "100"]
    done = CliRunner().invoke(app, ["tables", *options])
    assert done.exit_code == 0, done.output
    heads = {
        name: (tables / name).read_text().splitlines()[0]
        for name in ("comparison.md", "comparison_main.md")
    }
    assert "KS (acc. ↑)" in heads["comparison.md"]
    assert "Acc" not in heads["comparison.md"]
    assert "KS" not in heads["comparison_main.md"]
    assert "ACC (acc. ↑)" in heads["comparison_main.md"]
    main = (tables / "comparison_main.md").read_text()
    mean = averages.query("interface == 'hconv'")["test"].mean()
    assert f"{mean:.2f}" in main
    assert "†" in main.split("\n\n")[0]
    assert "Means over tasks: ACC (2)." in main
    assert set(pd.read_csv(tables / "comparison.csv")["task"]) == {"pr", "ks", "er", "sv"}


def test_an_average_of_an_unknown_task_is_one_line(small_frames, write, tmp_path):
    averages = average(
        small_frames["results"].astype({"layer": "Int64"}), {"acc": {"ks": ["ks"], "er": ["er"]}}
    )
    write({**small_frames, "averages": averages.assign(tasks="ks; err")}, tmp_path)
    with pytest.raises(StudyError, match=r"averages\.csv: task 'err' is not in results\.csv"):
        load(tmp_path)
