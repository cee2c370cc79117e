"""What an interrupted training has cost: all of its starts count, up to their checkpoints."""

import json
import time

import pandas as pd
import pytest
import torch

from analysis.code_versions import mixed
from analysis.collect import collect
from ssl_bench import cells, checkpoints, spending
from ssl_bench.checkpoints import VARIABLE
from ssl_bench.spending import Spending
from ssl_bench.steps import EagerStep
from ssl_bench.study import save

CPU = torch.device("cpu")
STEPS = 4
"""Of the fixture's trainings."""
JOULES = 10.0
"""What the made-up counter counts for a step."""


class Lost(Exception):
    """The node is gone."""


class Board:
    """A counter that all steps of this process move, and a node that may be lost before a step."""

    def __init__(self) -> None:
        self.joules, self.left, self.counts = 0.0, None, True

    def meter(self, device: torch.device) -> "Board.Meter":
        return Board.Meter(self)

    class Meter:
        """What :class:`ssl_bench.energy.Meter` does."""

        def __init__(self, board: "Board") -> None:
            self.board, self.began = board, board.joules

        def joules(self) -> float | None:
            return self.board.joules - self.began if self.board.counts else None


@pytest.fixture
def board(monkeypatch) -> Board:
    made, real = Board(), EagerStep.forward
    monkeypatch.setenv(VARIABLE, "0")
    monkeypatch.setattr(spending, "Meter", made.meter)

    def forward(*own):
        if made.left is not None:
            if made.left == 0:
                raise Lost
            made.left -= 1
        made.joules += JOULES
        time.sleep(0.1)
        return real(*own)

    monkeypatch.setattr(EagerStep, "forward", forward)
    return made


@pytest.fixture
def commits(monkeypatch):
    """Return a function that says under which commit the next start runs."""
    return lambda name: monkeypatch.setattr(spending, "commit", lambda: name)


@pytest.fixture
def interrupted(ready, raw, board, commits):
    """Return a function that trains a cell, losing the node after so many steps of each start."""

    def make(*lived: int, tuned: bool = False, commit: str = "c{}"):
        if tuned:
            raw["upstreams"]["mini"]["fine_tune"] = {"learning_rate": 1e-3}
        study = ready(interfaces=["weighted_sum"], tasks={"ks": raw["tasks"]["ks"]})
        cells.sweep(study, "ks", "mini", "all")
        board.joules = 0.0
        for number, steps in enumerate(lived):
            commits(commit.format(number))
            board.left = steps
            with pytest.raises(Lost):
                cells.run(study, "ks", "mini", "all")
        commits(commit.format(len(lived)))
        board.left = None
        cells.run(study, "ks", "mini", "all")
        return study

    return make


def about(study):
    path = study.pack_dir("ks", "mini", "all") / "weighted_sum" / "metrics.json"
    return json.loads(path.read_text())


def test_a_training_that_was_not_disturbed_has_one_start(interrupted) -> None:
    found = about(interrupted())
    assert (found["starts"], found["energy_joules"]) == (1, STEPS * JOULES)
    assert {run["git_commit"] for run in found["runs"]} == {"c0"}


def test_energy_seconds_memory_and_commits_are_those_of_all_starts(
    interrupted, monkeypatch
) -> None:
    peaks = iter([900 * 2**20, 100 * 2**20])
    monkeypatch.setattr(Spending, "_peak", lambda self: next(peaks, 200 * 2**20))
    found = about(interrupted(1, 2))
    assert (found["starts"], found["energy_joules"]) == (3, STEPS * JOULES)
    assert sum(run["seconds"] for run in found["runs"]) >= 0.1 * STEPS
    for run in found["runs"]:
        assert run["peak_memory_mb"] == 900
        assert run["git_commit"] == "c0 + c1 + c2"


def test_what_came_after_the_last_checkpoint_of_a_start_is_not_known(
    interrupted, monkeypatch
) -> None:
    real = checkpoints.Keeper.save
    monkeypatch.setattr(
        checkpoints.Keeper, "save", lambda self: self._step == 2 or real(self)
    )  # the second step is lost with the node, and done again
    found = about(interrupted(2))
    assert (found["starts"], found["energy_joules"]) == (2, STEPS * JOULES)


def test_groups_of_a_stage_count_once(interrupted) -> None:
    """Fine-tuned seeds are trained one after another, each with a checkpoint of its own."""
    found = about(interrupted(STEPS + 1, 2, tuned=True))
    assert len(found["runs"]) == 2
    assert (found["starts"], found["energy_joules"]) == (3, 2 * STEPS * JOULES)


def test_a_start_without_a_counter_leaves_no_energy(interrupted, board) -> None:
    board.counts = False
    found = about(interrupted(2))
    assert (found["starts"], found["energy_joules"]) == (2, None)


def test_a_cell_of_two_commits_is_flagged(interrupted, capsys) -> None:
    study = interrupted(2)
    save(study)
    capsys.readouterr()
    collect(study.resolved)
    said = capsys.readouterr().err
    line = (
        "Mixed code: the cells were trained by 2 versions of the code: "
        "c0 + c1 of version 0.1.0 (1 cells)."
    )
    assert f"warning: {line}" in said.splitlines()
    origin = json.loads((study.results / "provenance.json").read_text())
    assert origin["resumed"] == {"ks/mini/weighted_sum": 2}


def test_the_same_commit_twice_is_no_mixture(interrupted) -> None:
    found = about(interrupted(2, commit="one"))
    assert found["starts"] == 2
    assert {run["git_commit"] for run in found["runs"]} == {"one"}
    assert mixed(pd.DataFrame(found["runs"])) is None
