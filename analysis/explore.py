"""For a person at a notebook: pick cells, look at one, compare two."""

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis import style
from analysis.evidence import Evidence
from analysis.figures.canvas import canvas
from analysis.resampling import Draws, Estimate, paired, paired_difference
from analysis.tables import Tables
from ssl_bench.errors import StudyError, suggest

SHOWN = ["task", "upstream", "interface", "layer", "seed", "learning_rate", "metric", "dev", "test"]


def pick(tables: Tables, **wanted: str) -> pd.DataFrame:
    """Return the rows of results.csv with the given values of its columns.

    Raises:
        StudyError: a column or a value does not exist; the line suggests the nearest.
    """
    frame = tables.results
    for column, value in wanted.items():
        if column not in frame:
            raise StudyError(f"results.csv: unknown column {column!r}; {suggest(column, frame)}")
        known = tables.results[column].unique()
        if value not in known:
            hint = suggest(str(value), map(str, known))
            raise StudyError(f"results.csv: no {column} {value!r}; {hint}")
        frame = frame[frame[column] == value]
    return frame[[column for column in SHOWN if column in frame]].reset_index(drop=True)


def interfaces(tables: Tables, task: str, upstream: str) -> list[str]:
    """List the interfaces of a (task, upstream), in the order in which they are shown."""
    found = set(pick(tables, task=task, upstream=upstream)["interface"])
    return [name for name in tables.interfaces if name in found]


def curve(tables: Tables, task: str, upstream: str, interface: str) -> Figure:
    """Draw one cell's training: loss and dev value against the step, a line a seed."""
    pick(tables, task=task, upstream=upstream, interface=interface)
    history = tables.history
    if history is None:
        raise StudyError("history.csv: found none, expected the study's evaluations")
    rows = history[
        (history["task"] == task)
        & (history["upstream"] == upstream)
        & (history["interface"] == interface)
    ]
    colour = style.interface_look(interface).colour
    with matplotlib.rc_context(style.RC):
        figure = canvas(2.6)
        left, right = figure.subplots(1, 2)
        for number, (_, run) in enumerate(rows.groupby(["layer", "seed"], dropna=False)):
            alpha = 1 / (1 + 0.5 * number)
            for axes, column in ((left, "train_loss"), (right, "dev")):
                run_ = run.dropna(subset=column)
                axes.plot(run_["step"], run_[column], color=colour, alpha=alpha, marker=".")
        left.set(xlabel="Step", ylabel="training loss")
        right.set(xlabel="Step", ylabel=f"dev {style.metric_name(*tables.metric(task))} (%)")
        figure.suptitle(_title(task, upstream, interface), fontweight="bold")
    return figure


def difference(
    evidence: Evidence, task: str, upstream: str, first: str, second: str
) -> tuple[Estimate, Figure]:
    """Test whether ``first`` differs from ``second`` on the same utterances, and draw it.

    Returns:
        ``first`` − ``second`` in points of the metric with its 95 % interval and p value, and a
        figure: the runs seed by seed, and the difference on every resample of the speakers.
    """
    tables = evidence.tables
    a, b = (_draws(evidence, task, upstream, name) for name in (first, second))
    result = paired_difference(a, b)
    a, b = paired(a, b)
    metric = style.metric_name(*tables.metric(task))
    looks = [style.interface_look(name, tables.interfaces) for name in (first, second)]
    with matplotlib.rc_context(style.RC):
        figure = canvas(2.8)
        left, right = figure.subplots(1, 2)
        for values in zip(a.value, b.value, strict=True):
            left.plot([0, 1], values, color="#BFBFBF", linewidth=1, zorder=1)
        for place, (draws, look) in enumerate(zip((a, b), looks, strict=True)):
            left.plot(
                np.full(len(draws.value), place),
                draws.value,
                color=look.colour,
                marker=look.marker,
                linestyle="none",
                markersize=7,
            )
        left.set_xticks([0, 1], [look.name for look in looks])
        left.set_xlim(-0.5, 1.5)
        left.set_ylabel(f"test {metric} (%)")
        left.set_title(f"Seed by seed (n = {len(a.seeds)})")
        right.hist((a.resampled - b.resampled).mean(1), bins=40, color="#9CC3DC")
        right.axvline(0, color="#4D4D4D", linewidth=1)
        right.axvspan(result.low, result.high, color="#D55E00", alpha=0.12)
        right.axvline(result.value, color="#D55E00", linewidth=1.6)
        right.set_title(f"Resampled over {a.speakers} speakers; shaded: 95 % interval")
        right.set_xlabel(f"{looks[0].name} − {looks[1].name}, points of {metric[:-2]}")
        right.set_ylabel("resamples")
        figure.suptitle(_title(task, upstream), fontweight="bold")
    return result, figure


def _draws(evidence: Evidence, task: str, upstream: str, interface: str) -> Draws:
    pick(evidence.tables, task=task, upstream=upstream, interface=interface)
    draws = evidence.draws(task, upstream, interface)
    if draws is None:
        raise StudyError(
            f"scores.parquet: expected rows of {task}, {upstream}, {interface}, found none"
        )
    return draws


def _title(task: str, upstream: str, interface: str | None = None) -> str:
    names = [style.task_name(task), style.upstream_name(upstream)]
    return " · ".join([*names, style.interface_name(interface)] if interface else names)
