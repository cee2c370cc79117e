"""The corpus stage: recordings and labels → CutSets, a table, and packed waveforms.

``waveforms.bin`` holds every recording once as mono 16 kHz int16, so that no later stage resamples
or opens thousands of files; ``table.parquet`` says where each begins.
"""

import json
import os
import shutil
import zlib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd

from ssl_bench import audio, inventory, registry
from ssl_bench.audio import SAMPLE_RATE
from ssl_bench.corpora._recordings import some
from ssl_bench.corpora.base import SPLITS, table
from ssl_bench.errors import StudyError
from ssl_bench.progress import say, track
from ssl_bench.read_back import demand_size, parquet_of
from ssl_bench.study import Study
from ssl_bench.tasks.base import Task
from ssl_bench.whole import named, whole

LISTED = 200
"""Labels beyond which the summary does not list how often each occurs."""
SEQUENCES = ("phones", "slots")
"""Labels that are symbols separated by spaces."""
_NO_LABELS = ("id", "split", "duration", "text", "speaker", "samples", "crc32", "start")


def prepare(study: Study, name: str) -> None:
    """Write a corpus folder; nothing half-written stays behind."""
    folder = study.corpus_dir(name)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        for old in folder.iterdir():  # not the folder itself, on which this process has its lock
            shutil.rmtree(old) if old.is_dir() else old.unlink()
        _write(study, name, folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _write(study: Study, name: str, folder: Path) -> None:
    config = study.corpus_config(name)
    workers = int(os.environ.get("SSL_BENCH_WORKERS", "1"))
    kind = registry.load("corpora", config.kind)
    cuts = kind.prepare(config, folder, workers)
    _demand_splits(name, {split for split, subset in cuts.items() if len(subset)})
    frame = table(cuts)
    twice = frame["id"][frame["id"].duplicated()]
    if len(twice):
        raise StudyError(
            f"corpora.{name}: expected ids once, found {len(twice)} again: {twice.iloc[0]!r}"
        )
    if not hasattr(kind, "process"):  # all are used, so labels are known before a recording is read
        _demand_labels(study, name, frame)
    packed = _pack(study, name, cuts, folder)
    if len(packed) < len(frame):
        left_out = len(frame) - len(packed)
        say(f"corpora.{name}: {left_out} of {len(frame)} utterances left out by length")
    frame = frame.drop(columns=["samples", "crc32"], errors="ignore").merge(packed, on="id")
    _demand_splits(name, set(frame["split"]))
    frame["start"] = np.cumsum([0, *frame["samples"][:-1]])
    frame["duration"] = frame["samples"] / SAMPLE_RATE
    _demand_labels(study, name, frame)
    used = set(frame["id"])
    for split, subset in cuts.items():
        listed = folder / f"{split}.jsonl.gz"
        with named(listed):
            subset.filter(lambda cut: cut.id in used).to_file(listed)
    inventory.tell(study, name)
    about = summary(frame, kind.published(config) if hasattr(kind, "published") else {})
    with whole(folder / "summary.json") as place:
        place.write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n")
    for split, numbers in about.items():
        found = numbers["utterances"]
        published = numbers.get("published_utterances", found)
        if found != published:
            say(f"corpora.{name}: {split}: {found:,} utterances; published are {published:,}")
    with whole(folder / "table.parquet") as place:
        frame.to_parquet(place, index=False)


def _pack(study: Study, name: str, cuts: dict[str, Any], folder: Path) -> pd.DataFrame:
    """Write ``waveforms.bin``; return id, samples and crc32 of what is in it, in its order."""
    config = study.corpus_config(name)
    kind = registry.load("corpora", config.kind)
    every = [(split, cut) for split in cuts for cut in cuts[split]]
    rows, bad = [], []
    path = folder / "waveforms.bin"
    with named(path), path.open("wb") as sink:
        for split, cut in track(every, f"packing {name}"):
            try:
                samples = _processed(kind, config, split, cut)
            except StudyError as error:
                bad.append(str(error))
                continue
            if samples is not None:
                packed = (samples * 32767).clip(-32768, 32767).round().astype("<i2").tobytes()
                rows.append((cut.id, len(samples), zlib.crc32(packed)))
                sink.write(packed)
    if bad:
        raise StudyError(f"corpora.{name}: {some('recordings cannot be used', bad)}")
    return pd.DataFrame(rows, columns=["id", "samples", "crc32"])


def _demand_splits(name: str, found: set[str]) -> None:
    missing = [split for split in SPLITS if split not in found]
    if missing:
        none = f"no utterance in split {', '.join(missing)}"
        raise StudyError(f"corpora.{name}: {none}; expected some in each of {', '.join(SPLITS)}")


def _demand_labels(study: Study, name: str, frame: pd.DataFrame) -> None:
    """Tell labels of a corpus that do not fit one of its tasks now, and once."""
    for task, entry in study.tasks.items():
        if entry["corpus"] == name:
            make_task(study, task, frame)


def _processed(kind: ModuleType, config: Any, split: str, cut: Any) -> np.ndarray | None:
    """Load a recording and do to it what its corpus's recipe does; None: it is not used."""
    samples = audio.load(cut)
    if not hasattr(kind, "process"):
        return samples
    processed = kind.process(config, split, samples)
    if processed is not None and len(processed) < audio.SHORTEST:
        raise StudyError(
            f"cut {cut.id}: {len(processed)} samples are left of {len(samples)}, expected "
            f"at least {audio.SHORTEST}"
        )
    return processed


def make_task(study: Study, name: str, frame: pd.DataFrame) -> Task:
    """Make a task on the table of its corpus, less the training utterances that are too short.

    Raises:
        StudyError: the labels do not fit the task.
    """
    config, training = study.task_config(name), study.training_of(name)
    kind = registry.load("tasks", config.kind).Task
    if training.min_seconds is not None:
        short = (frame["split"] == "train") & (frame["duration"] <= training.min_seconds)
        frame = frame[~short]
    try:
        return kind(config, frame)
    except StudyError as error:
        raise StudyError(f"tasks.{name}: {error}") from None


def summary(frame: pd.DataFrame, published: dict[str, int]) -> dict[str, dict[str, Any]]:
    """Return the statistics of every split.

    Utterances (and those of the published corpus, where they are known), hours, the shortest and
    the longest in seconds, speakers, words of ``text``; and of every other label how many different
    ones there are, and how many utterances have each, if there are no more than ``LISTED``. Of
    ``SEQUENCES`` symbols are counted, not utterances.
    """
    labels = [column for column in frame if column not in _NO_LABELS]
    return {
        str(split): {
            "utterances": len(rows),
            **({"published_utterances": published[split]} if split in published else {}),
            "hours": round(rows["duration"].sum() / 3600, 4),
            "shortest": round(rows["duration"].min(), 3),
            "longest": round(rows["duration"].max(), 3),
            "speakers": int(rows["speaker"].nunique()),
            "words": int(rows["text"].dropna().str.split().str.len().sum()),
            "labels": {name: _counts(rows[name]) for name in labels if rows[name].notna().any()},
        }
        for split, rows in frame.groupby("split", sort=False)
    }


def _counts(values: pd.Series) -> dict[str, Any]:
    values = values.dropna()
    if values.name in SEQUENCES:
        values = values.str.split().explode()
    counts = values.value_counts().sort_index().sort_values(ascending=False, kind="stable")
    listed = {str(label): int(count) for label, count in counts.items()}
    return {"different": len(counts), **({"counts": listed} if len(counts) <= LISTED else {})}


class Corpus:
    """A prepared corpus, read back: its table and its waveforms, memory-mapped.

    Raises:
        StudyError: one of its files is not there, or not whole.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.table = parquet_of(folder / "table.parquet")
        demand_size(folder / "waveforms.bin", 2 * int(self.table["samples"].sum()))
        self._samples = np.memmap(folder / "waveforms.bin", dtype="<i2", mode="r")

    def waveform(self, row: int) -> np.ndarray:
        """Return one utterance, (samples,) int16 at 16 kHz."""
        start, count = self.table["start"].iat[row], self.table["samples"].iat[row]
        return self._samples[start : start + count]
