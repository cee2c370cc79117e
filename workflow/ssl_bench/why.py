"""Why a cell would be trained again: what differs between how it was trained and the study now."""

import json
from collections.abc import Iterator
from typing import Any

from ssl_bench.errors import StudyError, suggest
from ssl_bench.provenance import commit
from ssl_bench.rates import chosen_rates
from ssl_bench.read_back import json_of
from ssl_bench.stamps import digest
from ssl_bench.study import Cell, Study

ABSENT = "nothing"


def find(study: Study, name: str) -> Cell:
    """Return the cell that ``task/upstream/interface`` names.

    Raises:
        StudyError: the study has no such cell.
    """
    known = {"/".join(cell): cell for cell in study.cells()}
    if name not in known:
        raise StudyError(
            f"no cell {name!r}, expected task/upstream/interface; {suggest(name, known)}"
        )
    return known[name]


def why(study: Study, cell: Cell) -> Iterator[str]:
    """Yield a line for each input that differs; what would train the cell again comes first.

    A commit alone is no reason: code is not among what a cell is stamped with.
    """
    packs = study.packs(cell.task, cell.upstream)
    pack = next(p for p in packs if cell.interface in study.interfaces_in(*cell[:2], p))
    path = study.pack_dir(*cell[:2], pack) / cell.interface / "metrics.json"
    if not path.is_file():
        yield f"not trained: there is no {path}"
        return
    about = json_of(path)
    reasons = list(_reasons(study, cell, pack, about))
    yield from reasons
    if not reasons:
        yield "up to date"
    trained = {run["git_commit"] for run in about["runs"]}
    if trained != {commit()}:
        yield f"(trained by commit {', '.join(sorted(trained))}, now {commit()}: no reason alone)"


def _reasons(study: Study, cell: Cell, pack: str, about: dict[str, Any]) -> Iterator[str]:
    then, now = (dict(_flat(c)) for c in (about["config"], json.loads(study.slice(*cell))))
    for key in sorted({*then, *now}):
        before, after = then.get(key, ABSENT), now.get(key, ABSENT)
        if before != after:
            yield f"{key}: {before} then, {after} now"
    data = about["stamp"].split(" ")[1]
    try:
        current = digest(study, cell)
    except StudyError as error:
        yield f"states: {error}"
    else:
        if data != current:
            yield f"labels, recordings or encoder: digest {data} then, {current} now"
    rates = {run["layer"]: run["learning_rate"] for run in about["runs"]}
    try:
        chosen = chosen_rates(study, cell.task, cell.upstream, pack)[cell.interface]
    except StudyError as error:
        yield f"learning rates: {' '.join(str(error).split())}"
        return
    for layer, rate in chosen.items():
        if rates.get(layer) != rate:
            place = "" if layer is None else f" of layer {layer}"
            yield f"learning rate{place}: {rates.get(layer, ABSENT)} then, {rate} now"


def _flat(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield every leaf of nested mappings with its dotted key; an empty mapping has none."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield from _flat(part, f"{key}.{name}" if key else name)
    else:
        yield key, json.dumps(value)
