"""Real recordings by manifest: config/recordings.yaml, its whole lists and a tiny training."""

import csv
import json
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml

from ssl_bench import cells, corpus, features
from ssl_bench.study import parse

CPU = torch.device("cpu")


@pytest.fixture
def raw(real_recordings, repository, tmp_path, monkeypatch) -> dict[str, Any]:
    """The shipped study, in a folder with ``recordings``, ``config`` and ``models`` linked."""
    monkeypatch.chdir(tmp_path)
    Path("recordings").symlink_to(real_recordings)
    for name in ("config", "models"):
        Path(name).symlink_to(repository / name)
    return yaml.safe_load(Path("config/recordings.yaml").read_text())


def some(name: str, column: str | None, count: int) -> str:
    """Write a list of ``count`` recordings of each split, or of each split and label."""
    source = Path("recordings") / f"{name}.tsv"
    with source.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        rows = list(reader)
    frame = pd.DataFrame(rows)
    by = ["split"] if column is None else ["split", column]
    kept = [
        row for _, group in frame.groupby(by) for row in islice(group.to_dict("records"), count)
    ]
    lines = ["\t".join(frame.columns), *("\t".join(row.values()) for row in kept)]
    Path(f"{name}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return f"{name}.tsv"


@pytest.mark.parametrize(
    ("name", "counts", "speakers"),
    [("speechocean762", (160, 40, 200), 40), ("arabic_sc", (180, 60, 60), 30)],
)
def test_a_whole_list_becomes_a_corpus(raw, name: str, counts: tuple, speakers: int) -> None:
    study = parse(raw)
    corpus.prepare(study, name)
    folder = study.corpus_dir(name)
    table = pd.read_parquet(folder / "table.parquet")
    listed = pd.read_csv(f"recordings/{name}.tsv", sep="\t", quoting=csv.QUOTE_NONE, dtype=str)
    assert tuple((table["split"] == split).sum() for split in ("train", "dev", "test")) == counts
    assert table["speaker"].nunique() == speakers
    listed = listed.set_index("id").loc[table["id"]].reset_index()
    pd.testing.assert_series_equal(table["phones"], listed["phones"], check_dtype=False)
    assert (table["duration"] - listed["duration_s"].astype(float)).abs().max() < 2e-3
    assert (folder / "waveforms.bin").stat().st_size == 2 * table["samples"].sum()


def test_phones_and_digits_are_trained_and_scored(raw) -> None:
    raw["corpora"]["speechocean762"] |= {"root": "recordings"}
    raw["corpora"]["speechocean762"]["path"] = some("speechocean762", None, 6)
    raw["corpora"]["arabic_sc"] |= {"root": "recordings"}
    raw["corpora"]["arabic_sc"]["path"] = some("arabic_sc", "keyword", 1)
    raw["tasks"]["pr"]["training"] = {"steps": 4, "batch_seconds": 12}
    raw["training"] = {"steps": 4, "batch_seconds": 12, "evaluations": 2}
    raw |= {"device": "cpu", "job": "stream", "seeds": 1, "interfaces": ["weighted_sum", "hconv"]}
    raw["upstreams"]["fbank"]["interfaces"] = ["weighted_sum"]
    raw["sweep"]["learning_rates"] = [1e-3, 3e-3]
    study = parse(raw)
    for name in study.corpora:
        corpus.prepare(study, name)
        for upstream in study.upstreams:
            features.compute(study, upstream, name, CPU)
    sizes = {"fbank": (1, 240), "hubert-mini-13": (13, 192)}
    for upstream, size in sizes.items():
        about = study.features_dir(upstream, "arabic_sc") / "features.json"
        shape = json.loads(about.read_text())
        assert (shape["layers"], shape["dim"]) == size
    for task, n_test in {"pr": 6, "digits": 10}.items():
        for upstream in study.upstreams:
            cells.sweep(study, task, upstream, "all")
            cells.run(study, task, upstream, "all")
            trained = pd.read_csv(study.pack_dir(task, upstream, "all") / "train.csv")
            assert sorted(trained["interface"]) == sorted(study.interfaces_of(task, upstream))
            assert (trained["n_test"] == n_test).all()
            assert trained["test"].between(0, 100 if task == "digits" else 1000).all()
    phones = pd.read_parquet(study.pack_dir("pr", "fbank", "all") / "weighted_sum/scores.parquet")
    assert phones["reference_length"].gt(3).all()
