"""A run of a sweep that diverged has no dev value; its study is shown all the same."""

import dataclasses

import numpy as np

from analysis.figures import learning_rates


def test_a_diverged_run_leaves_a_gap_in_its_line(full):
    sweep = full.sweep.copy()
    task, upstream = full.tasks[0], full.main_upstream
    own = (sweep["task"] == task) & (sweep["upstream"] == upstream) & sweep["layer"].isna()
    own &= sweep["interface"] == "hconv"
    rate = sweep.loc[own & ~sweep["chosen"], "learning_rate"].iloc[0]
    lost = sweep.index[own & (sweep["learning_rate"] == rate)][0]
    sweep.loc[lost, "dev"] = np.nan

    def gaps(tables):
        lines = [line for axes in learning_rates.draw(tables).axes for line in axes.get_lines()]
        return sum(int(np.isnan(line.get_ydata()).sum()) for line in lines)

    assert gaps(full) == 0
    assert gaps(dataclasses.replace(full, sweep=sweep)) == 1
