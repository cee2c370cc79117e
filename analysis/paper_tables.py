"""Tables 1 to 4 of the paper: each published value, the study's own, and the difference."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from analysis import style
from analysis.latex import escape, tabular
from analysis.paper import Finder, held, nested, places, published
from analysis.statistics import mean_interval
from analysis.tables import CELL, Tables
from ssl_bench.errors import StudyError
from ssl_bench.whole import whole

COLUMNS = (
    "table",
    "upstream",
    "interface",
    "downstream",
    "tuning",
    "task",
    "metric",
    "higher_is_better",
    "published",
    "ours",
    "half_width",
    "n_seeds",
    "difference",
    "tasks",
)
VARIANTS = {
    ("published", "frozen"): "",
    ("large", "frozen"): "large downstream",
    ("published", "fine_tuned"): "fine-tuned",
    ("large", "fine_tuned"): "large downstream, fine-tuned",
}


@dataclass(frozen=True)
class Layout:
    """How a table is printed: what heads its rows and its columns."""

    title: str
    rows: tuple[str, ...]
    column: str


LAYOUTS = {
    "table1": Layout("all interfaces on HuBERT Base", ("interface",), "task"),
    "table2": Layout("five upstreams", ("upstream", "interface"), "task"),
    "table3": Layout("HConv against an enlarged downstream", ("upstream",), "interface"),
    "table4": Layout("end-to-end fine-tuning of HuBERT Base", ("interface",), "tuning"),
}


def filled(table: str, tables: Tables) -> pd.DataFrame:
    """Return a row per published cell of ``table1`` … ``table4``, in the paper's order.

    ``ours`` is the mean over seeds, ``half_width`` half of its 95 % t interval, ``difference``
    ours − published; they are missing where the study lacks the cell. ``tasks`` are the study's
    tasks that the value comes from.
    """
    numbers, finder = published(table), Finder(cells_of(tables))
    rows = []
    for place, (_, cell) in zip(places(numbers), numbers.iterrows(), strict=True):
        groups = finder.find(place)
        row = {
            "table": table,
            **place._asdict(),
            "metric": cell["metric"],
            "higher_is_better": cell["higher_is_better"],
            "published": cell["printed"],
        }
        values = nested(groups, tables.cells) if groups else pd.Series(dtype=float)
        if groups and len(values):
            _same_direction(groups[0][0][0], cell, tables)
            ours = mean_interval(values.to_numpy())
            row |= {"ours": ours.mean, "half_width": ours.half, "n_seeds": ours.n}
            row["difference"] = ours.mean - cell["value"]
            row["tasks"] = " ".join(task for group in groups for task, _, _ in group)
        rows.append(row)
    frame = pd.DataFrame(rows).reindex(columns=list(COLUMNS))
    return frame.astype({"n_seeds": "Int64"})


def _same_direction(task: str, cell: pd.Series, tables: Tables) -> None:
    metric, higher = tables.metric(task)
    if higher != cell["higher_is_better"]:
        raise StudyError(
            f"results.csv: task {task!r} is scored by {metric}; published is {cell['metric']}"
        )


def cells_of(tables: Tables) -> frozenset[tuple[str, str, str]]:
    """Return every (task, upstream, interface) of a study."""
    return frozenset(tables.cells[CELL].astype(str).itertuples(index=False, name=None))


def wide(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the table as it is printed, each cell ``published / ours (seeds) / difference``."""
    layout = LAYOUTS[frame["table"].iloc[0]]
    lines: dict[tuple[str, ...], dict[str, str]] = {}
    for _, row in frame.iterrows():
        heads = tuple(_name(part, row, layout) for part in layout.rows)
        line = lines.setdefault(heads, dict(zip(map(str.title, layout.rows), heads, strict=True)))
        line[_head(row, layout)] = _cell(row)
    return pd.DataFrame(list(lines.values()))


def _name(part: str, row: pd.Series, layout: Layout) -> str:
    if part == "upstream":
        return style.upstream_name(row["upstream"])
    # What is not said in a column of its own is said with the interface.
    tuning = "frozen" if layout.column == "tuning" else row["tuning"]
    variant = VARIANTS[row["downstream"], tuning]
    name = style.interface_name(row["interface"])
    return f"{name} + {variant}" if variant else name


def _head(row: pd.Series, layout: Layout) -> str:
    if layout.column == "task":
        metric = style.metric_name(row["metric"], row["higher_is_better"])
        return f"{style.task_name(row['task'])} ({metric})"
    if layout.column == "interface":
        return _name("interface", row, layout)
    return str(row["tuning"]).replace("_", "-").capitalize()


def _cell(row: pd.Series) -> str:
    if pd.isna(row["ours"]):
        return f"{row['published']} / – / –"
    ours = f"{row['ours']:.2f}"
    if not np.isnan(row["half_width"]):
        ours += f" ± {row['half_width']:.2f}"
    sign = "+" if row["difference"] >= 0 else "−"
    return f"{row['published']} / {ours} ({row['n_seeds']}) / {sign}{abs(row['difference']):.2f}"


def caption(frame: pd.DataFrame) -> str:
    """Say what a cell holds, and how many of the published cells the study has."""
    number, there = frame["table"].iloc[0][-1], int(frame["ours"].notna().sum())
    title = LAYOUTS[frame["table"].iloc[0]].title
    return (
        f"Table {number} of Shih & Harwath (arXiv 2406.12209): {title}. A cell is the published "
        "value / ours, mean ± half of the 95 % t interval over seeds (number of seeds) / ours − "
        f"published, in percent; cells are matched by their names. {there} of {len(frame)} "
        "published cells are in this study; – : not in it."
    )


def captions(tables: Tables) -> dict[str, str]:
    """Return the caption of every published table that the study has a cell of."""
    return {name: caption(filled(name, tables)) for name in held(cells_of(tables))}


def markdown(frame: pd.DataFrame) -> str:
    """Return a table as Markdown, its caption below."""
    shown = wide(frame)
    if "Upstream" in shown and "Interface" in shown:
        shown["Upstream"] = shown["Upstream"].where(~shown["Upstream"].duplicated(), "")
    return f"{shown.to_markdown(index=False, disable_numparse=True)}\n\n{caption(frame)}\n"


def latex(frame: pd.DataFrame) -> str:
    """Return a table in LaTeX (booktabs), one block an upstream where rows are interfaces of it."""
    shown, layout = wide(frame), LAYOUTS[frame["table"].iloc[0]]
    blocks = []
    by = shown["Upstream"] if len(layout.rows) > 1 else pd.Series(0, index=shown.index)
    for _, block in shown.groupby(by, sort=False):
        rows = [[escape(text) for text in row] for row in block.to_numpy()]
        for row in rows[1:] if len(layout.rows) > 1 else ():
            row[0] = ""
        blocks.append(rows)
    return tabular(list(shown), blocks, len(layout.rows), caption(frame))


def write(tables: Tables, out: Path) -> list[Path]:
    """Write table<n>.{csv,md,tex} for every published table that the study has a cell of."""
    out.mkdir(parents=True, exist_ok=True)
    paths = []
    for table in held(cells_of(tables)):
        frame = filled(table, tables)
        with whole(out / f"{table}.csv") as place:
            frame.to_csv(place, index=False, float_format="%.6g")
        for ending, text in ((".md", markdown(frame)), (".tex", latex(frame))):
            with whole(out / f"{table}{ending}") as place:
                place.write_text(text, encoding="utf-8")
        paths += [out / f"{table}{ending}" for ending in (".csv", ".md", ".tex")]
    return paths
