"""One self-contained HTML page with every table and figure of a study, and where they come from."""

import base64
from pathlib import Path

import pandas as pd
from jinja2 import Environment, PackageLoader, select_autoescape

from analysis import captions, paper_tables, paper_verdicts, style
from analysis.attachments import attachments
from analysis.claims import POOLED, claims, show_p
from analysis.code_versions import mixed
from analysis.comparison import compare, wide
from analysis.evidence import Evidence
from analysis.figures import FIGURES
from analysis.folding import fold
from analysis.paper import held
from analysis.tables import Tables
from ssl_bench.errors import StudyError

PROVENANCE = {
    "git_commit": "Commit",
    "version": "Version",
    "device": "Device",
    "steps": "Steps",
}


def report(
    tables: Tables, figures: Path, evidence: Evidence | None = None, folder: Path | None = None
) -> str:
    """Return the page; its pictures are those in ``figures``, its files the tables in ``folder``.

    Comparison and figures show averages in place of their tasks, the claims every task.

    Raises:
        StudyError: a figure's PNG is missing.
    """
    evidence = evidence or Evidence(tables)
    folded = fold(tables)
    environment = Environment(
        loader=PackageLoader("analysis", "templates"),
        autoescape=select_autoescape(["j2"]),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(
        study=tables.study,
        provenance=_provenance(tables),
        mixed=mixed(tables.results),
        comparison=_comparison(compare(folded, evidence)),
        comparison_caption=captions.caption("comparison", folded),
        claims=_claims(claims(tables, evidence)),
        claims_caption=captions.caption("claims", tables),
        paper_tables=_paper_tables(tables),
        paper_claims=_paper_claims(paper_verdicts.claims(evidence)),
        paper_claims_caption=captions.caption("paper_claims", tables),
        figures=[_picture(name, figures, folded) for name in FIGURES],
        cells=_cells(tables),
        attachments=attachments(folder) if folder else [],
    )


def _picture(name: str, folder: Path, tables: Tables) -> dict[str, str]:
    path = folder / f"{name}.png"
    if not path.is_file():
        made = f"expected what this makes: python -m analysis figures --out {folder}"
        raise StudyError(f"{path}: no such figure; {made}")
    return {
        "name": name,
        "title": captions.TITLES[name],
        "caption": captions.caption(name, tables),
        "data": base64.b64encode(path.read_bytes()).decode(),
    }


def _provenance(tables: Tables) -> dict[str, str]:
    results = tables.results
    facts = {
        "Tasks": ", ".join(style.task_name(task) for task in tables.tasks),
        "Upstreams": ", ".join(style.upstream_name(name) for name in tables.upstreams),
        "Seeds": ", ".join(map(str, tables.seeds)),
        "Trained heads": f"{len(results):,}",
    }
    if tables.costs is not None:
        facts["Training time"] = f"{tables.costs['seconds'].sum() / 60:,.1f} minutes in all"
    for column, name in PROVENANCE.items():
        if column in results:
            facts[name] = ", ".join(map(str, sorted(results[column].dropna().unique())))
    return facts


def _comparison(table: pd.DataFrame) -> dict:
    shown = wide(table, _cell)
    blocks = [
        {"upstream": upstream, "rows": block.drop(columns="Upstream").to_numpy().tolist()}
        for upstream, block in shown.groupby("Upstream", sort=False)
    ]
    return {"heads": list(shown.columns[1:]), "blocks": blocks}


def _cell(row: pd.Series) -> str:
    text = f"{row['mean']:.2f}"
    if not pd.isna(row["half_width"]):
        text += f" ± {row['half_width']:.2f}"
    return ("*" + text) if row["best"] else f"{text} †" if row["not_worse"] else text


def _claims(table: pd.DataFrame) -> list[dict]:
    sections = []
    for claim, group in table.groupby("claim", sort=False):
        rows = []
        for _, row in group.iterrows():
            pooled = row["task"] == POOLED
            points = f"{row['improvement']:+.2f} [{row['low']:+.2f}, {row['high']:+.2f}]"
            rows.append(
                {
                    "pooled": pooled,
                    "task": f"pooled over {row['n_cells']} cells"
                    if pooled
                    else style.task_name(row["task"]),
                    "upstream": "" if pooled else style.upstream_name(row["upstream"]),
                    "interface": "" if pooled else style.interface_name(row["first"]),
                    "points": "" if pooled else points,
                    "relative": f"{row['relative']:+.1f} "
                    f"[{row['relative_low']:+.1f}, {row['relative_high']:+.1f}]",
                    "p": show_p(row["p"]),
                    "p_holm": show_p(row["p_holm"]),
                    "verdict": row["verdict"],
                }
            )
        sections.append({"claim": claim, "rows": rows})
    return sections


def _paper_tables(tables: Tables) -> list[dict]:
    found = []
    for name in held(paper_tables.cells_of(tables)):
        frame = paper_tables.filled(name, tables)
        shown = paper_tables.wide(frame)
        found.append(
            {
                "heads": list(shown.columns),
                "rows": shown.to_numpy().tolist(),
                "caption": paper_tables.caption(frame),
            }
        )
    return found


def _paper_claims(table: pd.DataFrame) -> dict:
    rows = []
    for row in paper_verdicts.shown(table):
        texts = [text.replace("**", "") for text in row.values()]
        rows.append({"whole": row["claim"].startswith("**"), "texts": texts})
    return {
        "heads": [head[:1].upper() + head[1:] for head in paper_verdicts.shown(table)[0]],
        "rows": rows,
    }


def _cells(tables: Tables) -> list[dict]:
    rows = []
    wanted = ["interface_parameters", "head_parameters", "macs_per_frame", "learning_rate"]
    columns = [column for column in wanted if column in tables.cells]
    groups = tables.cells.groupby(["upstream", "interface"])
    for upstream in tables.upstreams:
        for interface in tables.interfaces:
            if (upstream, interface) not in groups.groups:
                continue
            group = groups.get_group((upstream, interface))
            row = {"upstream": style.upstream_name(upstream)}
            row["interface"] = style.interface_name(interface)
            for column in columns:
                row[column] = _span(group[column])
            rows.append(row)
    return rows


def _span(values: pd.Series) -> str:
    values = values.dropna()
    if values.empty:
        return "–"
    low, high = values.min(), values.max()
    whole = low >= 10
    text = (lambda v: f"{v:,.0f}") if whole or low == high == 0 else (lambda v: f"{v:g}")
    return text(low) if low == high else f"{text(low)} – {text(high)}"
