"""The workflow is clean under Snakemake's linter; rules and the catalog have what they need."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ONE_ENVIRONMENT = "Specify a conda environment or container for each rule.:"
"""Not followed: all rules run in the one pinned environment of `make` and environment.yml."""
RULE = re.compile(r"^rule (\w+):\n((?: {4}.*\n|\n)+)", re.MULTILINE)
ON_A_GPU = {"features", "similarity", "sweep", "train", "pretrain"}


@pytest.fixture(scope="module")
def rules(repository: Path) -> dict[str, str]:
    """The text of every rule but `all`, which runs nothing."""
    files = sorted((repository / "workflow" / "rules").glob("*.smk"))
    return dict(match for file in files for match in RULE.findall(file.read_text()))


def test_every_rule_says_what_it_takes(rules: dict[str, str]) -> None:
    assert {"corpus", "upstream", "collect", "crate"} | ON_A_GPU <= set(rules)
    for name, text in rules.items():
        directives = set(re.findall(r"^    (\w+):", text, re.MULTILINE))
        assert {"log", "benchmark", "threads", "resources"} <= directives, name
        amounts = text.split("    resources:\n")[1].split("\n    params:")[0]
        named = set(re.findall(r"^        (\w+)=", amounts, re.MULTILINE))
        assert named == {"mem_mb", "runtime"} | ({"gpu"} if name in ON_A_GPU else set()), name


def test_every_attempt_asks_for_more(rules: dict[str, str], repository: Path) -> None:
    for name, text in rules.items():
        amounts = re.findall(r"^        (?:mem_mb|runtime)=(.*),$", text, re.MULTILINE)
        assert len(amounts) == 2, name
        assert all(re.fullmatch(r"grows\(\w+\)", amount) for amount in amounts), name
    common = (repository / "workflow" / "rules" / "common.smk").read_text()
    names: dict[str, Any] = {}
    exec(re.search(r"^def grows.*?(?=\n\n\n)", common, re.MULTILINE | re.DOTALL)[0], names)
    assert [names["grows"](60)(None, attempt) for attempt in (1, 2, 3)] == [60, 120, 180]
    assert names["grows"](len)("four", 2) == 8


def test_what_training_waits_for_goes_first_and_then_the_longest(rules: dict[str, str]) -> None:
    said = {name: re.search(r"^    priority: (\w+)$", text, re.M) for name, text in rules.items()}
    assert {name: found[1] for name, found in said.items() if found} == {
        **dict.fromkeys(("corpus", "upstream", "features"), "FIRST"),
        **dict.fromkeys(("sweep", "train"), "longest_first"),
    }


def test_a_rule_takes_no_more_threads_than_it_says(rules: dict[str, str]) -> None:
    several = {name for name, text in rules.items() if "    threads: 1\n" not in text}
    assert {"corpus", "features", "pretrain"} <= several
    for name in several:
        assert "{threads}" in rules[name].split("    shell:\n")[1], name


def test_pre_commit_has_every_check(repository: Path) -> None:
    configured = yaml.safe_load((repository / ".pre-commit-config.yaml").read_text())
    entries = [hook["entry"] for repo in configured["repos"] for hook in repo["hooks"]]
    lint = Path(__file__).relative_to(repository).as_posix()
    for tool in ("ruff check", "ruff format", "mypy", "snakefmt", f"pytest -q {lint}"):
        assert any(tool in entry for entry in entries), tool


def test_snakemake_lint_finds_nothing_else(repository: Path) -> None:
    lint = subprocess.run(
        [sys.executable, "-m", "snakemake", "--lint"],
        cwd=repository,
        capture_output=True,
        text=True,
    )
    said = lint.stdout + lint.stderr
    found = {line.strip()[2:] for line in said.splitlines() if line.startswith("    * ")}
    assert found, f"the linter's output is not understood: {said[:500]}"
    assert found == {ONE_ENVIRONMENT}


def plan(repository: Path, folder: Path, *options: str) -> dict[str, int]:
    """Return rule → number of jobs that the smoke study would run in an empty folder."""
    for name in ("config", "models", "notebooks", "profiles"):
        if not (folder / name).exists():
            (folder / name).symlink_to(repository / name)
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--cores", "1"]
    done = subprocess.run(
        [*command, "--configfile", "config/smoke.yaml", *options],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    counts = re.findall(r"^(\w+) +(\d+)$", said.partition("Job stats:")[2], re.MULTILINE)
    return {rule: int(count) for rule, count in counts}


def test_the_catalogs_snakefile_does_what_the_other_does(repository, tmp_path) -> None:
    """The workflow catalog passes a repository over whose workflow/ has no Snakefile."""
    usual = plan(repository, tmp_path, "--snakefile", str(repository / "Snakefile"))
    other = plan(repository, tmp_path, "--snakefile", str(repository / "workflow" / "Snakefile"))
    assert usual.pop("all") == other.pop("study") == 1
    assert usual["train"] == 5
    assert usual == other


@pytest.mark.parametrize(
    ("device", "options", "given"),
    [
        (None, ["--resources", "gpu=0"], "0"),
        (None, ["--resources", "gpu=2"], "1"),
        (None, ["--set-resources", "features:gpu=0", "features:gres=gpu:1"], "1"),
        ("auto", ["--resources", "gpu=2"], "0"),
    ],
)
def test_a_job_is_told_whether_it_was_given_a_gpu(
    repository, tmp_path, monkeypatch, device, options, given
) -> None:
    """On a machine that shows none."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    study = yaml.safe_load((repository / "config" / "smoke.yaml").read_text())
    (tmp_path / "study.yaml").write_text(yaml.safe_dump({**study, "device": device}))
    (tmp_path / "models").symlink_to(repository / "models")
    target = "work/smoke/features/fbank/words/features.json"
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--printshellcmds", "--cores", "1"]
    command += ["--snakefile", str(repository / "Snakefile"), "--configfile", "study.yaml"]
    done = subprocess.run(
        [*command, *options, "--", target], cwd=tmp_path, capture_output=True, text=True
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert re.findall(r"SSL_BENCH_GPU=(\S*) .*ssl_bench features", said) == [given]


def test_what_the_catalog_reads(repository) -> None:
    """Its keys, as the catalog's own generator reads them."""
    usage = yaml.safe_load((repository / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert set(usage) == {"mandatory-flags", "software-stack-deployment", "report"}
    assert {type(value) for value in usage["mandatory-flags"].values()} == {str}
    assert set(usage["mandatory-flags"]) == {"desc", "flags"}
    assert usage["software-stack-deployment"] == dict.fromkeys(
        ("conda", "apptainer", "apptainer+conda"), False
    )  # none of the rules has an environment of its own
    assert usage["report"] is True
    assert (repository / "config" / "README.md").is_file()
    text = (repository / "README.md").read_text().lower()
    assert "snakemake" in text
    assert "workflow" in text
