"""The text under every figure and table: what is drawn, what the bars are, and n."""

from collections.abc import Callable

from analysis import style
from analysis.tables import Tables

TITLES = {
    "interface_comparison": "Interfaces against the weighted sum",
    "table1_heatmap": "All interfaces on one encoder (the paper's Table 1)",
    "table2_heatmap": "Weighted sum, HConv and CLS pooling on every upstream (the paper's Table 2)",
    "rank_summary": "Mean rank over tasks and upstreams",
    "parameters_score": "Parameters against gain",
    "layer_weights": "How much every layer counts",
    "layer_weights_all": "How much every layer counts, all interfaces",
    "layer_probes": "One probe per layer",
    "layer_similarity": "How alike the layers are",
    "learning_rates": "Learning-rate sweep",
    "learning_curves": "Learning curves",
    "comparison": "Test values of every cell",
    "claims": "The paper's claims as paired tests",
    "paper_claims": "The paper's seven claims",
}
TABLES = ("comparison", "claims", "paper_claims")
FIGURES = tuple(name for name in TITLES if name not in TABLES)
RELATIVE = (
    "Improvement is the share of the weighted sum's mean error that is gone, in percent "
    "(error: the metric itself, or 100 − metric where higher is better)"
)


def caption(name: str, tables: Tables, upstream: str | None = None) -> str:
    """Return the caption of a figure (or of the tables ``comparison`` and ``claims``)."""
    return _TEXTS[name](tables, upstream or tables.main_upstream)


def averaged(tables: Tables) -> str:
    """Return a sentence that says which tasks are means over tasks, a space before it, or none."""
    parts = []
    for name in tables.tasks:
        groups = tables.members.get(name)
        if groups:
            count = sum(map(len, groups))
            several = "" if count == len(groups) else f" in {len(groups)} groups"
            parts.append(f"{style.task_name(name)} ({count}{several})")
    return f" Means over tasks: {'; '.join(parts)}." if parts else ""


def seeds(tables: Tables) -> str:
    """Return how many seeds a cell has, as text."""
    counts = tables.cells.groupby(["task", "upstream", "interface"]).size()
    low, high = int(counts.min()), int(counts.max())
    several = f"{low}" if low == high else f"{low}–{high}"
    return f"n = {several} seed{'s' if high > 1 else ''} a cell"


def tests(tables: Tables) -> str:
    """Return how many utterances or trials each task is tested on, as text."""
    counts = tables.results.groupby("task")["n_test"].first()
    sizes = ", ".join(f"{style.task_name(task)} {int(counts[task]):,}" for task in tables.tasks)
    return f"Test utterances (SV: trials): {sizes}.{averaged(tables)}"


def _one_seed(tables: Tables) -> bool:
    return bool(tables.cells.groupby(["task", "upstream", "interface"]).size().max() < 2)


def _interval(tables: Tables) -> str:
    one = _one_seed(tables)
    return "no interval, as there is one seed" if one else "bars are 95 % t intervals over seeds"


def _interface_comparison(tables: Tables, _: str) -> str:
    return (
        f"{RELATIVE}; right is better. Points are means over seeds, {_interval(tables)}, ticks "
        f"are single seeds; {seeds(tables)}. Bars that leave the panel are cut; an arrowhead with "
        f"a number is a point outside it. {tests(tables)}"
    )


def _table1(tables: Tables, upstream: str) -> str:
    return (
        f"{style.upstream_name(upstream)}: mean test value in percent, {seeds(tables)}, the best "
        f"of each task bold. Colour: {RELATIVE[0].lower()}{RELATIVE[1:]}; blue is better. "
        f"{tests(tables)}"
    )


def _table2(tables: Tables, _: str) -> str:
    return (
        f"Mean test value in percent, {seeds(tables)}, the best of each upstream and task bold. "
        f"Colour: {RELATIVE[0].lower()}{RELATIVE[1:]}; blue is better. {tests(tables)}"
    )


def _rank(tables: Tables, _: str) -> str:
    from analysis.figures.rank_summary import ranks

    result = ranks(tables)
    if result is None:
        return "Too few interfaces, tasks or upstreams to rank."
    return (
        f"Mean rank of {len(result.mean)} interfaces over the n = {result.blocks} pairs of task "
        "and upstream that have all of them (baseline upstreams left out), by mean test error over "
        "seeds. Bars are ± half of Nemenyi's critical difference "
        f"({result.critical_difference:.2f}): two interfaces differ at the 5 % level where their "
        "bars do not overlap; grey: overlaps the best. Friedman test p "
        f"{_p(result.friedman_p)}. Pairs that share a task or an upstream are not independent."
        f"{averaged(tables)}"
    )


def _parameters(tables: Tables, _: str) -> str:
    return (
        f"{RELATIVE}; up is better. Markers: the median over tasks; dashes: single "
        f"tasks (means over seeds, {seeds(tables)}), where they lie in the panel. The head's "
        "parameters are not counted. An arrowhead with a number is a median below the panel."
        f"{averaged(tables)}"
    )


def _weights(tables: Tables, _: str) -> str:
    from analysis.figures.layer_weights import profiled, shown

    drawn = shown(tables)
    others = len(profiled(tables)) > len(drawn)
    return _shares(tables, drawn) + (" Other interfaces: layer_weights_all." if others else "")


def _all_weights(tables: Tables, _: str) -> str:
    from analysis.figures.layer_weights import profiled

    return _shares(tables, profiled(tables))


def _shares(tables: Tables, drawn: list[str]) -> str:
    frame = tables.layer_profile
    if frame is None or not drawn:
        return "No layer profile in this study."
    kinds = frame.groupby("interface")["kind"].agg(lambda values: ", ".join(sorted(set(values))))
    told = "; ".join(f"{style.interface_name(name)}: {kinds[name]}" for name in drawn)
    return (
        "Share of each layer as a multiple of 1/L, the share that all L layers would have if they "
        "counted alike (1 is average), corrected for the norm of the layer's "
        f"states, mean over {frame['seed'].nunique()} seeds. What a share is differs by interface "
        f"({told}); only rows of the same kind compare in size. Shares above the colour bar's end "
        "have its last colour; an interface whose shares no task changes has one row."
        f"{averaged(tables)}"
    )


def _probes(tables: Tables, _: str) -> str:
    probes = tables.probes
    if probes.empty:
        return "No single-layer cells in this study."
    count = int(probes.groupby(["task", "upstream", "layer"]).size().max())
    band = "no band, as there is one seed" if count < 2 else "bands are 95 % t intervals over seeds"
    return (
        f"Test value of a head on one layer alone; {band}, n = {count} a layer. Dashed: the "
        f"weighted sum of the same upstream; dotted: its best interface on test. {tests(tables)}"
    )


def _similarity(tables: Tables, _: str) -> str:
    frame = tables.similarity
    if frame is None:
        return "No layer similarity in this study."
    corpora = ", ".join(sorted(frame["corpus"].unique()))
    return (
        f"Similarity of two layers' states on {corpora}. Linear CKA: whether the layers hold the "
        "same information, in whatever channels. Cosine of PCA eigenvectors (mean "
        "absolute value of the first ten pairs): "
        "whether they hold it in the same channels, as a sum over layers assumes."
    )


def _rates(tables: Tables, upstream: str) -> str:
    frame = tables.sweep
    if frame is None:
        return "No sweep in this study: its learning rates come from a table."
    count = frame["seed"].nunique()
    rings = " (the fainter, the fewer of an average's tasks chose it)" if averaged(tables) else ""
    return (
        f"{style.upstream_name(upstream)}: dev value at each learning rate of the sweep, the same "
        f"for every interface; mean of n = {count} seed{'s' if count > 1 else ''}. Rings mark "
        f"the rate chosen on dev{rings}; where a run diverged there is no point."
        f"{averaged(tables)}"
    )


def _curves(tables: Tables, upstream: str) -> str:
    count = 0 if tables.history is None else tables.history["seed"].nunique()
    return (
        f"{style.upstream_name(upstream)}: dev value during training at the chosen learning rate; "
        f"lines are means, bands span the n = {count} seeds.{averaged(tables)}"
    )


def _comparison(tables: Tables, _: str) -> str:
    one = _one_seed(tables)
    values = "one seed" if one else "mean ± half of the 95 % t interval over seeds"
    variance = "" if one else ", with the variance over seeds"
    return (
        f"Test values in percent: {values} ({seeds(tables)}). "
        "Bold: best of an upstream and task. †: not significantly worse than the best (paired "
        f"bootstrap over speakers{variance}, Holm-corrected, 5 %). "
        f"{tests(tables)}"
    )


def _claims(tables: Tables, _: str) -> str:
    return (
        "Improvement of the first over the second on the same test material, in points of the "
        "metric (positive: the first is better), and relative to the second's error, with 95 % "
        "intervals. Standard errors join a paired bootstrap over speakers and the differences "
        "between seeds; two-sided t test; Holm's correction over the tests of one claim, and over "
        f"the claims for pooled rows (which leave out baseline upstreams). {seeds(tables)}."
    )


def _paper_claims(tables: Tables, _: str) -> str:
    return (
        "The seven claims of Shih & Harwath (arXiv 2406.12209) and their parts. A gain is the "
        "share of the second interface's error that is gone with the first, in percent, with its "
        "95 % interval; published: the same made from the published numbers. Tests join a paired "
        "bootstrap over speakers and the differences between seeds; two-sided; p is "
        "Holm-corrected over the parts. Holds, does not hold: the test rejects the bound, on the "
        "claimed or on the other side; not shown: it does not reject it. Every task of the study "
        "counts but variants of a head, every upstream but a filterbank or random weights. "
        f"{seeds(tables)}."
    )


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


_TEXTS: dict[str, Callable[[Tables, str], str]] = {
    "interface_comparison": _interface_comparison,
    "table1_heatmap": _table1,
    "table2_heatmap": _table2,
    "rank_summary": _rank,
    "parameters_score": _parameters,
    "layer_weights": _weights,
    "layer_weights_all": _all_weights,
    "layer_probes": _probes,
    "layer_similarity": _similarity,
    "learning_rates": _rates,
    "learning_curves": _curves,
    "comparison": _comparison,
    "claims": _claims,
    "paper_claims": _paper_claims,
}
