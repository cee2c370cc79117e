"""Every figure of a study: a pure function of its tables, found by name.

``draw(name, tables)`` returns a matplotlib figure; ``write`` puts PNG and SVG on disk. A figure
whose data a study did not make becomes a small picture that says which study key makes it.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from analysis import captions, style
from analysis.figures import (
    interface_comparison,
    layer_probes,
    layer_similarity,
    layer_weights,
    learning_curves,
    learning_rates,
    parameters_score,
    rank_summary,
    table1_heatmap,
    table2_heatmap,
)
from analysis.figures.canvas import Absent, notice
from analysis.tables import Tables
from ssl_bench.errors import StudyError, suggest
from ssl_bench.whole import whole

FIGURES: dict[str, Callable[..., Figure]] = {
    "interface_comparison": interface_comparison.draw,
    "table1_heatmap": table1_heatmap.draw,
    "table2_heatmap": table2_heatmap.draw,
    "rank_summary": rank_summary.draw,
    "parameters_score": parameters_score.draw,
    "layer_weights": layer_weights.draw,
    "layer_weights_all": layer_weights.draw_all,
    "layer_probes": layer_probes.draw,
    "layer_similarity": layer_similarity.draw,
    "learning_rates": learning_rates.draw,
    "learning_curves": learning_curves.draw,
}
ONE_UPSTREAM = ("table1_heatmap", "learning_rates", "learning_curves")
"""Figures of a single upstream: the main encoder unless another is asked for."""
DPI = 200


def check(name: str) -> str:
    """Return the name of a figure; raise StudyError with the nearest one if there is none."""
    if name not in FIGURES:
        raise StudyError(f"figures: unknown figure {name!r}; {suggest(name, FIGURES)}")
    return name


def draw(name: str, tables: Tables, upstream: str | None = None) -> Figure:
    """Draw one figure; ``upstream`` matters to those of a single upstream only."""
    check(name)
    if upstream is not None:
        _check_upstream(upstream, tables)
    options = {"upstream": upstream} if name in ONE_UPSTREAM else {}
    with matplotlib.rc_context(style.RC):
        try:
            return FIGURES[name](tables, **options)
        except Absent as absent:
            return notice(captions.TITLES[name], str(absent))


def _check_upstream(name: str, tables: Tables) -> None:
    if name not in tables.upstreams:
        raise StudyError(f"figures: unknown upstream {name!r}; {suggest(name, tables.upstreams)}")


def write(
    tables: Tables, out: Path, only: Sequence[str] = (), upstream: str | None = None
) -> list[Path]:
    """Write figures as PNG (200 dpi) and SVG, and all their captions as captions.json."""
    names = [check(name) for name in only] or list(FIGURES)
    if upstream is not None:
        _check_upstream(upstream, tables)
    out.mkdir(parents=True, exist_ok=True)
    paths = []
    for name in names:
        figure = draw(name, tables, upstream)
        with matplotlib.rc_context(style.RC):
            figure.draw_without_rendering()
            figure.set_layout_engine("none")  # laid out: both files share it
            for suffix, metadata in ((".png", {}), (".svg", {"Date": None})):
                paths.append(out / f"{name}{suffix}")
                with whole(paths[-1]) as place:
                    figure.savefig(place, dpi=DPI, metadata=metadata)
    if not only:
        texts = {
            name: {
                "title": captions.TITLES[name],
                "caption": captions.caption(name, tables, upstream),
            }
            for name in names
        }
        paths.append(out / "captions.json")
        with whole(paths[-1]) as place:
            place.write_text(json.dumps(texts, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return paths
