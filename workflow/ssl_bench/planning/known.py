"""What is known of upstreams and corpora before they are loaded."""

import csv
import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from ssl_bench import registry
from ssl_bench.study import Study

FOLDER = Path(__file__).parent


class Size(NamedTuple):
    """An upstream's states."""

    layers: int
    dim: int
    stride: int


class Hours(NamedTuple):
    """How long a corpus is."""

    total: float
    splits: dict[str, float]
    """Of each split, where that is known."""
    source: str
    bound: str = ""
    """Stands before the number: ``at most``, ``about``."""
    utterance: float | None = None
    """Mean length of an utterance (of train, where that is known) in seconds."""


@cache
def rows(name: str) -> tuple[dict[str, str], ...]:
    """Read a table of this package."""
    with (FOLDER / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return tuple(csv.DictReader(file))


def upstream_size(study: Study, name: str) -> Size | None:
    """Return an upstream's size: as recorded, as its kind or folder says, or by its known name."""
    recorded = study.upstream_file(name)
    if recorded.is_file():
        about = json.loads(recorded.read_text())
        return Size(about["layers"], about["dim"], about["stride"])
    config = study.upstream_config(name)
    kind = registry.load("upstreams", config.kind)
    if hasattr(kind, "size"):
        return Size(*kind.size(config))
    return _by_name(getattr(config, "name", None) or getattr(config, "model", None))


def _by_name(name: str | None) -> Size | None:
    if name is None:
        return None
    described = Path(name) / "config.json"
    if described.is_file():
        return _of_folder(json.loads(described.read_text(encoding="utf-8")))
    known = {row["name"]: row for row in rows("upstreams")}
    if name not in known:
        return None
    return Size(*(int(known[name][key]) for key in Size._fields))


def _of_folder(about: dict[str, Any]) -> Size | None:
    """Read a Hugging Face configuration: one state more than there are blocks."""
    blocks = about.get("encoder_layers", about.get("num_hidden_layers"))
    dim = about.get("d_model", about.get("hidden_size"))
    if blocks is None or dim is None:
        return None
    stride = 1
    for step in about.get("conv_stride", (320,)):
        stride *= step
    return Size(blocks + 1, dim, stride)


def _part(config: Any) -> str:
    """Return the part of a published corpus that an entry takes, as ``hours.csv`` names it."""
    if config.kind == "ml_superb":
        track = "multilingual" if config.track == "multilingual" else "monolingual"
        return f"{track} {config.train}"
    return getattr(config, "protocol", "")


def corpus_hours(study: Study, name: str) -> Hours | None:
    """Return a corpus's duration: of a prepared one its own, of a published one the published."""
    summary = study.corpus_dir(name) / "summary.json"
    if summary.is_file():
        about = json.loads(summary.read_text())
        splits = {split: float(part["hours"]) for split, part in about.items()}
        mean = 3600 * splits["train"] / about["train"]["utterances"]
        return Hours(sum(splits.values()), splits, "as prepared", utterance=mean)
    config = study.corpus_config(name)
    known = {row["part"]: row for row in rows("hours") if row["kind"] == config.kind}
    if not known:
        return None
    if config.kind == "librispeech":
        parts = {"train": config.train, "dev": config.dev, "test": config.test}
        if not set(parts.values()) <= set(known):
            return None
        splits = {split: float(known[part]["hours"]) for split, part in parts.items()}
        mean = 3600 * splits["train"] / int(known[config.train]["utterances"])
        return Hours(sum(splits.values()), splits, "published", utterance=mean)
    row = known[_part(config)]
    bound = f"{row['bound']} " if row["bound"] else ""
    mean = 3600 * float(row["hours"]) / int(row["utterances"])
    return Hours(float(row["hours"]), {}, "published", bound, mean)
