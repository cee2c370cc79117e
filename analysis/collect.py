"""Cells → tables: the last code that opens what a training left."""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.averages import average
from analysis.code_versions import code, mixed
from ssl_bench.progress import say
from ssl_bench.read_back import csv_of, json_of, parquet_of
from ssl_bench.whole import whole

CELL_TABLES = {"scores": "parquet", "layer_profile": "csv", "history": "csv"}
RUN = ["task", "upstream", "interface", "layer", "seed"]
PROFILE = ["task", "upstream", "interface", "seed", "layer", "weight", "norm", "share", "kind"]
SWEEP = ["task", "upstream", "interface", "layer", "learning_rate", "seed", "dev", "chosen"]
COSTS = ["seconds", "peak_memory_mb"]
"""What a clock and a memory measure: no two trainings have the same."""
SIMILARITY = ["upstream", "corpus", "measure", "layer_a", "layer_b", "value"]


def collect(study_file: Path) -> None:
    """Gather a study's cells into ``results/<study>/tables``.

    Args:
        study_file: the resolved study (``work/<study>/study.json``).

    Raises:
        StudyError: a cell of the grid lacks a file, or has one that cannot be read.
    """
    from ssl_bench.study import load

    study = load(study_file)
    found: dict[str, list[pd.DataFrame]] = {name: [] for name in CELL_TABLES}
    rows, sweeps, versions, resumed = [], [], [], {}
    for task in study.tasks:
        for upstream in study.upstreams:
            for pack in study.packs(task, upstream):
                folder = study.pack_dir(task, upstream, pack)
                if study.sweep is not None:
                    sweeps.append(csv_of(folder / "sweep.csv"))
                for interface in study.interfaces_in(task, upstream, pack):
                    cell = folder / interface
                    about = json_of(cell / "metrics.json")
                    rows += about["runs"]
                    versions.append(about["versions"])
                    if about.get("starts", 1) > 1:
                        resumed[f"{task}/{upstream}/{interface}"] = about["starts"]
                    for name, ending in CELL_TABLES.items():
                        read = parquet_of if ending == "parquet" else csv_of
                        frame = read(cell / f"{name}.{ending}")
                        if name == "scores":  # probes of single layers are not compared in pairs
                            frame = frame[frame["layer"].isna()]
                        frame.insert(0, "interface", interface)
                        frame.insert(0, "upstream", upstream)
                        frame.insert(0, "task", task)
                        found[name].append(frame)
    similar = [
        csv_of(study.work / "similarity" / f"{upstream}.{corpus}.csv")
        for upstream, corpus in study.similarity.items()
    ]
    out = study.results / "tables"
    out.mkdir(parents=True, exist_ok=True)
    results = pd.DataFrame(rows)
    if note := mixed(results):
        say(f"warning: {note}")
    _write(results.drop(columns=COSTS), out / "results.csv")
    _write(results[[*RUN, *COSTS]], out / "costs.csv")
    (out / "averages.csv").unlink(missing_ok=True)  # an earlier form of the study may have had it
    if study.averages:
        _write(average(results, study.averages), out / "averages.csv")
    said = study.model_dump(mode="json", exclude_unset=True)
    origin = provenance(said, results, versions, resumed)
    with whole(study.results / "provenance.json") as place:
        place.write_text(json.dumps(origin, indent=1) + "\n")
    _write(_stack(sweeps, SWEEP), out / "sweep.csv")
    _write(_stack(found["layer_profile"], PROFILE), out / "layer_profile.csv")
    _write(_stack(found["history"]), out / "history.csv")
    _write(_stack(similar, SIMILARITY), out / "similarity.csv")
    scores = _stack(found["scores"])
    for column in ("errors", "reference_length", "correct", "score", "label"):
        if column not in scores:
            scores[column] = None
    with whole(out / "scores.parquet") as place:
        scores.to_parquet(place, index=False, compression="zstd")


def provenance(
    study: dict[str, Any],
    results: pd.DataFrame,
    versions: list[dict[str, str]],
    resumed: dict[str, int],
) -> dict[str, Any]:
    """Return where a study's numbers came from.

    Commits, devices and versions are lists: more than one means that cells were not all trained by
    the same code on the same machine. ``code`` has the number of cells of each version, ``resumed``
    how many starts the training of a cell took that was interrupted.
    """
    known = {name for found in versions for name in found}
    return {
        "cells": len(results.groupby(["task", "upstream", "interface"])),
        "runs": len(results),
        "training_seconds": round(float(results["seconds"].sum()), 1),
        "git_commits": sorted(results["git_commit"].unique()),
        "code": code(results),
        "resumed": resumed,
        "devices": sorted(results["device"].unique()),
        "versions": {
            name: sorted({found[name] for found in versions if name in found})
            for name in sorted(known)
        },
        "study": study,
    }


def _stack(frames: list[pd.DataFrame], columns: list[str] | None = None) -> pd.DataFrame:
    frames = [frame for frame in frames if len(frame)]
    if not frames:
        return pd.DataFrame(columns=columns)
    stacked = pd.concat(frames, ignore_index=True)
    return stacked[columns] if columns else stacked


def _write(frame: pd.DataFrame, path: Path) -> None:
    if "layer" in frame:
        frame = frame.assign(layer=frame["layer"].astype("Int64"))
    with whole(path) as place:
        frame.to_csv(place, index=False)
