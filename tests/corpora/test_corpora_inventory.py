"""Missing files are told before a job starts: by `check`, and when Snakemake does."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ssl_bench import corpus, inventory
from ssl_bench.errors import StudyError
from ssl_bench.study import parse


@pytest.fixture
def raw(copied, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = copied("fluent_speech_commands")
    (root.parent / "list.tsv").write_text("path\tsplit\nno1.wav\ttrain\nno2.wav\tdev\n")
    return {
        "name": "small",
        "seeds": 1,
        "corpora": {
            "fsc": {"kind": "fluent_speech_commands", "root": "fluent_speech_commands"},
            "libri": {"kind": "librispeech", "root": "nowhere"},
            "mine": {"kind": "manifest", "path": "list.tsv"},
            "made": {"kind": "synthetic", "recipe": "sentences"},
        },
        "upstreams": {"fbank": {"kind": "fbank"}},
        "tasks": {"ic": {"kind": "ic", "corpus": "fsc"}},
        "interfaces": ["last"],
        "sweep": {"learning_rates": [0.001]},
    }


def test_every_corpus_is_asked_and_told_in_one_line(raw):
    with pytest.raises(StudyError) as raised:
        inventory.check(parse(raw))
    assert str(raised.value) == (
        "corpora.libri: 3 files are missing: nowhere/train-clean-100/; nowhere/dev-clean/; "
        "nowhere/test-clean/; expected every file that the labels name | corpora.mine: 2 files are "
        "missing: row 2: no1.wav; row 3: no2.wav; expected every file that the labels name"
    )


def test_corpora_that_miss_the_same_are_told_together(raw):
    folds = {f"fold{k}": {"kind": "iemocap", "root": "none", "fold": k} for k in (1, 2, 3)}
    raw["corpora"] = {"fsc": raw["corpora"]["fsc"], **folds}
    with pytest.raises(StudyError) as raised:
        inventory.check(parse(raw))
    line = str(raised.value)
    assert line.startswith("corpora.fold1 and 2 more: 5 files are missing: none/Session1/")
    assert line.count("none/Session1/") == 1


def test_folders_that_a_corpus_can_do_without_are_told_and_no_error(raw, copied, capsys):
    root = copied("ml_superb")
    shutil.rmtree(root / "mls" / "eng")  # test of the other English sets pools it
    entry = {"kind": "ml_superb", "root": str(root), "train": "10min"}
    tracks = {track: {**entry, "track": track} for track in ("eng2", "eng3", "rus")}
    raw["corpora"] = {"fsc": raw["corpora"]["fsc"], **tracks}
    study = parse(raw)
    inventory.tell(study)
    inventory.check(study)
    (line,) = capsys.readouterr().err.splitlines()
    said = f"1 folders that published lists name are not there: {root}/mls/eng/"
    assert line == f"corpora.eng2 and 1 more: {said}"


def test_a_list_that_is_not_in_order_is_told_with_its_corpus(raw):
    del raw["corpora"]["libri"]
    Path("list.tsv").write_text("file\tsplit\n")
    with pytest.raises(StudyError, match=r"corpora\.mine: list\.tsv: lists no recording"):
        inventory.check(parse(raw))


def test_a_prepared_corpus_is_not_asked_again(raw):
    for name in ("libri", "mine"):
        del raw["corpora"][name]
    study = parse(raw)
    inventory.check(study)
    corpus.prepare(study, "fsc")
    gone = next(Path("fluent_speech_commands").rglob("*.wav"))
    gone.unlink()
    inventory.check(study, prepared=False)
    with pytest.raises(StudyError, match=str(gone)):
        inventory.check(study)


def run(repository, *arguments):
    path = os.pathsep.join(str(repository / name) for name in ("workflow", "interfaces", "."))
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "PYTHONPATH": path,
            # The workflow's rules call `python`: this one.
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        },
    )


def test_check_prints_the_grid_and_then_what_is_missing(raw, repository):
    Path("study.yaml").write_text(yaml.safe_dump(raw))
    done = run(repository, "ssl_bench", "check", "--study", "study.yaml")
    assert done.returncode == 2
    assert done.stdout.startswith("small: 1 tasks × 1 upstreams")
    assert done.stderr.startswith("error: corpora.libri: 3 files are missing: ")
    assert len(done.stderr.splitlines()) == 1


def test_check_lists_every_missing_file_when_asked(raw, capsys):
    from ssl_bench import __main__ as cli

    del raw["corpora"]["libri"], raw["corpora"]["mine"]
    gone = sorted(str(path) for path in Path("fluent_speech_commands").rglob("test-*.wav"))
    for name in gone:
        Path(name).unlink()
    Path("study.yaml").write_text(yaml.safe_dump(raw))
    with pytest.raises(StudyError, match=r"4 files are missing: .*; …"):
        cli.check(Path("study.yaml"), missing=True)
    listed = capsys.readouterr().out.splitlines()[1:]
    assert sorted(listed) == [f"fsc\t{name}" for name in gone]


@pytest.mark.slow
def test_snakemake_starts_no_job_while_files_are_missing(raw, repository):
    for name in ("libri", "mine", "made"):
        del raw["corpora"][name]
    gone = next(Path("fluent_speech_commands").rglob("*.wav"))
    kept = gone.read_bytes()
    gone.unlink()
    Path("study.yaml").write_text(yaml.safe_dump(raw))
    for name in ("workflow", "interfaces", "analysis", "notebooks"):
        Path(name).symlink_to(repository / name)
    target = "work/small/corpora/fsc/table.parquet"
    arguments = ["--snakefile", str(repository / "Snakefile"), "--cores", "1"]
    arguments = ["snakemake", *arguments, "--configfile", "study.yaml", "--", target]
    done = run(repository, *arguments)
    assert done.returncode == 1
    assert f"error: corpora.fsc: 1 files are missing: {gone}" in done.stderr + done.stdout
    assert not Path(target).parent.exists()
    gone.write_bytes(kept)
    done = run(repository, *arguments)  # nothing is locked
    assert done.returncode == 0, done.stderr
    assert Path(target).is_file()
