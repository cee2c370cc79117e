"""Bad studies, and bad words on the command line."""

from pathlib import Path

import yaml
from bad_inputs.house import CHECK, Row, keys, nothing, study, text


def _twice() -> None:
    raw = yaml.safe_dump(study(), sort_keys=False)
    Path("study.yaml").write_text(
        raw.replace("tasks:\n", "tasks:\n  ks: {kind: ks, corpus: tones}\n")
    )


def row(changed: dict[str, object], key: str, found: str, expected: str) -> Row:
    """Return the row of a study with keys changed; ``key`` is that which the line names."""
    return Row(CHECK, keys(**changed), f"study.yaml: {key}", found, expected)


def of_table(rates: object, key: str, found: str, expected: str) -> Row:
    """Return the row of a study that takes its learning rates so."""
    return row({"sweep": ..., "learning_rates": rates}, key, found, expected)


UTTERANCES = {"training__batch_seconds": ..., "training__batch_utterances": 8}
TASK = {"kind": "ks", "corpus": "tones"}
ROWS = {
    "unknown key": row(
        {"interfacez": {}},
        "",
        "unknown key 'interfacez'",
        "did you mean 'interfaces'? known: averages, cache",
    ),
    "unknown key in place of another": row(
        {"seeds": ..., "seedz": 2},
        "",
        "unknown key 'seedz'",
        "did you mean 'seeds'? known: averages, cache",
    ),
    "unknown key below": row(
        {"training__step": 3},
        "",
        "unknown key 'training.step'",
        "did you mean 'steps'? known: average, balance",
    ),
    "unknown key of a task": row(
        {"tasks__ks__coprus": "x"},
        "tasks.ks",
        "unknown key 'coprus'",
        "did you mean 'corpus'? known: activation, column",
    ),
    "key missing": row(
        {"tasks": ...},
        "",
        "missing key 'tasks'; found: name, device, cache, seeds",
        "expected: name, seeds, corpora, upstreams, tasks, interfaces",
    ),
    "kind missing": row(
        {"tasks__ks__kind": ...},
        "tasks.ks",
        "missing key 'kind'; found: corpus, hidden",
        "known: asr, er",
    ),
    "unknown kind": row(
        {"tasks__ks__kind": "kss"},
        "tasks.ks",
        "unknown kind 'kss'",
        "did you mean 'ks'? known: asr, er",
    ),
    "unknown kind of a corpus": row(
        {"corpora__tones__kind": "manifests"},
        "corpora.tones",
        "unknown kind 'manifests'",
        "did you mean 'manifest'? known: fluent",
    ),
    "unknown kind of an upstream": row(
        {"upstreams__mini__kind": "transformer"},
        "upstreams.mini",
        "unknown kind 'transformer'",
        "did you mean 'transformers'? known: fbank",
    ),
    "unknown corpus": row(
        {"tasks__ks__corpus": "tone"},
        "tasks.ks.corpus",
        "unknown 'tone'",
        "did you mean 'tones'? known: tones",
    ),
    "unknown interface": row(
        {"interfaces": {"meen": {}}},
        "interfaces.meen",
        "unknown 'meen'",
        "did you mean 'mean'? known: attm",
    ),
    "unknown batches": row(
        {"training__batches": "slidng"},
        "training.batches",
        "found 'slidng'",
        "expected 'buckets', 'random', 'sorted' or 'sliding'",
    ),
    "unknown frames": row(
        {"training__frames": "cel"},
        "training.frames",
        "found 'cel'",
        "expected 'encoder' or 'ceil'",
    ),
    "batches of neighbours in seconds": row(
        {"training__batches": "sorted", "training__batch_seconds": 8.0},
        "tasks.ks: training: batches: 'sorted'",
        "found batch_seconds 8",
        "expected batch_utterances",
    ),
    "batches of neighbours with balance": row(
        {**UTTERANCES, "training__batches": "sliding", "training__balance": True},
        "tasks.ks: training: batches",
        "found 'sliding'",
        "with balance expected 'random' or 'buckets'",
    ),
    "neighbours that do not divide the batch": row(
        {**UTTERANCES, "training__batches": "sorted", "training__neighbours": 5},
        "tasks.ks: training: neighbours",
        "found 5",
        "expected a divisor of batch_utterances 8",
    ),
    "neighbours of buckets": row(
        {**UTTERANCES, "training__neighbours": 4},
        "tasks.ks: training: neighbours",
        "found 'buckets'",
        "expected batches: random, sorted or sliding",
    ),
    "last batch of another way": row(
        {**UTTERANCES, "training__batches": "random", "training__last_batch": "shared"},
        "tasks.ks: training: last_batch",
        "found 'shared' with batches: 'random'",
        "expected filled or smaller",
    ),
    "half of a batch that is sorted": row(
        {**UTTERANCES, "training__batches": "sorted", "training__halve_seconds": 9.0},
        "tasks.ks: training: halve_seconds",
        "found 'sorted'",
        "expected batches: sliding",
    ),
    "padding of a group in buckets": row(
        {"training__padding": "group"},
        "tasks.ks: training: padding",
        "found 'group'",
        "with batches: 'buckets' expected 'own'",
    ),
    "buckets that are encoded together": row(
        {"training__encode": "group"},
        "tasks.ks: training: encode: 'group'",
        "found 'buckets'",
        "expected batches: random, sorted or sliding",
    ),
    "crops of states that are encoded together": row(
        {
            **UTTERANCES,
            "training__batches": "random",
            "training__crop_seconds": 1.0,
            "training__encode": "group",
        },
        "tasks.ks: training: encode: 'group'",
        "found 'states'",
        "expected crop: waveform",
    ),
    "another kind's upstream that encodes together": row(
        {**UTTERANCES, "training__batches": "random", "training__encode": "group"},
        "tasks.ks: training: encode: 'group': upstreams.mini",
        "found 'transformers'",
        "expected kind 's3prl'",
    ),
    "no utterance that is scored together": row(
        {"training__scored_utterances": 0},
        "training.scored_utterances",
        "found 0",
        "expected a number greater than or equal to 1",
    ),
    "a padded dev loss that is scored together": row(
        {
            **UTTERANCES,
            **{"training__batches": "random", "training__encode": "group"},
            **{"training__select": "dev_loss", "training__padding": "group"},
            "training__scored_utterances": 4,
        },
        "tasks.ks: training: scored_utterances",
        "found 4",
        "with select: dev_loss and padding: group, which says the batches of dev, expected null",
    ),
    "wrong type": row(
        {"training__steps": "many"}, "training.steps", "found 'many'", "expected an integer"
    ),
    "a fraction of a step": row(
        {"training__steps": 1.5}, "training.steps", "found 1.5", "expected an integer"
    ),
    "a switch that is a word": row(
        {"normalize": "yes please"}, "normalize", "found 'yes please'", "expected true or false"
    ),
    "an entry that is a word": row(
        {"upstreams__mini": "hubert"}, "upstreams.mini", "found 'hubert'", "expected a mapping"
    ),
    "an interface with its options in a list": row(
        {"interfaces": [{"mean": {"layers": [0]}}]},
        "interfaces",
        "found [{'mean'",
        "expected a list of names, or a mapping of names to options",
    ),
    "interfaces of a task in mappings": row(
        {"tasks__ks__interfaces": [{"mean": {}}]},
        "tasks.ks.interfaces",
        "unknown {'mean': {}}",
        "did you mean 'mean'? known: mean",
    ),
    "tasks of an average in mappings": row(
        {"averages": {"a": [{"ks": 1}]}}, "averages.a", "found [{'ks': 1}]", "expected a mapping"
    ),
    "no task": row({"tasks": {}}, "tasks", "found {}", "expected at least 1 entry"),
    "no interface": row({"interfaces": []}, "interfaces", "found []", "expected at least 1 entry"),
    "no seed": row({"seeds": 0}, "seeds", "found 0", "expected at least 1 entry"),
    "no learning rate": row(
        {"sweep": {"learning_rates": []}},
        "sweep.learning_rates",
        "found []",
        "expected at least 1 entry",
    ),
    "no sweep": row(
        {"sweep": ...},
        "sweep",
        "found neither",
        "expected sweep ({} tries each task's published learning rates) or learning_rates",
    ),
    "a seed twice": row({"seeds": [1, 1]}, "seeds", "found [1, 1]", "expected each once"),
    "an interface twice": row(
        {"interfaces": ["mean", "mean"]},
        "interfaces",
        "found ['mean', 'mean']",
        "expected each once",
    ),
    "an interface of a task twice": row(
        {"tasks__ks__interfaces": ["mean", "mean"]},
        "tasks.ks.interfaces",
        "found ['mean', 'mean']",
        "expected each once",
    ),
    "a learning rate that is not positive": row(
        {"sweep": {"learning_rates": [0.0]}},
        "sweep.learning_rates.0",
        "found 0.0",
        "expected a number greater than 0",
    ),
    "a learning rate that is no number": row(
        {"sweep": {"learning_rates": [float("nan")]}},
        "sweep.learning_rates.0",
        "found nan",
        "expected a finite number",
    ),
    "an infinite learning rate": row(
        {"sweep": {"learning_rates": [float("inf")]}},
        "sweep.learning_rates.0",
        "found inf",
        "expected a finite number",
    ),
    "a cache of no size": row(
        {"cache_gb": -1.0}, "cache_gb", "found -1.0", "expected a number greater than 0"
    ),
    "a name that is no folder's": row(
        {"tasks": {"k s": TASK}},
        "tasks.k s",
        "found 'k s'",
        "expected lower case letters, digits, _ . -",
    ),
    "a number for a name": row({"tasks": {1: TASK}}, "tasks.1", "found 1", "expected a string"),
    "a table of learning rates that is not there": of_table(
        "none.csv", "learning_rates: none.csv", "no such file", "expected a CSV of rates"
    ),
    "the same with a ceiling": of_table(
        {"table": "none.csv", "at_most": 0.01},
        "learning_rates: none.csv",
        "no such file",
        "expected a CSV of rates",
    ),
    "a ceiling without a table": of_table(
        {"at_most": 0.01},
        "",
        "missing key 'learning_rates.table'; found: at_most",
        "expected: table",
    ),
    "a ceiling of zero": of_table(
        {"table": "rates.csv", "at_most": 0},
        "learning_rates.at_most",
        "found 0",
        "expected a number greater than 0",
    ),
    "a ceiling below zero": of_table(
        {"table": "rates.csv", "at_most": -0.01},
        "learning_rates.at_most",
        "found -0.01",
        "expected a number greater than 0",
    ),
    "a ceiling that is no number": of_table(
        {"table": "rates.csv", "at_most": float("nan")},
        "learning_rates.at_most",
        "found nan",
        "expected a finite number",
    ),
    "an infinite ceiling": of_table(
        {"table": "rates.csv", "at_most": float("inf")},
        "learning_rates.at_most",
        "found inf",
        "expected a finite number",
    ),
    "a ceiling in words": of_table(
        {"table": "rates.csv", "at_most": "low"},
        "learning_rates.at_most",
        "found 'low'",
        "expected a number",
    ),
    "a ceiling misspelt": of_table(
        {"table": "rates.csv", "atmost": 0.01},
        "",
        "unknown key 'learning_rates.atmost'",
        "did you mean 'at_most'? known: at_most, table",
    ),
    "learning rates in a list": of_table(
        [0.01],
        "learning_rates",
        "found [0.01]",
        "expected the name of a table, or {table: …, at_most: …}",
    ),
    "a name twice": Row(
        CHECK, _twice, "study.yaml: line 18", "key 'ks' stands twice", "expected once"
    ),
    "not YAML": Row(
        CHECK,
        text("study.yaml", "name: [tiny\n"),
        "study.yaml: line 2",
        "found the end",
        "not YAML: expected ',' or ']'",
    ),
    "not UTF-8": Row(
        CHECK,
        text("study.yaml", b"name: \xff"),
        "study.yaml",
        "found the byte 0xff in line 1",
        "not UTF-8",
    ),
    "an empty file": Row(
        CHECK, text("study.yaml", ""), "study.yaml", "found nothing", "expected a mapping of keys"
    ),
    "a list": Row(
        CHECK,
        text("study.yaml", "- a\n"),
        "study.yaml",
        "found a list",
        "expected a mapping of keys",
    ),
    "an alias within itself": Row(
        CHECK,
        text("study.yaml", "a: &a {b: *a}\n"),
        "study.yaml",
        "found one within it",
        "expected an alias (*name) after what it names",
    ),
    "another object than data": Row(
        CHECK,
        text("study.yaml", "a: !!python/object/apply:os.mkdir [ran]\n"),
        "study.yaml: line 1",
        "found the tag 'tag:yaml.org,2002:python/object/apply:os.mkdir'",
        "expected plain data",
    ),
    "a folder": Row(
        "ssl_bench check --study audio", nothing, "audio", "found a folder", "expected a study file"
    ),
    "a file that is not there": Row(
        "ssl_bench check --study studdy.yaml",
        nothing,
        "studdy.yaml",
        "no such study file",
        "did you mean 'study.yaml'? known: study.yaml",
    ),
    "one in the folder of studies": Row(
        "ssl_bench gpus --study config/studdy.yaml",
        text("config/study.yaml", ""),
        "config/studdy.yaml",
        "no such study file",
        "did you mean 'config/study.yaml'? known: config/study.yaml",
    ),
    "a device that is not there, before anything runs": Row(
        "ssl_bench gpus --study study.yaml",
        keys(device="cuda"),
        "device",
        "asks for cuda, found no GPU",
        "expected auto or cpu",
    ),
    "JSON that is cut off": Row(
        "ssl_bench check --study s.json",
        text("s.json", '{"name": "t'),
        "s.json",
        "found '\"t' at line 1 column 10",
        "not JSON: expected the end of a string",
    ),
    "a key twice in JSON": Row(
        "ssl_bench check --study s.json",
        text("s.json", '{"name": "a", "name": "b"}'),
        "s.json",
        "key 'name' stands twice",
        "expected once",
    ),
    "unknown stage": Row(
        "ssl_bench crpus",
        nothing,
        "python -m ssl_bench",
        "no such command 'crpus'",
        "did you mean 'corpus'? known: check",
    ),
    "unknown option": Row(
        f"{CHECK} --missin",
        nothing,
        "python -m ssl_bench check",
        "no such option '--missin'",
        "did you mean '--missing'? known: --help",
    ),
    "option missing": Row(
        "ssl_bench corpus --name tones",
        nothing,
        "python -m ssl_bench corpus",
        "missing option '--study'; found: --name",
        "expected: --study, --name",
    ),
    "option without its value": Row(
        "ssl_bench check --study",
        nothing,
        "python -m ssl_bench",
        "found none",
        "expected a value after '--study'",
    ),
    "argument missing": Row(
        "ssl_bench why --study study.yaml",
        nothing,
        "python -m ssl_bench why",
        "missing argument 'CELL'; found: --study",
        "expected: CELL, --study",
    ),
    "unknown corpus of a stage": Row(
        "ssl_bench corpus --study study.yaml --name tone",
        nothing,
        "--name",
        "unknown corpus 'tone'",
        "did you mean 'tones'? known: tones",
    ),
    "unknown job of a stage": Row(
        "ssl_bench train --study study.yaml --task ks --upstream mini --pack men",
        nothing,
        "--pack",
        "unknown pack 'men'",
        "did you mean 'mean'? known: all, mean",
    ),
    "unknown cell": Row(
        "ssl_bench why ks/mini/men --study study.yaml",
        nothing,
        "'ks/mini/men'",
        "no cell",
        "expected task/upstream/interface; did you mean 'ks/mini/mean'? known: ks/mini/mean",
    ),
    "unknown corpus to download": Row(
        "ssl_bench download --corpus librispeach --to x",
        nothing,
        "--corpus",
        "unknown kind 'librispeach'",
        "did you mean 'librispeech'? known: fluent",
    ),
}
