"""Figures of studies in which a run diverged, or seeds differ widely."""

import dataclasses

import numpy as np

from analysis.figures import layer_probes, learning_rates


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


def test_a_wide_band_hides_no_other_line(full):
    """A probe whose seeds differ more than its layers leaves the other upstreams in the panel."""
    results = full.results.copy()
    probes = results["layer"].notna() & (results["upstream"] == full.upstreams[-1])
    spread = results["seed"].map({seed: 15.0 * (-1) ** n for n, seed in enumerate(full.seeds)})
    results.loc[probes, "test"] = 50 + spread[probes]
    for axes in layer_probes.draw(dataclasses.replace(full, results=results)).axes:
        low, high = axes.get_ylim()
        for line in axes.get_lines():
            assert ((line.get_ydata() >= low) & (line.get_ydata() <= high)).all()
