"""Bad studies, and bad words on the command line."""

from pathlib import Path

import yaml
from bad_inputs.house import CHECK, Row, keys, nothing, study, text


def _twice() -> None:
    raw = yaml.safe_dump(study(), sort_keys=False)
    Path("study.yaml").write_text(
        raw.replace("tasks:\n", "tasks:\n  ks: {kind: ks, corpus: tones}\n")
    )


def row(changed: dict[str, object], *parts: str) -> Row:
    """Return the row of a study with keys changed."""
    return Row(CHECK, keys(**changed), ("study.yaml: ", *parts))


def of_table(rates: object, *parts: str) -> Row:
    """Return the row of a study that takes its learning rates so."""
    return row({"sweep": ..., "learning_rates": rates}, *parts)


UTTERANCES = {"training__batch_seconds": ..., "training__batch_utterances": 8}
TASK = {"kind": "ks", "corpus": "tones"}
ROWS = {
    "unknown key": row({"interfacez": {}}, "unknown key 'interfacez'", "'interfaces'?"),
    "unknown key in place of another": row(
        {"seeds": ..., "seedz": 2}, "unknown key 'seedz'; did you mean 'seeds'?"
    ),
    "unknown key below": row({"training__step": 3}, "'training.step'", "did you mean 'steps'?"),
    "unknown key of a task": row({"tasks__ks__coprus": "x"}, "tasks.ks", "'coprus'", "'corpus'?"),
    "key missing": row({"tasks": ...}, "missing key 'tasks'"),
    "kind missing": row({"tasks__ks__kind": ...}, "tasks.ks: missing key 'kind'; known: asr"),
    "unknown kind": row(
        {"tasks__ks__kind": "kss"}, "tasks.ks: unknown kind 'kss'; did you mean 'ks'?"
    ),
    "unknown kind of a corpus": row(
        {"corpora__tones__kind": "manifests"}, "corpora.tones: unknown kind", "'manifest'?"
    ),
    "unknown kind of an upstream": row(
        {"upstreams__mini__kind": "transformer"}, "upstreams.mini: unknown", "'transformers'?"
    ),
    "unknown corpus": row({"tasks__ks__corpus": "tone"}, "tasks.ks.corpus", "'tone'", "'tones'?"),
    "unknown interface": row({"interfaces": {"meen": {}}}, "interfaces.meen", "'mean'?"),
    "unknown batches": row({"training__batches": "slidng"}, "training.batches", "'slidng'"),
    "batches of neighbours in seconds": row(
        {"training__batches": "sorted", "training__batch_seconds": 8.0},
        "training: batches: 'sorted' needs batch_utterances; found batch_seconds 8",
    ),
    "batches of neighbours with balance": row(
        {**UTTERANCES, "training__batches": "sliding", "training__balance": True},
        "training: batches: 'sliding' and balance exclude each other; use 'random'",
    ),
    "neighbours that do not divide the batch": row(
        {**UTTERANCES, "training__batches": "sorted", "training__neighbours": 5},
        "training: neighbours: expected a divisor of batch_utterances 8; found 5",
    ),
    "neighbours of buckets": row(
        {**UTTERANCES, "training__neighbours": 4},
        "training: neighbours: expected batches: random, sorted or sliding; found 'buckets'",
    ),
    "last batch of another way": row(
        {**UTTERANCES, "training__batches": "random", "training__last_batch": "shared"},
        "training: last_batch: expected filled or smaller; found 'shared' with batches: 'random'",
    ),
    "half of a batch that is sorted": row(
        {**UTTERANCES, "training__batches": "sorted", "training__halve_seconds": 9.0},
        "training: halve_seconds: expected batches: sliding; found 'sorted'",
    ),
    "wrong type": row({"training__steps": "many"}, "training.steps", "integer", "found 'many'"),
    "a fraction of a step": row({"training__steps": 1.5}, "training.steps", "found 1.5"),
    "a switch that is a word": row({"normalize": "yes please"}, "normalize", "'yes please'"),
    "an entry that is a word": row({"upstreams__mini": "hubert"}, "upstreams.mini", "'hubert'"),
    "an interface with its options in a list": row(
        {"interfaces": [{"mean": {"layers": [0]}}]}, "interfaces: ", "dictionary", "found [{'mean'"
    ),
    "interfaces of a task in mappings": row(
        {"tasks__ks__interfaces": [{"mean": {}}]}, "tasks.ks.interfaces", "{'mean': {}}"
    ),
    "tasks of an average in mappings": row({"averages": {"a": [{"ks": 1}]}}, "averages.a"),
    "no task": row({"tasks": {}}, "tasks: ", "at least 1", "found {}"),
    "no interface": row({"interfaces": []}, "interfaces: ", "at least 1", "found {}"),
    "no seed": row({"seeds": 0}, "seeds: ", "at least 1", "found ()"),
    "no learning rate": row(
        {"sweep": {"learning_rates": []}}, "sweep.learning_rates", "at least 1"
    ),
    "no sweep": row({"sweep": ...}, "sweep: missing", "or learning_rates (a table"),
    "a seed twice": row({"seeds": [1, 1]}, "seeds: each once, found [1, 1]"),
    "an interface twice": row({"interfaces": ["mean", "mean"]}, "interfaces: each once", "mean"),
    "an interface of a task twice": row(
        {"tasks__ks__interfaces": ["mean", "mean"]}, "tasks.ks.interfaces: each once", "'mean'"
    ),
    "a learning rate that is not positive": row(
        {"sweep": {"learning_rates": [0.0]}}, "sweep.learning_rates", "greater than 0", "found 0"
    ),
    "a learning rate that is no number": row(
        {"sweep": {"learning_rates": [float("nan")]}}, "sweep.learning_rates", "found nan"
    ),
    "an infinite learning rate": row(
        {"sweep": {"learning_rates": [float("inf")]}}, "sweep.learning_rates", "found inf"
    ),
    "a cache of no size": row({"cache_gb": -1.0}, "cache_gb", "greater than 0", "found -1"),
    "a name that is no folder's": row(
        {"tasks": {"k s": TASK}}, "tasks.k s: not a usable name", "lower case"
    ),
    "a number for a name": row({"tasks": {1: TASK}}, "tasks", "string", "1"),
    "a table of learning rates that is not there": of_table(
        "none.csv", "learning_rates: none.csv: no such file"
    ),
    "the same with a ceiling": of_table(
        {"table": "none.csv", "at_most": 0.01}, "learning_rates: none.csv: no such file"
    ),
    "a ceiling without a table": of_table({"at_most": 0.01}, "missing key 'learning_rates.table'"),
    "a ceiling of zero": of_table(
        {"table": "rates.csv", "at_most": 0}, "learning_rates.at_most: ", "greater than 0, found 0"
    ),
    "a ceiling below zero": of_table(
        {"table": "rates.csv", "at_most": -0.01}, "learning_rates.at_most: ", "found -0.01"
    ),
    "a ceiling that is no number": of_table(
        {"table": "rates.csv", "at_most": float("nan")}, "learning_rates.at_most: ", "found nan"
    ),
    "an infinite ceiling": of_table(
        {"table": "rates.csv", "at_most": float("inf")}, "learning_rates.at_most: ", "found inf"
    ),
    "a ceiling in words": of_table(
        {"table": "rates.csv", "at_most": "low"}, "learning_rates.at_most: ", "found 'low'"
    ),
    "a ceiling misspelt": of_table(
        {"table": "rates.csv", "atmost": 0.01},
        "unknown key 'learning_rates.atmost'; did you mean 'at_most'?",
    ),
    "learning rates in a list": of_table(
        [0.01], "learning_rates: expected the name of a table, or {table: …, at_most: …}", "[0.01]"
    ),
    "a name twice": Row(
        CHECK,
        _twice,
        (
            "study.yaml: line",
            "key 'ks' stands twice",
        ),
    ),
    "not YAML": Row(CHECK, text("study.yaml", "name: [tiny\n"), ("study.yaml: not YAML", "line 2")),
    "not UTF-8": Row(CHECK, text("study.yaml", b"name: \xff"), ("study.yaml: not UTF-8",)),
    "an empty file": Row(CHECK, text("study.yaml", ""), ("study.yaml: expected a mapping",)),
    "a list": Row(CHECK, text("study.yaml", "- a\n"), ("study.yaml: expected", "found list")),
    "an alias within itself": Row(
        CHECK, text("study.yaml", "a: &a {b: *a}\n"), ("study.yaml: an alias (*name) stands",)
    ),
    "another object than data": Row(
        CHECK,
        text("study.yaml", "a: !!python/object/apply:os.mkdir [ran]\n"),
        ("study.yaml: not YAML", "python/object/apply:os.mkdir", "line 1"),
    ),
    "a folder": Row("ssl_bench check --study audio", nothing, ("audio: no such study file",)),
    "a file that is not there": Row(
        "ssl_bench check --study studdy.yaml",
        nothing,
        ("studdy.yaml: no such study file; did you mean 'study.yaml'?",),
    ),
    "one in the folder of studies": Row(
        "ssl_bench gpus --study config/studdy.yaml",
        text("config/study.yaml", ""),
        ("config/studdy.yaml: no such study file; did you mean 'config/study.yaml'?",),
    ),
    "a device that is not there, before anything runs": Row(
        "ssl_bench gpus --study study.yaml",
        keys(device="cuda"),
        ("device: the study asks for cuda, found no GPU; use auto or cpu",),
    ),
    "JSON that is cut off": Row(
        "ssl_bench check --study s.json",
        text("s.json", '{"name": "t'),
        ("s.json: not JSON", "line 1"),
    ),
    "a key twice in JSON": Row(
        "ssl_bench check --study s.json",
        text("s.json", '{"name": "a", "name": "b"}'),
        ("s.json: key 'name' stands twice",),
    ),
    "unknown stage": Row("ssl_bench crpus", nothing, ("no such command 'crpus'", "'corpus'")),
    "unknown option": Row(f"{CHECK} --missin", nothing, ("no such option: --missin", "--missing")),
    "option missing": Row("ssl_bench corpus --name tones", nothing, ("missing option '--study'",)),
    "option without its value": Row("ssl_bench check --study", nothing, ("'--study' requires",)),
    "unknown corpus of a stage": Row(
        "ssl_bench corpus --study study.yaml --name tone",
        nothing,
        ("unknown corpus 'tone'; did you mean 'tones'?",),
    ),
    "unknown job of a stage": Row(
        "ssl_bench train --study study.yaml --task ks --upstream mini --pack men",
        nothing,
        ("unknown pack 'men'; did you mean 'mean'?",),
    ),
    "unknown cell": Row(
        "ssl_bench why ks/mini/men --study study.yaml",
        nothing,
        ("no cell 'ks/mini/men'", "did you mean 'ks/mini/mean'?"),
    ),
    "unknown corpus to download": Row(
        "ssl_bench download --corpus librispeach --to x",
        nothing,
        ("'librispeach'", "did you mean 'librispeech'?"),
    ),
}
