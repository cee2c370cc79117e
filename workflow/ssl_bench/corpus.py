"""The corpus stage: recordings and labels → CutSets, a table, and packed waveforms.

``waveforms.bin`` holds every recording once as mono 16 kHz int16, so that no later stage resamples
or opens thousands of files; ``table.parquet`` says where each begins.
"""

import json
import os
import shutil
import zlib
from pathlib import Path

import numpy as np
import pandas as pd

from ssl_bench import audio, registry
from ssl_bench.corpora.base import SPLITS, table
from ssl_bench.errors import StudyError
from ssl_bench.progress import track
from ssl_bench.study import Study
from ssl_bench.tasks.base import Task
from ssl_bench.upstreams.base import SAMPLE_RATE


def prepare(study: Study, name: str) -> None:
    """Write a corpus folder; nothing half-written stays behind."""
    folder = study.corpus_dir(name)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        _write(study, name, folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _write(study: Study, name: str, folder: Path) -> None:
    config = study.corpus_config(name)
    workers = int(os.environ.get("SSL_BENCH_WORKERS", "1"))
    cuts = registry.load("corpora", config.kind).prepare(config, folder, workers)
    missing = [split for split in SPLITS if not len(cuts.get(split, ()))]
    if missing:
        raise StudyError(f"corpora.{name}: no utterance in split {', '.join(missing)}")
    frame = table(cuts)
    twice = frame["id"][frame["id"].duplicated()]
    if len(twice):
        raise StudyError(f"corpora.{name}: {len(twice)} ids are not unique: {twice.iloc[0]!r}")

    every = [cut for split in cuts for cut in cuts[split]]
    counts, sums, bad = [], [], []
    with (folder / "waveforms.bin").open("wb") as sink:
        for cut in track(every, f"packing {name}"):
            try:
                samples = audio.load(cut)
            except StudyError as error:
                bad.append(str(error))
                continue
            packed = (samples * 32767).clip(-32768, 32767).round().astype("<i2").tobytes()
            counts.append(len(samples))
            sums.append(zlib.crc32(packed))
            sink.write(packed)
    if bad:
        more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
        raise StudyError(f"corpora.{name}: {bad[0]}{more}")
    frame["samples"] = counts
    frame["crc32"] = sums
    frame["start"] = np.cumsum([0, *counts[:-1]])
    frame["duration"] = frame["samples"] / SAMPLE_RATE
    for task, entry in study.tasks.items():
        if entry["corpus"] == name:
            make_task(study, task, frame)  # labels that do not fit are told now, and once
    for split, subset in cuts.items():
        subset.to_file(folder / f"{split}.jsonl.gz")
    (folder / "summary.json").write_text(json.dumps(summary(frame), indent=1) + "\n")
    frame.to_parquet(folder / "table.parquet", index=False)


def make_task(study: Study, name: str, frame: pd.DataFrame) -> Task:
    """Make a task on the table of its corpus; raise StudyError if the labels do not fit it."""
    config = study.task_config(name)
    try:
        return registry.load("tasks", config.kind).Task(config, frame)
    except StudyError as error:
        raise StudyError(f"tasks.{name}: {error}") from None


def summary(frame: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Return utterances, hours and speakers of every split."""
    return {
        split: {
            "utterances": len(rows),
            "hours": round(rows["duration"].sum() / 3600, 4),
            "speakers": int(rows["speaker"].nunique()),
        }
        for split, rows in frame.groupby("split", sort=False)
    }


class Corpus:
    """A prepared corpus, read back: its table and its waveforms, memory-mapped."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.table = pd.read_parquet(folder / "table.parquet")
        self._samples = np.memmap(folder / "waveforms.bin", dtype="<i2", mode="r")

    def waveform(self, row: int) -> np.ndarray:
        """Return one utterance, (samples,) int16 at 16 kHz."""
        start, count = self.table["start"].iat[row], self.table["samples"].iat[row]
        return self._samples[start : start + count]
