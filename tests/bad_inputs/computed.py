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
        UPSTREAM,
        keys(upstreams__mini__model="no/folder/here"),
        "model 'no/folder/here'",
        "found: Repo id must be",
        "expected a local Hugging Face folder or a name on the hub",
    ),
    "a folder without a configuration": Row(
        UPSTREAM,
        gone("encoder/config.json"),
        "model 'encoder'",
        "found: Unrecognized model",
        "expected a local Hugging Face folder or a name on the hub",
    ),
    "a configuration that is cut off": Row(
        UPSTREAM,
        cut("encoder/config.json"),
        "model 'encoder'",
        "found: It looks like the config file at 'encoder/config.json' is not a valid JSON",
        "expected a local Hugging Face folder",
    ),
    "another family": Row(
        UPSTREAM,
        lambda: _config(model_type="bert"),
        "model 'encoder'",
        "is of the family 'bert'",
        "did you mean 'hubert'? known: data2vec",
    ),
    "sizes that do not go together": Row(
        UPSTREAM,
        lambda: _config(num_attention_heads=3),
        "model 'encoder'",
        "found: embed_dim must be divisible by num_heads",
        "expected a 'hubert' in safetensors or as a state dict",
    ),
    "no weights": Row(
        UPSTREAM,
        gone(WEIGHTS),
        "model 'encoder' has no readable weights",
        "found: Error no file named model.safetensors",
        "expected a 'hubert' in safetensors or as a state dict",
    ),
    "weights that are cut off": Row(
        UPSTREAM,
        cut(WEIGHTS),
        "model 'encoder' has no readable weights",
        "found: Error while deserializing header: incomplete metadata",
        "expected a 'hubert' in safetensors",
    ),
    "weights that are text": Row(
        UPSTREAM,
        text(WEIGHTS, "no"),
        "model 'encoder' has no readable weights",
        "found: Error while deserializing header: header too small",
        "expected a 'hubert' in safetensors",
    ),
    "a pickle that would run code": Row(
        UPSTREAM,
        _malice,
        "model 'encoder' has no readable weights",
        "found: they hold posix.mknod, and reading it could run any code",
        "expected a 'hubert' in safetensors",
    ),
    "weights of a larger model": Row(
        UPSTREAM,
        lambda: _config(num_hidden_layers=2),
        "the weights of model 'encoder'",
        "found 16 unexpected ('encoder.layers.2.",
        "expected the keys that its configuration makes",
    ),
    "weights of a smaller model": Row(
        UPSTREAM,
        lambda: _config(num_hidden_layers=4),
        "the weights of model 'encoder'",
        "found 16 missing ('encoder.layers.3.",
        "expected the keys that its configuration makes",
    ),
    "weights of another width": Row(
        UPSTREAM,
        lambda: _config(intermediate_size=64),
        "the weights of model 'encoder'",
        "found 9 of another shape ('encoder.layers.0.",
        "expected the keys that its configuration makes",
    ),
    "s3prl's, that would run code": Row(
        UPSTREAM,
        _s3prl_malice,
        "s3prl's 'wavlm_local' (wavlm.pt)",
        "holds more than weights (posix.mknod)",
        "expected weights alone",
    ),
    "s3prl's, that is not there": Row(
        UPSTREAM,
        keys(upstreams__mini={"kind": "s3prl", "name": "wavlm_local", "path": "none.pt"}),
        "path 'none.pt' of s3prl's 'wavlm_local'",
        "is not there",
        "expected a checkpoint",
    ),
}
CACHES = {
    "no corpus": Row(
        FEATURES,
        gone("work/tiny/corpora/tones/table.parquet"),
        "tones/table.parquet",
        "no such file",
        "expected what an earlier stage makes",
    ),
    "a table that is cut off": Row(
        FEATURES,
        cut("work/tiny/corpora/tones/table.parquet"),
        "tones/table.parquet",
        "bytes that are none (Could not open",
        "expected a whole Parquet file",
    ),
    "waveforms that are cut off": Row(
        FEATURES,
        cut("work/tiny/corpora/tones/waveforms.bin"),
        "tones/waveforms.bin",
        "78720 bytes found",
        "157440 expected",
    ),
    "no waveforms": Row(
        FEATURES,
        gone("work/tiny/corpora/tones/waveforms.bin"),
        "tones/waveforms.bin",
        "no such file",
        "expected what an earlier stage makes",
    ),
    "no features": Row(
        SWEEP,
        gone(f"{FOLDER}/features.json"),
        "features.json",
        "no such file",
        "expected what an earlier stage makes",
    ),
    "features that are cut off": Row(
        SWEEP,
        text(f"{FOLDER}/features.json", '{"layers": 4, "ke'),
        "features.json",
        "found '\"ke' at line 1 column 15",
        "not JSON: expected the end of a string",
    ),
    "no sweep": Row(
        TRAIN,
        gone(f"{CELL}/sweep.csv"),
        "sweep.csv",
        "no such file",
        "expected what an earlier stage makes",
    ),
    "a sweep that is empty": Row(
        TRAIN, text(f"{CELL}/sweep.csv", ""), "sweep.csv", "found: No columns", "expected CSV"
    ),
    "a sweep without a column": Row(
        TRAIN,
        swap(f"{CELL}/sweep.csv", "learning_rate", "rate"),
        "sweep.csv",
        "no column 'learning_rate'; found: chosen, dev",
        "expected: task, upstream, interface, layer, learning_rate",
    ),
    "a sweep of another task": Row(
        TRAIN,
        text(
            f"{CELL}/sweep.csv",
            "task,upstream,interface,layer,learning_rate,seed,dev,chosen\npr,mini,mean,,1,0,1,True\n",
        ),
        "sweep.csv",
        "no row for task 'ks', upstream 'mini', interface 'mean'",
        "expected one, or a sweep in the study",
    ),
    "a learning rate that is a word": Row(
        TRAIN,
        both(
            keys(sweep=..., learning_rates="rates.csv"),
            text("rates.csv", "task,upstream,interface,layer,learning_rate\nks,mini,mean,,fast\n"),
        ),
        "rates.csv: task 'ks', upstream 'mini', interface 'mean'",
        "found 'fast'",
        "expected a learning rate",
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
        "rates.csv: task 'ks', upstream 'mini', interface 'mean'",
        "found 1 and 2",
        "expected one learning rate",
    ),
    "a device that is not there": Row(
        SWEEP, keys(device="cuda"), "device", "asks for cuda, found no GPU", "expected auto or cpu"
    ),
    "a device that was promised and is not there": Row(
        SWEEP,
        keys(device=...),
        "device",
        "the job was given a GPU, found none",
        "expected device: auto or cpu",
        {"SSL_BENCH_GPU": "1"},
    ),
}
TABLES_ = {
    "no cell": Row(
        COLLECT,
        gone(f"{CELL}/mean/metrics.json"),
        "mean/metrics.json",
        "no such file",
        "expected what an earlier stage makes",
    ),
    "a cell that is cut off": Row(
        COLLECT,
        text(f"{CELL}/mean/metrics.json", '{"runs": [{"study": "ti'),
        "mean/metrics.json",
        "found '\"ti' at line 1 column 21",
        "not JSON: expected the end of a string",
    ),
    "scores that are cut off": Row(
        COLLECT,
        cut(f"{CELL}/mean/scores.parquet"),
        "mean/scores.parquet",
        "bytes that are none (Could not open",
        "expected a whole Parquet file",
    ),
    "no history": Row(
        COLLECT,
        gone(f"{CELL}/mean/history.csv"),
        "mean/history.csv",
        "no such file",
        "expected what an earlier stage makes",
    ),
    "a history that is empty": Row(
        COLLECT,
        text(f"{CELL}/mean/history.csv", ""),
        "mean/history.csv",
        "found: No columns",
        "expected CSV",
    ),
    "no results": Row(
        TABLES,
        gone(RESULTS),
        "results.csv",
        "no such table",
        "expected what the collect stage makes",
    ),
    "results without rows": Row(
        TABLES,
        text(RESULTS, "study,task\n"),
        "results.csv",
        "has no rows",
        "expected one for each cell and seed",
    ),
    "a column missing": Row(
        TABLES,
        swap(RESULTS, ",test,", ",tests,"),
        "results.csv",
        "no column 'test'; did you mean 'tests'? found: best_step, dev",
        "expected: study, task",
    ),
    "a word for a number": Row(
        TABLES,
        swap(RESULTS, "mean,,0", "mean,,zero"),
        "results.csv: seed",
        "found 'zero'",
        "expected numbers",
    ),
    "a run twice": Row(
        TABLES,
        swap(RESULTS, "mean,,1", "mean,,0"),
        "results.csv",
        "twice the same cell and seed",
        "expected once: task ks, upstream mini, interface mean, seed 0",
    ),
    "scores that are cut off in a table": Row(
        TABLES,
        cut("results/tiny/tables/scores.parquet"),
        "tables/scores.parquet",
        "bytes that are none (Could not open",
        "expected a whole Parquet file",
    ),
    "a figure missing": Row(
        REPORT,
        nothing,
        "figures/interface_comparison.png",
        "no such figure",
        "expected what this makes: python -m analysis figures",
    ),
    "an unknown figure": Row(
        "analysis figures --tables results/tiny/tables --out out --only rank_sumary",
        nothing,
        "figures",
        "unknown figure 'rank_sumary'",
        "did you mean 'rank_summary'? known: interface_comparison",
    ),
    "a crate of no study": Row(
        "analysis crate --results audio",
        nothing,
        "audio",
        "no provenance.json",
        "expected the folder of a finished study",
    ),
}
