"""Steps that were not measured: the answers here are worked out by hand."""

import pytest

from ssl_bench.planning import estimate, show, throughput, work
from ssl_bench.study import load

STEP = {
    "stage": "step",
    "hardware": "a GPU",
    "layers": "13",
    "dim": "768",
    "runs": "1",
    "batch_seconds": "100",
    "unit": "ms",
    "source": "made up",
}


def table(steps, **changed):
    return [
        {**STEP, "task": task, "interface": interface, "value": str(value), **changed}
        for (task, interface), value in steps.items()
    ]


PR = {("pr", "weighted_sum"): 4, ("pr", "hconv"): 6, ("pr", "concat"): 3, ("pr", "last"): 2}
ASR = {("mono_asr", "weighted_sum"): 10, ("mono_asr", "hconv"): 20}
"""Three times phone recognition's, over the two: 30 / 10."""


def milliseconds(steps, task, interface, **changed):
    return [
        float(line["value"]) for line in estimate.lines(table(steps, **changed), task, interface)
    ]


def test_an_interface_costs_what_it_does_on_phones_times_the_tasks_own_share():
    assert milliseconds(PR | ASR, "mono_asr", "concat") == [9.0]
    assert milliseconds(PR | ASR, "mono_asr", "last") == [6.0]


def test_what_was_measured_is_kept():
    assert milliseconds(PR | ASR, "mono_asr", "hconv") == [20.0]


@pytest.mark.parametrize(("interface", "value"), [("weighted_sum", 10), ("concat", 9)])
def test_tasks_of_the_same_head_lend_their_steps(interface, value):
    for task in ("multi_asr", "multi_lid"):
        assert milliseconds(PR | ASR, task, interface) == [value]
    own = {("multi_asr", "weighted_sum"): 8}
    assert milliseconds(PR | ASR | own, "multi_asr", "concat") == [6.0]


def test_pca_counts_as_concatenation_until_it_is_measured():
    assert milliseconds(PR | ASR, "mono_asr", "pca_concat") == [9.0]
    assert milliseconds(PR | ASR | {("pr", "pca_concat"): 1}, "mono_asr", "pca_concat") == [3.0]


def test_there_is_no_estimate_without_something_to_compare():
    assert not milliseconds(PR | ASR, "mono_asr", "cls_pooling")  # not timed on phones
    assert not milliseconds(PR | ASR, "sv", "concat")  # no step of the task
    assert not milliseconds(ASR, "mono_asr", "concat")  # no phones at all
    without = {k: v for k, v in (PR | ASR).items() if k != ("mono_asr", "weighted_sum")}
    assert not milliseconds(without, "mono_asr", "concat")
    assert not milliseconds(PR | ASR, "mono_asr", "concat", runs="5")


def test_audio_a_step_is_not_mixed():
    lines = table(PR | ASR) + table({("mono_asr", "last"): 99}, batch_seconds="50")
    assert [line["batch_seconds"] for line in estimate.lines(lines, "mono_asr", "concat")] == [
        "100"
    ]


@pytest.fixture
def plan(repository, monkeypatch):
    """The paper's study of which nothing was run."""
    monkeypatch.chdir(repository)
    return work.make(load("config/paper.yaml").model_copy(update={"name": "never-run"}))


def test_estimated_hours_stand_apart(plan, monkeypatch, capsys):
    lines = table(PR | ASR)
    monkeypatch.setattr(throughput, "rows", lambda name: lines)
    (found,) = throughput.estimates(plan)
    first = {cell.cell.task: cell for cell in plan.cells}

    def hours(task, value, runs):
        """Return the hours of every run of the task, steps of ``value`` ms at 100 s of audio."""
        return runs * value * max(1.0, throughput._batch_seconds(plan, first[task]) / 100) / 3.6e6

    # Measured: PR on two upstreams of this size, and monolingual ASR: HuBERT Base's of 10 minutes
    # and both Base upstreams' of one hour, of which the weighted sum with a larger head, too.
    mono = 13 * (3 * 3_750 + 375)
    measured = (
        hours("pr", 2 * (4 + 6), 3 * 100_000 + 7 * 10_000)
        + hours("mono_10min_eng1", 10 + 20, mono)
        + hours("mono_1h_eng1", 2 * (10 + 20) + 2 * 10, mono)
    )
    assert found.training == pytest.approx(measured)
    # Not measured: concat and PCA of HuBERT Base on monolingual ASR, 9 ms each, and two interfaces
    # of both multilingual tasks on both upstreams.
    guessed = (
        hours("mono_10min_eng1", 9 + 9, mono)
        + hours("mono_1h_eng1", 9 + 9, mono)
        + 2 * hours("multi_1h", 2 * (10 + 20), 3 * 150_000 + 15_000)
    )
    assert found.estimated == pytest.approx(guessed)
    assert found.estimated_cells == 13 * 2 * 2 + 2 * 2 * 2
    left = throughput.frozen_and_uncounted(plan)
    assert sum(left.values()) == 694 - found.cells - found.estimated_cells
    show.show(plan)
    text = capsys.readouterr().out
    assert f"≈ {found.estimated:,.2f} h  {found.estimated_cells} of 733" in text
    assert "timed nowhere" in text


def test_fine_tuning_is_not_estimated(plan, monkeypatch):
    lines = table(PR | ASR)
    monkeypatch.setattr(throughput, "rows", lambda name: lines)
    assert throughput.tuned_and_unmeasured(plan) == 39


def test_the_page_on_the_paper_says_what_its_plan_says(plan, repository):
    page = " ".join((repository / "docs" / "paper.md").read_text(encoding="utf-8").split())
    found = next(one for one in throughput.estimates(plan) if one.hardware == "NVIDIA H200")
    assert f"{found.training:.0f} h of training for {found.cells} of the 733 cells" in page
    assert (
        f"{found.estimated:.0f} h by estimated steps for the other {found.estimated_cells}" in page
    )
    assert f"{found.encoding:.0f} h of encoding" in page
    assert not throughput.frozen_and_uncounted(plan)
