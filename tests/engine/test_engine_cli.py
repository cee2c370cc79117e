"""The command line: a user's mistake is one line, exit status 2, and nothing half-written."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
import yaml

from ssl_bench.__main__ import main


@pytest.fixture
def command(raw, monkeypatch, capsys) -> Callable[..., tuple[int, list[str]]]:
    """Run ``python -m ssl_bench STAGE`` in this process; return status and lines of stderr."""

    def run(*arguments: str, **keys: Any) -> tuple[int, list[str]]:
        Path("study.yaml").write_text(yaml.safe_dump({**raw, **keys}))
        stage, *options = arguments
        words = ["ssl_bench", stage, "--study", "study.yaml", *options]
        monkeypatch.setattr(sys, "argv", words)
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main()
        return int(caught.value.code or 0), capsys.readouterr().err.splitlines()

    return run


@pytest.fixture
def mistake(command) -> Callable[..., str]:
    """Run a stage that must fail; return its one line."""

    def run(*arguments: str, **keys: Any) -> str:
        status, lines = command(*arguments, **keys)
        assert status == 2
        assert len(lines) == 1, lines
        assert lines[0].startswith("error: ")
        return lines[0]

    return run


def listed(change: Callable[[str], str]) -> None:
    path = Path("list.tsv")
    path.write_text(change(path.read_text()))


def corpus_mistake(mistake: Callable[..., str]) -> str:
    line = mistake("corpus", "--name", "tones")
    assert not Path("work/tiny/corpora/tones").exists()
    return line


def test_a_missing_recording(mistake) -> None:
    Path("audio/dev-3.wav").unlink()
    line = corpus_mistake(mistake)
    assert "list.tsv: 1 recordings do not exist: row 29: audio/dev-3.wav" in line


def test_a_missing_column(mistake) -> None:
    listed(lambda text: text.replace("\tsplit\t", "\tsplits\t"))
    assert "no column 'split'; did you mean 'splits'?" in corpus_mistake(mistake)


def test_an_empty_recording(mistake) -> None:
    soundfile.write("audio/test-2.wav", torch.zeros(0).numpy(), 16_000)
    line = corpus_mistake(mistake)
    assert "row 34: audio/test-2.wav: empty recording (0 samples)" in line


def test_an_unreadable_recording(mistake) -> None:
    Path("audio/test-2.wav").write_text("not audio")
    line = corpus_mistake(mistake)
    assert "row 34: audio/test-2.wav: not readable as audio" in line


def test_a_recording_that_ends_early(mistake, tone) -> None:
    tone(Path("audio/whole.flac"), 1.0)
    whole = Path("audio/whole.flac").read_bytes()
    Path("audio/cut.flac").write_bytes(whole[: len(whole) // 2])
    listed(lambda text: text.replace("audio/test-2.wav", "audio/cut.flac"))
    assert "cut.flac" in corpus_mistake(mistake)


def test_a_missing_manifest(mistake) -> None:
    Path("list.tsv").unlink()
    assert corpus_mistake(mistake) == (
        "error: list.tsv: no such manifest; expected a file that ends in .tsv, .csv or .jsonl"
    )


def test_a_split_without_recordings(mistake) -> None:
    listed(lambda text: text.replace("\tdev\t", "\ttrain\t"))
    assert "corpora.tones: no utterance in split dev" in corpus_mistake(mistake)


def test_an_earlier_corpus_does_not_outlive_a_mistake(command, mistake) -> None:
    assert command("corpus", "--name", "tones") == (0, [])
    assert Path("work/tiny/corpora/tones/table.parquet").is_file()
    Path("audio/dev-3.wav").unlink()
    corpus_mistake(mistake)


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        (
            "\ttest-0\thigh",
            "\ttest-0\thuge",
            ["tasks.ks: ", "1 'keyword' labels of dev or test are not in train: 'huge' in"],
        ),
        (
            "\ttest-0\thigh\th ai",
            "\ttest-0\thigh\th ai zh",
            ["tasks.pr: ", "1 phones of column 'phones' are not in the train split: 'zh' in"],
        ),
        (
            "\tphones",
            "\tphonemes",
            ["tasks.pr: ", "no column 'phones'", "did you mean 'phonemes'?"],
        ),
    ],
)
def test_labels_that_do_not_fit_the_task(mistake, old, new, parts) -> None:
    assert old in Path("list.tsv").read_text()
    listed(lambda text: text.replace(old, new))
    line = corpus_mistake(mistake)
    for part in parts:
        assert part in line


@pytest.mark.parametrize("stage", ["sweep", "train"])
def test_a_task_that_is_changed_when_its_corpus_is_there(command, mistake, raw, stage) -> None:
    Path("rates.csv").write_text(
        "task,upstream,interface,layer,learning_rate\n"
        "ks,mini,weighted_sum,,0.01\nks,mini,hconv,,0.01\n"
    )
    keys = {"sweep": None, "learning_rates": "rates.csv"} if stage == "train" else {}
    assert command("corpus", "--name", "tones", **keys)[0] == 0
    assert command("features", "--upstream", "mini", "--corpus", "tones", **keys)[0] == 0
    keys["tasks"] = {"ks": {"kind": "ks", "corpus": "tones", "column": "keywords"}}
    line = mistake(stage, "--task", "ks", "--upstream", "mini", "--pack", "all", **keys)
    assert "tasks.ks: " in line
    assert "no column 'keywords'; did you mean 'keyword'?" in line
    assert not Path("results").exists()


def test_a_gpu_asked_for_where_none_is(mistake, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    options = ("--task", "ks", "--upstream", "mini", "--pack", "all")
    line = mistake("sweep", *options, device="cuda")
    assert line == "error: device: the study asks for cuda, found no GPU; expected auto or cpu"
    assert not Path("results").exists()


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("corpus", "--name", "tone"), "unknown corpus 'tone'; did you mean 'tones'?"),
        (("upstream", "--name", "minii"), "unknown upstream 'minii'; did you mean 'mini'?"),
        (
            ("features", "--upstream", "mini", "--corpus", "tone"),
            "unknown corpus 'tone'; did you mean 'tones'?",
        ),
        (
            ("sweep", "--task", "kss", "--upstream", "mini"),
            "unknown task 'kss'; did you mean 'ks'?",
        ),
        (
            ("train", "--task", "ks", "--upstream", "mini", "--pack", "hcon"),
            "unknown pack 'hcon'; did you mean 'hconv'?",
        ),
    ],
)
def test_a_name_that_the_study_does_not_have(mistake, arguments, part) -> None:
    assert part in mistake(*arguments)


def test_a_model_that_is_nowhere(mistake) -> None:
    upstreams = {"mini": {"kind": "transformers", "model": "no/such/folder"}}
    line = mistake("upstream", "--name", "mini", upstreams=upstreams)
    assert "upstream: model 'no/such/folder'" in line
    assert not Path("work/tiny/upstreams/mini.json").exists()


def test_a_sweep_that_the_study_does_not_have(mistake) -> None:
    Path("rates.csv").write_text("task,upstream,interface,layer,learning_rate\n")
    options = ("--task", "ks", "--upstream", "mini")
    line = mistake("sweep", *options, sweep=None, learning_rates="rates.csv")
    assert "expected a study with a sweep, found learning_rates" in line


def test_as_a_process(raw, repository) -> None:
    Path("study.yaml").write_text(yaml.safe_dump({**raw, "seedz": 1}))
    path = os.pathsep.join([str(repository / "workflow"), str(repository / "interfaces")])
    done = subprocess.run(
        [sys.executable, "-m", "ssl_bench", "check", "--study", "study.yaml"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [done.stderr.strip()]
    assert "study.yaml: unknown key 'seedz'; did you mean 'seeds'?" in done.stderr
