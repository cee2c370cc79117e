# Reads the study, derives targets and wildcard constraints. Nothing else belongs here.
import re
import sys
from pathlib import Path

ROOT = Path(str(workflow.current_basedir)).parents[1]
sys.path[:0] = [str(ROOT / "workflow"), str(ROOT / "interfaces"), str(ROOT)]

from analysis import captions, paper
from ssl_bench import inventory
from ssl_bench.alone import claim, writable
from ssl_bench.errors import StudyError
from ssl_bench.planning import work
from ssl_bench.study import from_snakemake, save

DEFAULT = "config/mini.yaml"

try:
    study = from_snakemake(config, DEFAULT, workflow.configfiles)
except StudyError as error:
    sys.exit(f"error: {error}")

R = str(study.results)
W = str(study.work)
LOGS = f"{W}/logs"
TIMES = f"{W}/benchmarks"
TABLES = [
    f"{R}/tables/{name}"
    for name in (
        "results.csv",
        "scores.parquet",
        "sweep.csv",
        "layer_profile.csv",
        "history.csv",
        "costs.csv",
        "similarity.csv",
        *(["averages.csv"] if study.averages else []),
    )
]
DATA = "../report/{}.rst"
"""What a table of the collect rule holds; other captions are made with what they describe."""
CAPTIONS = f"{W}/captions"
PAPER = paper.held(study.cells())
SHARES = work.shares(study)
FIRST = 2
"""Priority of what training waits for: above the share of any training job."""
PROMISED = workflow.resource_settings.resources.get("gpu")
GPU = int(study.uses_gpu(bool(getattr(PROMISED, "value", PROMISED))))


onstart:
    try:
        claim(study.work)
        writable(study.results)
        save(study)
        inventory.check(study, prepared=False)
    except StudyError as error:
        sys.exit(f"error: {error}")


def shown(path, caption, category, title):
    """Mark a file for `snakemake --report`; a caption of the study's own lies in CAPTIONS."""
    own = str(Path(f"{CAPTIONS}/{caption}.rst").absolute())
    text = DATA.format(caption) if category == "Data" else own
    return report(path, caption=text, category=category, labels={"what": title})


def one_of(names):
    return "|".join(map(re.escape, names))


wildcard_constraints:
    corpus=one_of(study.corpora),
    upstream=one_of(study.upstreams),
    task=one_of(study.tasks),
    pack=one_of(["all", *study.interfaces]),


def corpus_table(wildcards):
    return study.corpus_dir(study.tasks[wildcards.task]["corpus"]) / "table.parquet"


def task_features(wildcards):
    corpus = study.tasks[wildcards.task]["corpus"]
    return study.features_dir(wildcards.upstream, corpus) / "features.json"


def packs(name):
    return [
        study.pack_dir(task, upstream, pack) / name
        for task in study.tasks
        for upstream in study.upstreams
        for pack in study.packs(task, upstream)
    ]


def grows(amount):
    """Ask for more with every attempt: a job may have run out of an amount (of its wildcards)."""
    return lambda wildcards, attempt: attempt * (
        amount(wildcards) if callable(amount) else amount
    )


def given_gpu(wildcards, resources):
    """Say whether a job was given a GPU, by Snakemake or by a cluster's `gres`: 1 or 0."""
    return int(bool(resources.get("gpu")) or "gpu" in str(resources.get("gres")))


def training_memory(wildcards):
    return 24000 if study.fine_tune_of(wildcards.upstream) else 6000


def longest_first(wildcards):
    """Start long training jobs before short ones, so that none runs alone in the end."""
    return SHARES[wildcards.task, wildcards.upstream, wildcards.pack]


def folder_of_input(wildcards, input):
    return Path(input[0]).parent


def folder_of_output(wildcards, output):
    return Path(output[0]).parent


def folder_of_texts(wildcards, output):
    return Path(output.texts[0]).parent


def everything():
    pages = [f"{R}/notebooks/{name}.html" for name in ("results", "layers", "explore")]
    return [
        *TABLES,
        f"{R}/tables/comparison.md",
        f"{R}/figures/captions.json",
        *pages,
        f"{R}/report.html",
    ]
