"""A study: what is wrong with it is told in one line; its grid; what a change re-runs."""

import copy
import json
from pathlib import Path

import pytest
import yaml

from ssl_bench.errors import StudyError
from ssl_bench.study import Cell, Study, from_snakemake, load, parse, save

RAW = {
    "name": "small",
    "seeds": 2,
    "corpora": {
        "words": {"kind": "synthetic", "recipe": "keywords", "train": 40},
        "mine": {"kind": "manifest", "path": "list.tsv"},
    },
    "upstreams": {
        "fbank": {"kind": "fbank", "interfaces": ["last"]},
        "mini": {"kind": "transformers", "model": "models/hubert-mini-13"},
    },
    "tasks": {
        "pr": {"kind": "pr", "corpus": "words"},
        "ks": {"kind": "ks", "corpus": "mine", "training": {"steps": 7}},
    },
    "interfaces": {
        "last": {},
        "weighted_sum": {},
        "hconv": {},
        "grouped_2": {"kind": "grouped_weighted_sum", "groups": 2},
        "single_layer": {"layer": "each"},
    },
    "training": {"steps": 50},
    "sweep": {"learning_rates": [1e-3, 1e-2]},
    "similarity": {"mini": "words"},
}
DELETE = object()


def changed(path: str, value: object) -> dict:
    """Return the study with one key set, or deleted; ``path`` is dotted."""
    raw = copy.deepcopy(RAW)
    *parents, last = path.split(".")
    place = raw
    for name in parents:
        place = place[name]
    if value is DELETE:
        del place[last]
    else:
        place[last] = value
    return raw


def line_of(raw: dict) -> str:
    with pytest.raises(StudyError) as caught:
        parse(raw, "my.yaml")
    line = str(caught.value)
    assert line.startswith("my.yaml: ")
    assert "\n" not in line
    return line


BAD = {
    # unknown keys, at every level, with the nearest known one
    "study key": ("interface", {}, ["unknown key 'interface'", "did you mean 'interfaces'?"]),
    "training key": ("training.step", 3, ["'training.step'", "did you mean 'steps'?"]),
    "sweep key": ("sweep.learning_rate", 3, ["'sweep.learning_rate'", "'learning_rates'?"]),
    "corpus key": ("corpora.mine.pth", "x", ["corpora.mine", "'pth'", "did you mean 'path'?"]),
    "synthetic key": ("corpora.words.trian", 1, ["'trian'", "did you mean 'train'?"]),
    "upstream key": ("upstreams.mini.modle", "x", ["upstreams.mini", "did you mean 'model'?"]),
    "task key": ("tasks.pr.coprus", "x", ["tasks.pr", "'coprus'", "did you mean 'corpus'?"]),
    "task training key": ("tasks.ks.training.stepz", 1, ["tasks.ks.training", "'steps'?"]),
    "interface option": ("interfaces.hconv.kernl", 3, ["interfaces.hconv", "kernl"]),
    # unknown names
    "corpus kind": ("corpora.mine.kind", "manifst", ["corpora", "did you mean 'manifest'?"]),
    "upstream kind": ("upstreams.mini.kind", "transformer", ["did you mean 'transformers'?"]),
    "task kind": ("tasks.pr.kind", "prr", ["tasks", "unknown kind 'prr'", "'pr'?"]),
    "interface": ("interfaces.hcon", {}, ["interfaces.hcon", "did you mean 'hconv'?"]),
    "interface kind": ("interfaces.x", {"kind": "concta"}, ["interfaces.x", "'concat'?"]),
    "corpus of a task": ("tasks.pr.corpus", "word", ["tasks.pr.corpus", "did you mean 'words'?"]),
    "interfaces of an upstream": (
        "upstreams.fbank.interfaces",
        ["lst"],
        ["upstreams.fbank.interfaces", "did you mean 'last'?"],
    ),
    "interfaces of a task": (
        "tasks.pr.interfaces",
        ["hconvv"],
        ["tasks.pr.interfaces", "did you mean 'hconv'?"],
    ),
    "upstream of similarity": ("similarity", {"min": "words"}, ["similarity", "'mini'?"]),
    "corpus of similarity": ("similarity", {"mini": "word"}, ["similarity.mini", "'words'?"]),
    # missing
    "name missing": ("name", DELETE, ["missing key 'name'"]),
    "tasks missing": ("tasks", DELETE, ["missing key 'tasks'"]),
    "kind missing": ("tasks.pr.kind", DELETE, ["tasks.pr", "missing key 'kind'", "known: asr"]),
    "corpus missing": ("tasks.pr.corpus", DELETE, ["tasks.pr", "missing key 'corpus'"]),
    "model missing": ("upstreams.mini.model", DELETE, ["upstreams.mini", "missing key 'model'"]),
    "sweep missing": ("sweep", DELETE, ["sweep: missing", "learning_rates"]),
    # empty axes
    "no corpora": ("corpora", {}, ["corpora: "]),
    "no upstreams": ("upstreams", {}, ["upstreams: "]),
    "no tasks": ("tasks", {}, ["tasks: "]),
    "no interfaces": ("interfaces", {}, ["interfaces: "]),
    "no seeds": ("seeds", 0, ["seeds: "]),
    "no rates": ("sweep.learning_rates", [], ["sweep.learning_rates: "]),
    "no sweep seeds": ("sweep.seeds", [], ["sweep.seeds: "]),
    # wrong types and values
    "steps a string": ("training.steps", "many", ["training.steps", "integer", "'many'"]),
    "steps a fraction": ("training.steps", 1.5, ["training.steps", "integer", "1.5"]),
    "steps zero": ("training.steps", 0, ["training.steps", "greater than or equal to 1"]),
    "task steps": ("tasks.ks.training.steps", "x", ["tasks.ks.training", "steps", "'x'"]),
    "task training a number": ("tasks.ks.training", 5, ["tasks.ks.training", "5"]),
    "task training empty": ("tasks.ks.training", None, ["tasks.ks.training", "None"]),
    "a task's job": ("tasks.ks.job", "task", ["tasks.ks.job", "interface or stream", "'task'"]),
    "device": ("device", "gpu", ["device: ", "'gpu'", "'cuda'"]),
    "normalize": ("normalize", "yes please", ["normalize: ", "true or false"]),
    "optimizer": ("training.optimizer", "sgd", ["training.optimizer", "'adamw'", "'sgd'"]),
    "seeds a word": ("seeds", "two", ["seeds: ", "'two'"]),
    "seeds below zero": ("seeds", [0, -1], ["seeds", "-1"]),
    "seeds twice": ("seeds", [1, 1], ["seeds: expected each once", "[1, 1]"]),
    "sweep seeds twice": ("sweep.seeds", [1, 1], ["sweep.seeds: expected each once"]),
    "rate not positive": ("sweep.learning_rates", [0], ["sweep.learning_rates", "greater than 0"]),
    "rates twice": ("sweep.learning_rates", [1e-3, 0.001], ["sweep.learning_rates", "each once"]),
    "rate a word": ("sweep.learning_rates", ["fast"], ["sweep.learning_rates", "'fast'"]),
    "rates a number": ("sweep.learning_rates", 1e-3, ["sweep.learning_rates", "0.001"]),
    "entry a string": ("upstreams.mini", "hubert", ["upstreams.mini", "'hubert'"]),
    "entry a number": ("interfaces.hconv", 5, ["interfaces.hconv", "5"]),
    "corpora a list": ("corpora", ["words"], ["corpora: "]),
    "interfaces a string": ("interfaces", "hconv", ["interfaces: ", "'hconv'"]),
    "interfaces with a number": ("interfaces", ["last", 3], ["interfaces", "3"]),
    "kind a number": ("tasks.pr.kind", 3, ["tasks.pr", "kind", "3"]),
    "kind a list": ("interfaces.hconv.kind", ["x"], ["interfaces.hconv", "['x']"]),
    "interfaces of upstream a string": (
        "upstreams.fbank.interfaces",
        "last",
        ["upstreams.fbank.interfaces", "a list", "'last'"],
    ),
    "interfaces of task none": (
        "tasks.pr.interfaces",
        None,
        ["tasks.pr.interfaces", "a list", "None"],
    ),
    "interfaces of task by an upstream that is not there": (
        "tasks.pr.interfaces",
        {"min": ["last"]},
        ["tasks.pr.interfaces", "unknown upstream 'min'", "mini"],
    ),
    "interfaces of task by upstream not a list": (
        "tasks.pr.interfaces",
        {"mini": "last"},
        ["tasks.pr.interfaces.mini", "a list", "'last'"],
    ),
    "interfaces of task by upstream unknown": (
        "tasks.pr.interfaces",
        {"mini": ["hcomv"]},
        ["tasks.pr.interfaces.mini", "unknown 'hcomv'", "hconv"],
    ),
    "interfaces of upstream by upstream": (
        "upstreams.fbank.interfaces",
        {"fbank": ["last"]},
        ["upstreams.fbank.interfaces", "a list"],
    ),
    "option's type": ("interfaces.grouped_2.groups", "two", ["interfaces.grouped_2", "'two'"]),
    "option's value": ("interfaces.grouped_2.groups", 0, ["interfaces.grouped_2", "0"]),
    "synthetic value": ("corpora.words.train", "all", ["corpora.words", "train", "'all'"]),
    "manifest without a list": ("corpora.mine.path", DELETE, ["manifest", "path"]),
    # names that become folders and wildcards
    "study name": ("name", "My study", ["name: ", "'My study'"]),
    "task named all": ("interfaces.all", {"kind": "hconv"}, ["interfaces.all", "name"]),
    "name with a slash": ("tasks.a/b", {"kind": "pr", "corpus": "words"}, ["tasks.a/b", "name"]),
    "name with a blank": ("corpora.my words", RAW["corpora"]["mine"], ["corpora.my words", "name"]),
    "name in capitals": ("upstreams.HuBERT", RAW["upstreams"]["mini"], ["upstreams.HuBERT"]),
    "name of dots": ("interfaces...", {"kind": "hconv"}, ["interfaces", "name"]),
    "name a number": ("corpora", {1: RAW["corpora"]["mine"]}, ["corpora"]),
    "table of rates missing": ("learning_rates", "none.csv", ["learning_rates", "none.csv"]),
}


@pytest.mark.parametrize(("path", "value", "parts"), BAD.values(), ids=BAD)
def test_a_bad_study_is_told_in_one_line(path: str, value: object, parts: list[str]) -> None:
    if path == "interfaces...":  # the dots are the name
        raw = copy.deepcopy(RAW)
        raw["interfaces"][".."] = value
    else:
        raw = changed(path, value)
    if path == "learning_rates":
        del raw["sweep"]
    line = line_of(raw)
    for part in parts:
        assert part in line


def test_the_study_that_the_table_spoils_is_good() -> None:
    assert isinstance(parse(RAW), Study)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("name: [unclosed\n", "not YAML"),
        ("- a\n- b\n", "expected a mapping of keys, found a list"),
        ("", "expected a mapping of keys, found nothing"),
        ("just words\n", "found 'just words'"),
        ("name: a\nname: b\n\ttab: x\n", "not YAML"),
        (b"name: \xff\xfe\n", "not UTF-8"),
    ],
)
def test_a_file_that_is_no_study(tmp_path, text: str | bytes, part: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(StudyError) as caught:
        load(path)
    line = str(caught.value)
    assert line.startswith(f"{path}: ")
    assert part in line
    assert "\n" not in line


def test_a_missing_file(tmp_path) -> None:
    with pytest.raises(StudyError, match=r"nowhere\.yaml: no such study file"):
        load(tmp_path / "nowhere.yaml")


# ---- what is taken as it is meant


@pytest.mark.parametrize(
    ("text", "number"),
    [("1e-4", 1e-4), ("5.0e-4", 5e-4), ("2E3", 2e3), ("5.e-3", 5e-3), ("1e+1", 10.0)],
)
def test_numbers_with_an_exponent_are_numbers(tmp_path, text: str, number: float) -> None:
    path = tmp_path / "study.yaml"
    raw = changed("sweep", DELETE)
    path.write_text(f"{yaml.safe_dump(raw)}sweep: {{learning_rates: [{text}]}}\n")
    study = load(path)
    assert study.sweep is not None
    assert study.sweep.learning_rates == (number,)


def test_seeds_as_a_number_or_a_list() -> None:
    assert parse(changed("seeds", 3)).seeds == (0, 1, 2)
    assert parse(changed("seeds", [5, 2])).seeds == (5, 2)


def test_interfaces_as_a_list_or_a_mapping() -> None:
    raw = changed("interfaces", ["last", "hconv"])
    assert parse(raw).interfaces == {"last": {}, "hconv": {}}
    raw["interfaces"] = {"last": None, "hconv": {}}
    assert parse(raw).interfaces == {"last": {}, "hconv": {}}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("single_layer", {"layer": 24}),
        ("pca_concat", {"components": 48}),
        ("cls_pooling", {"heads": 12}),
        ("weighted_sum", {"layers": [0, 6, 12, 18, 24]}),
    ],
)
def test_options_that_only_a_large_upstream_allows_pass(name: str, options: dict) -> None:
    raw = changed("interfaces", {"last": {}, name: options})
    assert parse(raw).interface_options(name) == (name, options)


# ---- the grid


def test_cells_and_jobs() -> None:
    study = parse(RAW)
    assert len(study.cells()) == 2 * (1 + 5)
    assert Cell("pr", "fbank", "last") in study.cells()
    assert Cell("pr", "fbank", "hconv") not in study.cells()
    assert study.packs("pr", "mini") == list(RAW["interfaces"])
    assert study.packs("pr", "fbank") == ["last"]
    assert study.interfaces_in("pr", "mini", "hconv") == ["hconv"]

    stream = parse({**RAW, "job": "stream"})
    assert stream.cells() == study.cells()
    assert stream.packs("pr", "mini") == ["all"]
    assert stream.interfaces_in("pr", "mini", "all") == list(RAW["interfaces"])
    assert stream.interfaces_in("pr", "fbank", "all") == ["last"]


def test_a_task_may_leave_interfaces_out() -> None:
    study = parse(changed("tasks.pr.interfaces", ["weighted_sum"]))
    assert study.interfaces_of("pr", "mini") == ["weighted_sum"]
    assert study.interfaces_of("pr", "fbank") == []
    stream = parse({**changed("tasks.pr.interfaces", ["weighted_sum"]), "job": "stream"})
    assert stream.packs("pr", "fbank") == []


def test_a_task_may_have_jobs_of_its_own() -> None:
    study = parse({**changed("tasks.ks.job", "interface"), "job": "stream"})
    assert study.packs("ks", "mini") == list(RAW["interfaces"])
    assert study.packs("pr", "mini") == ["all"]
    cell = Cell("ks", "mini", "hconv")
    assert study.fingerprint(cell) == parse({**RAW, "job": "stream"}).fingerprint(cell)


def test_a_task_may_choose_interfaces_by_upstream() -> None:
    chosen = {"mini": ["hconv", "last"], "fbank": ["last"]}
    study = parse(changed("tasks.pr.interfaces", chosen))
    assert study.interfaces_of("pr", "mini") == ["last", "hconv"]  # in the study's order
    assert study.interfaces_of("pr", "fbank") == ["last"]
    plain = parse(RAW)
    assert study.interfaces_of("ks", "mini") == plain.interfaces_of("ks", "mini")
    for cell in study.cells():
        assert study.fingerprint(cell) == plain.fingerprint(cell)

    alone = parse({**changed("tasks.pr.interfaces", {"mini": ["hconv"]}), "job": "stream"})
    assert alone.packs("pr", "fbank") == []
    # What the upstream leaves out stays out.
    more = parse(changed("tasks.pr.interfaces", {"fbank": ["last", "hconv"]}))
    assert more.interfaces_of("pr", "fbank") == ["last"]
    assert more.interfaces_of("pr", "mini") == []


def test_a_tasks_training_is_on_top_of_the_studys() -> None:
    study = parse(changed("training.clip", 0.5))
    assert (study.training_of("ks").steps, study.training_of("ks").clip) == (7, 0.5)
    assert study.training_of("pr").steps == 50


EVERYTHING = {
    (task, upstream, interface)
    for task in RAW["tasks"]
    for upstream in RAW["upstreams"]
    for interface in RAW["interfaces"]
    if upstream != "fbank" or interface == "last"
}


@pytest.mark.parametrize(
    ("path", "value", "hit"),
    [
        ("training.steps", 51, lambda t, u, i: t == "pr"),  # ks has its own
        ("tasks.ks.training.steps", 8, lambda t, u, i: t == "ks"),
        ("tasks.pr.hidden", 12, lambda t, u, i: t == "pr"),
        ("corpora.words.train", 41, lambda t, u, i: t == "pr"),
        ("upstreams.mini.untrained", True, lambda t, u, i: u == "mini"),
        ("interfaces.hconv.layers", [0, 1, 2], lambda t, u, i: i == "hconv"),
        ("interfaces.last.layers", [0, 1, 2], lambda t, u, i: i == "last"),
        ("seeds", 3, lambda t, u, i: True),
        ("sweep.learning_rates", [1e-3], lambda t, u, i: True),
        ("normalize", False, lambda t, u, i: True),
        # no number depends on these
        ("title", "x", lambda t, u, i: False),
        ("cache", "live", lambda t, u, i: False),
        ("device", "cpu", lambda t, u, i: False),
        ("similarity", {}, lambda t, u, i: False),
        ("upstreams.fbank.interfaces", ["last", "hconv"], lambda t, u, i: False),
        ("tasks.ks.interfaces", ["last", "hconv"], lambda t, u, i: False),
        ("interfaces.mean", {}, lambda t, u, i: False),
    ],
)
def test_a_change_reaches_the_cells_that_it_determines(path: str, value: object, hit) -> None:
    before, after = parse(RAW), parse(changed(path, value))
    for cell in EVERYTHING:
        same = before.slice(*cell) == after.slice(*cell)
        assert same is not hit(*cell), cell
        assert (before.fingerprint(Cell(*cell)) == after.fingerprint(Cell(*cell))) is same
    assert json.loads(before.slice("pr", "mini", "hconv"))["interfaces"] == {"hconv": {}}


def test_no_two_cells_share_a_fingerprint_or_a_folder() -> None:
    study = parse(RAW)
    cells = study.cells()
    assert len({study.fingerprint(cell) for cell in cells}) == len(cells)
    assert len({study.pack_dir(*cell) for cell in cells}) == len(cells)


@pytest.mark.parametrize(
    ("device", "promised", "shown", "asks"),
    [
        (None, False, False, False),
        (None, True, False, True),
        (None, False, True, True),
        ("auto", True, False, False),
        ("auto", False, True, True),
        ("cpu", True, True, False),
        ("cuda", False, False, True),
    ],
)
def test_which_jobs_ask_for_a_gpu(monkeypatch, device, promised, shown, asks) -> None:
    files = [Path("/dev/nvidia0")] if shown else []
    monkeypatch.setattr(Path, "glob", lambda self, pattern: iter(files))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    study = parse({**RAW, "device": device})
    assert study.uses_gpu(promised) is asks
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # a user's way to say: none
    hidden = device == "cuda" or (device is None and promised)
    assert study.uses_gpu(promised) is hidden


# ---- what snakemake gives


def test_snakemake_takes_the_default_with_keys_on_top(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    default = tmp_path / "default.yaml"
    default.write_text(yaml.safe_dump(RAW))
    assert from_snakemake({}, str(default)).seeds == (0, 1)
    assert from_snakemake({"seeds": 3, "device": "cpu"}, str(default)).seeds == (0, 1, 2)
    with pytest.raises(StudyError, match="unknown key 'seed'; did you mean 'seeds'"):
        from_snakemake({"seed": 3}, str(default))
    assert from_snakemake({**RAW, "name": "other"}, str(default)).name == "other"


def test_the_resolved_study_reads_back_the_same(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    study = from_snakemake(changed("sweep.learning_rates", [1e-5, 2e-3]), "")
    assert not study.resolved.exists()
    save(study)
    assert load(study.resolved) == study
    written = study.resolved.stat().st_mtime_ns
    save(study)
    assert study.resolved.stat().st_mtime_ns == written


def test_null_takes_a_key_of_an_upstream_back():
    """Snakemake merges a second file into the first and cannot delete."""
    raw = changed("upstreams.mini", {"kind": "fbank", "model": None, "mels": 40})
    study = parse(raw)
    assert study.upstreams["mini"] == {"kind": "fbank", "mels": 40}
    assert study.upstream_config("mini").mels == 40


def test_a_resolved_study_that_is_cut_off_is_one_line(tmp_path):
    path = tmp_path / "study.json"
    path.write_text('{"name": "small", "seeds"')
    with pytest.raises(StudyError, match=r"study.json: not JSON: .*line 1 column") as caught:
        load(path)
    assert "\n" not in str(caught.value)
