"""The page on the paper says how well estimated steps agree with measured ones."""

import importlib

import pytest

from ssl_bench.planning import estimate


@pytest.fixture(scope="module")
def estimates():
    return importlib.import_module("estimates")


def test_a_step_is_left_out_before_it_is_estimated(estimates, monkeypatch):
    line = {"stage": "step", "hardware": "a GPU", "layers": "2", "dim": "4", "batch_seconds": "8"}
    steps = {("pr", "weighted_sum"): 2, ("pr", "hconv"): 4, ("er", "weighted_sum"): 3}
    steps["er", "hconv"] = 8
    lines = [
        {**line, "runs": "1", "task": task, "interface": interface, "value": str(value)}
        for (task, interface), value in steps.items()
    ]
    stacked = {**line, "runs": "5", "task": "er", "interface": "hconv", "value": "12"}
    monkeypatch.setattr(estimates, "rows", lambda name: [*lines, stacked])
    made = {one.interface: one.values for one in estimates.left_out()}
    # 4 · 3 / 2 = 6 for 8; three runs took 12 together and seven 24, for 18 and 42.
    assert made["hconv"] == pytest.approx([6 / 8, 18 / 12, 42 / 24])
    assert made["weighted_sum"][0] == pytest.approx(2 * 8 / 4 / 3)


def test_the_page_on_the_paper_has_the_summary(estimates, repository):
    page = " ".join((repository / "docs" / "paper.md").read_text(encoding="utf-8").split())
    every = estimates.left_out()
    count, middle, least, most = estimates.summary(
        [one for one in every if one.interface != estimate.PLAIN]
    )
    assert f"{count} steps: median {middle:.2f}, from {least:.2f} to {most:.2f}" in page
    plain = estimates.summary([one for one in every if one.interface == estimate.PLAIN])
    assert f"up to {plain[3]:.1f} times" in page
    for made in (estimates.lent(), estimates.nearest()):
        count, middle, least, most = estimates.summary(made)
        assert f"{count} steps: median {middle:.2f}, from {least:.2f} to {most:.2f}" in page


def test_the_page_on_the_paper_has_every_ratio(estimates, repository):
    page = (repository / "docs" / "paper.md").read_text(encoding="utf-8")
    cells: dict[str, dict[str, float]] = {}
    for one in estimates.left_out():
        if one.interface != estimate.PLAIN:
            cells.setdefault(f"{one.size}, {one.interface}", {})[one.task] = one.values[0]
    tasks = ("er", "ic", "sv", "mono_asr", "multi_asr", "multi_lid")
    for name, ratios in cells.items():
        row = [f"{ratios[task]:.2f}" if task in ratios else "" for task in tasks]
        assert " ".join(f"| {name} | {' | '.join(row)} |".split()) in " ".join(page.split())
