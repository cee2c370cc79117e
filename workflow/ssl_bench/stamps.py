"""What determines a cell, in one line: a finished one with the same is not trained again."""

from ssl_bench.read_back import json_of
from ssl_bench.study import Cell, Study


def stamp(study: Study, cell: Cell, chosen: dict[int | None, float]) -> str:
    """Name all that determines a cell: its slice of the study, its data, its learning rates."""
    rates = sorted((str(layer), rate) for layer, rate in chosen.items())
    return f"{study.fingerprint(cell)} {digest(study, cell)} {rates}"


def digest(study: Study, cell: Cell) -> str:
    """Return the digest of a cell's labels, recordings and encoder that the features stage left."""
    folder = study.features_dir(cell.upstream, study.tasks[cell.task]["corpus"])
    return str(json_of(folder / "features.json")["digest"])
