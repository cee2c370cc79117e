"""Cells → tables: the last code that opens what a training left."""

import json
from pathlib import Path

import pandas as pd

CELL_TABLES = {"scores": "parquet", "layer_profile": "csv", "history": "csv"}
PROFILE = ["task", "upstream", "interface", "seed", "layer", "weight", "norm", "share", "kind"]
SWEEP = ["task", "upstream", "interface", "layer", "learning_rate", "seed", "dev", "chosen"]
SIMILARITY = ["upstream", "corpus", "measure", "layer_a", "layer_b", "value"]


def collect(study_file: Path) -> None:
    """Gather a study's cells into ``results/<study>/tables``.

    Args:
        study_file: the resolved study (``work/<study>/study.json``).

    Raises:
        FileNotFoundError: a cell of the grid has no ``metrics.json``.
    """
    from ssl_bench.study import load

    study = load(study_file)
    found: dict[str, list[pd.DataFrame]] = {name: [] for name in CELL_TABLES}
    rows, sweeps = [], []
    for task in study.tasks:
        for upstream in study.upstreams:
            for pack in study.packs(task, upstream):
                folder = study.pack_dir(task, upstream, pack)
                if study.sweep is not None:
                    sweeps.append(pd.read_csv(folder / "sweep.csv"))
                for interface in study.interfaces_in(task, upstream, pack):
                    cell = folder / interface
                    rows += json.loads((cell / "metrics.json").read_text())["runs"]
                    for name, ending in CELL_TABLES.items():
                        read = pd.read_parquet if ending == "parquet" else pd.read_csv
                        frame = read(cell / f"{name}.{ending}")
                        if name == "scores":  # probes of single layers are not compared in pairs
                            frame = frame[frame["layer"].isna()]
                        frame.insert(0, "interface", interface)
                        frame.insert(0, "upstream", upstream)
                        frame.insert(0, "task", task)
                        found[name].append(frame)
    out = study.results / "tables"
    out.mkdir(parents=True, exist_ok=True)
    _write(pd.DataFrame(rows), out / "results.csv")
    _write(_stack(sweeps, SWEEP), out / "sweep.csv")
    _write(_stack(found["layer_profile"], PROFILE), out / "layer_profile.csv")
    _write(_stack(found["history"]), out / "history.csv")
    similar = [
        pd.read_csv(study.work / "similarity" / f"{upstream}.{corpus}.csv")
        for upstream, corpus in study.similarity.items()
    ]
    _write(_stack(similar, SIMILARITY), out / "similarity.csv")
    scores = _stack(found["scores"])
    for column in ("errors", "reference_length", "correct", "score", "label"):
        if column not in scores:
            scores[column] = None
    scores.to_parquet(out / "scores.parquet", index=False, compression="zstd")


def _stack(frames: list[pd.DataFrame], columns: list[str] | None = None) -> pd.DataFrame:
    frames = [frame for frame in frames if len(frame)]
    if not frames:
        return pd.DataFrame(columns=columns)
    stacked = pd.concat(frames, ignore_index=True)
    return stacked[columns] if columns else stacked


def _write(frame: pd.DataFrame, path: Path) -> None:
    if "layer" in frame:
        frame = frame.assign(layer=frame["layer"].astype("Int64"))
    frame.to_csv(path, index=False)
