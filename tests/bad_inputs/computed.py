"""Checkpoints of encoders and of trainings, caches, and tables that are not what they were."""

import json
import os
from pathlib import Path

import torch
from bad_inputs.house import (
    COLLECT,
    FEATURES,
    REPORT,
    SWEEP,
    TABLES,
    TRAIN,
    UPSTREAM,
    Row,
    both,
    cut,
    gone,
    keys,
    nothing,
    swap,
    text,
)

WEIGHTS = "encoder/model.safetensors"
FOLDER = "work/tiny/features/mini/tones"
CELL = "results/tiny/cells/ks/mini/all"
RESULTS = "results/tiny/tables/results.csv"


class Bomb:
    """Unpickling it makes a file."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mknod, ("ran",)


def _malice() -> None:
    Path(WEIGHTS).unlink()
    torch.save({"x": Bomb()}, "encoder/pytorch_model.bin")


def _config(**changed: object) -> None:
    path = Path("encoder/config.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))


def _s3prl_malice() -> None:
    keys(upstreams__mini={"kind": "s3prl", "name": "wavlm_local", "path": "wavlm.pt"})()
    torch.save({"cfg": Bomb(), "model": {}}, "wavlm.pt")


ENCODERS = {
    "nowhere": Row(
        UPSTREAM, keys(upstreams__mini__model="no/folder/here"), ("model 'no/folder/here'",)
    ),
    "a folder without a configuration": Row(
        UPSTREAM, gone("encoder/config.json"), ("model 'encoder'", "neither a local")
    ),
    "a configuration that is cut off": Row(UPSTREAM, cut("encoder/config.json"), ("'encoder'",)),
    "another family": Row(
        UPSTREAM, lambda: _config(model_type="bert"), ("of the family 'bert'", "known: data2vec")
    ),
    "sizes that do not go together": Row(
        UPSTREAM, lambda: _config(num_attention_heads=3), ("model 'encoder'",)
    ),
    "no weights": Row(UPSTREAM, gone(WEIGHTS), ("model 'encoder' has no readable weights",)),
    "weights that are cut off": Row(UPSTREAM, cut(WEIGHTS), ("has no readable weights",)),
    "weights that are text": Row(UPSTREAM, text(WEIGHTS, "no"), ("has no readable weights",)),
    "a pickle that would run code": Row(
        UPSTREAM, _malice, ("has no readable weights (they hold posix.mknod, and reading it could",)
    ),
    "weights of a larger model": Row(
        UPSTREAM, lambda: _config(num_hidden_layers=2), ("16 unexpected ('encoder.layers.2.",)
    ),
    "weights of a smaller model": Row(
        UPSTREAM, lambda: _config(num_hidden_layers=4), ("16 missing ('encoder.layers.3.",)
    ),
    "weights of another width": Row(
        UPSTREAM, lambda: _config(intermediate_size=64), ("of another shape ('encoder.layers.0.",)
    ),
    "s3prl's, that would run code": Row(
        UPSTREAM, _s3prl_malice, ("holds more than weights", "trust_checkpoint: true")
    ),
    "s3prl's, that is not there": Row(
        UPSTREAM,
        keys(upstreams__mini={"kind": "s3prl", "name": "wavlm_local", "path": "none.pt"}),
        ("none.pt",),
    ),
}
CACHES = {
    "no corpus": Row(FEATURES, gone("work/tiny/corpora/tones/table.parquet"), ("table.parquet",)),
    "a table that is cut off": Row(
        FEATURES,
        cut("work/tiny/corpora/tones/table.parquet"),
        ("tones/table.parquet: not readable as Parquet",),
    ),
    "waveforms that are cut off": Row(
        FEATURES, cut("work/tiny/corpora/tones/waveforms.bin"), ("waveforms.bin", "bytes found")
    ),
    "no waveforms": Row(
        FEATURES, gone("work/tiny/corpora/tones/waveforms.bin"), ("waveforms.bin",)
    ),
    "no features": Row(SWEEP, gone(f"{FOLDER}/features.json"), ("features.json",)),
    "features that are cut off": Row(SWEEP, cut(f"{FOLDER}/features.json"), ("features.json",)),
    "no sweep": Row(TRAIN, gone(f"{CELL}/sweep.csv"), (f"{CELL}/sweep.csv",)),
    "a sweep that is empty": Row(TRAIN, text(f"{CELL}/sweep.csv", ""), (f"{CELL}/sweep.csv",)),
    "a sweep without a column": Row(
        TRAIN,
        swap(f"{CELL}/sweep.csv", "learning_rate", "rate"),
        (f"{CELL}/sweep.csv", "'learning_rate'"),
    ),
    "a sweep of another task": Row(
        TRAIN,
        text(
            f"{CELL}/sweep.csv",
            "task,upstream,interface,layer,learning_rate,seed,dev,chosen\npr,mini,mean,,1,0,1,True\n",
        ),
        (f"{CELL}/sweep.csv: no row for task 'ks', upstream 'mini', interface 'mean'",),
    ),
    "a learning rate that is a word": Row(
        TRAIN,
        both(
            keys(sweep=..., learning_rates="rates.csv"),
            text("rates.csv", "task,upstream,interface,layer,learning_rate\nks,mini,mean,,fast\n"),
        ),
        ("rates.csv: task 'ks'", "'mean': expected a learning rate, found 'fast'"),
    ),
    "a learning rate twice": Row(
        TRAIN,
        both(
            keys(sweep=..., learning_rates="rates.csv"),
            text(
                "rates.csv",
                "task,upstream,interface,layer,learning_rate\nks,mini,mean,,1\nks,mini,mean,,2\n",
            ),
        ),
        ("rates.csv: task 'ks'", "'mean': expected one learning rate, found 1 and 2"),
    ),
    "a device that is not there": Row(
        SWEEP, keys(device="cuda"), ("device: the study asks for cuda, found no GPU",)
    ),
    "a device that was promised and is not there": Row(
        SWEEP,
        keys(device=...),
        ("device: the job was given a GPU, found none", "expected device: auto or cpu"),
        {"SSL_BENCH_GPU": "1"},
    ),
}
TABLES_ = {
    "no cell": Row(COLLECT, gone(f"{CELL}/mean/metrics.json"), (f"{CELL}/mean/metrics.json",)),
    "a cell that is cut off": Row(COLLECT, cut(f"{CELL}/mean/metrics.json"), ("metrics.json",)),
    "scores that are cut off": Row(
        COLLECT, cut(f"{CELL}/mean/scores.parquet"), ("scores.parquet",)
    ),
    "no history": Row(COLLECT, gone(f"{CELL}/mean/history.csv"), ("history.csv",)),
    "a history that is empty": Row(COLLECT, text(f"{CELL}/mean/history.csv", ""), ("history.csv",)),
    "no results": Row(TABLES, gone(RESULTS), ("results.csv: no such table; run the collect",)),
    "results without rows": Row(TABLES, text(RESULTS, "study,task\n"), ("has no rows",)),
    "a column missing": Row(
        TABLES, swap(RESULTS, ",test,", ",tests,"), ("results.csv: missing column 'test'",)
    ),
    "a word for a number": Row(
        TABLES,
        swap(RESULTS, "mean,,0", "mean,,zero"),
        ("results.csv: seed: expected numbers", "'zero'"),
    ),
    "a run twice": Row(
        TABLES, swap(RESULTS, "mean,,1", "mean,,0"), ("results.csv: twice the same cell and seed",)
    ),
    "scores that are cut off in a table": Row(
        TABLES, cut("results/tiny/tables/scores.parquet"), ("scores.parquet: cannot be read",)
    ),
    "a figure missing": Row(REPORT, nothing, ("figures/", ".png")),
    "an unknown figure": Row(
        "analysis figures --tables results/tiny/tables --out out --only rank_sumary",
        nothing,
        ("unknown figure 'rank_sumary'; did you mean 'rank_summary'?",),
    ),
    "a crate of no study": Row(
        "analysis crate --results audio", nothing, ("audio: no provenance.json",)
    ),
}
