"""The comparison table: upstream × interface rows, task columns, marks of a paired test."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from analysis import style
from analysis.evidence import Evidence
from analysis.latex import escape, tabular
from analysis.resampling import paired_difference
from analysis.statistics import holm, mean_interval
from analysis.tables import Tables
from ssl_bench.whole import whole

ALPHA = 0.05


def compare(tables: Tables, evidence: Evidence | None = None) -> pd.DataFrame:
    """Return one row per cell: mean, 95 % interval over seeds, and how it stands to the best.

    ``best`` is the best mean test value of the cell's task and upstream. ``not_worse`` marks every
    other interface whose paired difference to the best (see ``analysis.resampling``) is not
    significant at 5 % after Holm's correction over the interfaces. Without scores.parquet, or where
    there is nothing to resample, ``p_holm`` is missing and nothing is marked.
    """
    evidence = evidence or Evidence(tables)
    rows = []
    for (task, upstream, interface), cell in tables.cells.groupby(
        ["task", "upstream", "interface"]
    ):
        interval = mean_interval(cell["test"])
        layer = cell["layer"].iloc[0]
        rows.append(
            {
                "task": task,
                "upstream": upstream,
                "interface": interface,
                "layer": layer,
                "metric": cell["metric"].iloc[0],
                "higher_is_better": bool(cell["higher_is_better"].iloc[0]),
                "mean": interval.mean,
                "low": interval.low,
                "high": interval.high,
                "half_width": interval.half,
                "n_seeds": interval.n,
                "n_test": int(cell["n_test"].iloc[0]),
                "interface_parameters": int(cell["interface_parameters"].iloc[0]),
            }
        )
    table = pd.DataFrame(rows)
    table["layer"] = table["layer"].astype("Int64")
    table[["best", "not_worse"]] = False
    table["p_holm"] = np.nan
    for (task, upstream), group in table.groupby(["task", "upstream"]):
        _mark(table, group, evidence, task, upstream)
    order = {
        "upstream": tables.upstreams,
        "interface": tables.interfaces,
        "task": tables.tasks,
    }
    keys = {c: table[c].map({name: i for i, name in enumerate(o)}) for c, o in order.items()}
    return table.iloc[pd.DataFrame(keys).sort_values(list(keys)).index].reset_index(drop=True)


def _mark(
    table: pd.DataFrame, group: pd.DataFrame, evidence: Evidence, task: str, upstream: str
) -> None:
    sign = -1 if group["higher_is_better"].iloc[0] else 1
    best = (sign * group["mean"]).idxmin()
    table.loc[best, "best"] = True
    others = group.index.drop(best)
    top = evidence.draws(task, upstream, group.loc[best, "interface"])
    if top is None or not len(others):
        return
    p = []
    for interface in group.loc[others, "interface"]:
        other = evidence.draws(task, upstream, interface)
        if other is None or not set(other.seeds) & set(top.seeds):
            p.append(np.nan)
        else:
            p.append(paired_difference(other, top).p)
    table.loc[others, "p_holm"] = holm(p)
    table.loc[others, "not_worse"] = table.loc[others, "p_holm"] > ALPHA


def wide(
    table: pd.DataFrame,
    show: Callable[[pd.Series], str],
    upstreams: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Return the table as it is printed: cells through ``show``, columns headed by the metric."""
    if upstreams is not None:
        table = table[table["upstream"].isin(upstreams)]
    tasks = list(dict.fromkeys(table["task"]))
    tasks = style.ordered(tasks, style.TASKS)
    heads = {}
    for task in tasks:
        row = table[table["task"] == task].iloc[0]
        metric = style.metric_name(row["metric"], row["higher_is_better"])
        heads[task] = f"{style.task_name(task)} ({metric})"
    cells = {
        (row["upstream"], row["interface"], row["task"]): show(row) for _, row in table.iterrows()
    }
    lines = []
    for upstream, interface in dict.fromkeys(
        zip(table["upstream"], table["interface"], strict=True)
    ):
        line = {
            "Upstream": style.upstream_name(upstream),
            "Interface": style.interface_name(interface),
        }
        line |= {heads[task]: cells.get((upstream, interface, task), "–") for task in tasks}
        lines.append(line)
    return pd.DataFrame(lines)


def _number(row: pd.Series, plus_minus: str) -> str:
    text = f"{row['mean']:.2f}"
    return text if np.isnan(row["half_width"]) else f"{text}{plus_minus}{row['half_width']:.2f}"


def markdown_cell(row: pd.Series) -> str:
    """Return ``mean ± half width``, the best bold, not significantly worse ones with a dagger."""
    text = _number(row, " ± ")
    return f"**{text}**" if row["best"] else f"{text} †" if row["not_worse"] else text


def latex_cell(row: pd.Series) -> str:
    """Return the cell in LaTeX, marked as in :func:`markdown_cell`."""
    text = _number(row, r" \pm ")
    if row["best"]:
        return rf"$\mathbf{{{text}}}$"
    return rf"${text}^{{\dagger}}$" if row["not_worse"] else f"${text}$"


def markdown(table: pd.DataFrame, upstreams: Sequence[str] | None = None) -> str:
    """Return the comparison as a Markdown table."""
    shown = wide(table, markdown_cell, upstreams)
    if shown["Upstream"].nunique() == 1:
        shown = shown.drop(columns="Upstream")
    else:
        shown["Upstream"] = shown["Upstream"].where(~shown["Upstream"].duplicated(), "")
    return shown.to_markdown(index=False, disable_numparse=True) + "\n"


def latex(table: pd.DataFrame, caption: str) -> str:
    """Return the comparison as a LaTeX table (booktabs), one block an upstream."""
    shown = wide(table, latex_cell).replace("–", "--")
    blocks = []
    for upstream, block in shown.groupby("Upstream", sort=False):
        rows = [["", escape(row["Interface"]), *row.iloc[2:]] for _, row in block.iterrows()]
        rows[0][0] = escape(str(upstream))
        blocks.append(rows)
    return tabular(list(shown), blocks, 2, caption)


def write(table: pd.DataFrame, out: Path, caption: str) -> list[Path]:
    """Write comparison.csv, .md and .tex: every task and upstream."""
    out.mkdir(parents=True, exist_ok=True)
    texts = {
        "comparison.md": f"{markdown(table)}\n{caption}\n",
        "comparison.tex": latex(table, caption),
    }
    with whole(out / "comparison.csv") as place:
        table.to_csv(place, index=False, float_format="%.6g")
    for name, text in texts.items():
        with whole(out / name) as place:
            place.write_text(text, encoding="utf-8")
    return [out / name for name in ("comparison.csv", *texts)]


def write_main(table: pd.DataFrame, tables: Tables, out: Path, caption: str) -> list[Path]:
    """Write comparison_main.md: the main encoder alone."""
    out.mkdir(parents=True, exist_ok=True)
    main = tables.main_upstream
    path = out / "comparison_main.md"
    text = f"{markdown(table, [main])}\n{style.upstream_name(main)}. {caption}\n"
    with whole(path) as place:
        place.write_text(text, encoding="utf-8")
    return [path]
