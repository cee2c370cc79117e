"""Names, colours, markers and order of everything that is drawn: the one place.

Colours are Okabe and Ito's palette (told apart with every common colour vision), shades for the
members of a family; every interface has a marker too, so that no figure depends on colour alone.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

REFERENCE = "weighted_sum"
"""The interface that relative improvements refer to."""


@dataclass(frozen=True)
class Look:
    """How one name is shown."""

    name: str
    colour: str = "#595959"
    marker: str = "o"


INTERFACES: dict[str, Look] = {
    "weighted_sum": Look("Weighted sum", "#000000", "o"),
    "grouped_2": Look("Grouped WS #2", "#8EC7E8", "v"),
    "grouped_3": Look("Grouped WS #3", "#4DA3D4", "^"),
    "grouped_4": Look("Grouped WS #4", "#0072B2", "<"),
    "concat": Look("Concat + projection", "#E69F00", "s"),
    "pca_concat": Look("PCA + concat", "#B8A900", "D"),
    "hconv": Look("HConv", "#D55E00", "P"),
    "cls_pooling": Look("CLS pooling", "#009E73", "X"),
    "weighted_sum_mlp": Look("Weighted sum + MLP", "#CC79A7", "*"),
    "gumbel_selection": Look("Gumbel selection", "#7F3B08", "d"),
    "lap": Look("LAP", "#882255", "H"),
    "sls": Look("SLS", "#117733", "8"),
    "attm": Look("AttM", "#332288", r"$\clubsuit$"),
    "mean": Look("Mean", "#8C8C8C", "h"),
    "last": Look("Last layer", "#5C5C5C", ">"),
    "single_layer": Look("Best single layer", "#A6761D", "p"),
}
UPSTREAMS: dict[str, Look] = {
    "fbank": Look("Log-mel filterbank", "#8C8C8C", "v"),
    "untrained-13": Look("Untrained encoder", "#B8A900", "^"),
    "hubert-mini-13": Look("HuBERT mini, 13 states", "#0072B2", "o"),
    "hubert-mini-25": Look("HuBERT mini, 25 states", "#D55E00", "s"),
    "hubert_base": Look("HuBERT Base", "#0072B2", "o"),
    "hubert_base_ft": Look("HuBERT Base, fine-tuned", "#332288", "^"),
    "hubert_large": Look("HuBERT Large", "#D55E00", "s"),
    "wavlm_base": Look("WavLM Base", "#009E73", "D"),
    "wavlm_base_plus": Look("WavLM Base+", "#56B4E9", "X"),
    "wavlm_large": Look("WavLM Large", "#CC79A7", "P"),
    "xlsr_53": Look("XLSR-53", "#E69F00", "*"),
}
TASKS: dict[str, Look] = {
    "pr": Look("PR"),
    "pr_relu": Look("PR, ReLU head"),
    "asr": Look("ASR"),
    "mono_10min": Look("Mono-10min"),
    "mono_1h": Look("Mono-1hr"),
    "mono_1hr": Look("Mono-1hr"),
    "multi_1h": Look("Multi-1hr"),
    "lid": Look("LID"),
    "lid_1h": Look("LID-1hr"),
    "ks": Look("KS"),
    "ic": Look("IC"),
    "er": Look("ER"),
    "sid": Look("SID"),
    "sv": Look("SV"),
}
HEADS = {"_relu": "ReLU head", "_large": "large head"}
"""Endings of a task's name, and what they say of its head."""
METRICS = {
    "per": "PER",
    "cer": "CER",
    "wer": "WER",
    "accuracy": "acc.",
    "eer": "EER",
    "slot_type_f1": "slot F1",
    "slot_value_cer": "slot CER",
}
SPARE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#B8A900", "#595959")
SPARE_MARKERS = ("o", "s", "D", "P", "X", "^", "v", "*")
BETTER_WORSE = "RdBu"
"""Diverging map for relative improvements: blue is better, red is worse, white is equal."""

RC: dict[str, Any] = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "figure.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#4D4D4D",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E5E5E5",
    "grid.linewidth": 0.7,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.hashsalt": "analysis",
    "svg.fonttype": "path",
}
WIDTH = 9.0
"""Inches; at 200 dpi twice the width at which a README shows a picture."""


def ordered(names: Iterable[str], known: dict[str, Look]) -> list[str]:
    """Sort names: known ones as listed, then the others by name (a variant after its task)."""
    rank = {name: i for i, name in enumerate(known)}

    def key(name: str) -> tuple[int, str]:
        stem = next((k for k in sorted(known, key=len, reverse=True) if name.startswith(k)), "")
        return rank.get(name, rank.get(stem, len(rank))), name

    return sorted((str(name) for name in names), key=key)


def is_baseline(upstream: str) -> bool:
    """Whether an upstream is no trained encoder: a filterbank or random weights."""
    return any(word in upstream for word in ("fbank", "untrained", "random", "mfcc"))


def interface_name(name: str) -> str:
    """Return an interface's display name."""
    return INTERFACES[name].name if name in INTERFACES else _pretty(name)


def task_name(name: str) -> str:
    """Return a task's display name; a variant's (``HEADS``) says what its head is."""
    if name in TASKS:
        return TASKS[name].name
    for ending, head in HEADS.items():
        if name.endswith(ending):
            return f"{task_name(name.removesuffix(ending))}, {head}"
    return _pretty(name) if len(name) > 4 else name.upper()


def upstream_name(name: str) -> str:
    """Return an upstream's display name."""
    return UPSTREAMS[name].name if name in UPSTREAMS else _pretty(name)


def metric_name(metric: str, higher_is_better: bool) -> str:
    """Return a metric with an arrow that says which way is better; an average's may be several."""
    shown = "/".join(METRICS.get(part, part) for part in metric.split("/"))
    return f"{shown} {'↑' if higher_is_better else '↓'}"


def interface_look(name: str, among: Sequence[str] = ()) -> Look:
    """Return an interface's look; an unknown one takes a spare colour by its place in ``among``."""
    return _look(name, among, INTERFACES)


def upstream_look(name: str, among: Sequence[str] = ()) -> Look:
    """Return an upstream's look; an unknown one takes a spare colour by its place in ``among``."""
    return _look(name, among, UPSTREAMS)


def _look(name: str, among: Sequence[str], known: dict[str, Look]) -> Look:
    if name in known:
        return known[name]
    unknown = [other for other in among if other not in known]
    place = unknown.index(name) if name in unknown else 0
    taken = {known[other].colour for other in among if other in known}
    spare = [colour for colour in SPARE if colour not in taken] or list(SPARE)
    return Look(_pretty(name), spare[place % len(spare)], SPARE_MARKERS[place % len(SPARE_MARKERS)])


def _pretty(name: str) -> str:
    text = name.replace("_", " ").strip()
    return text[:1].upper() + text[1:]
