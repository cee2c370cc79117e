"""Every study that ships can be read."""

from pathlib import Path

import pytest
import yaml

CONFIG = Path(__file__).resolve().parents[2] / "config"
# The recipe of pre-training is no study, and the override is none by itself.
NO_STUDY = ("pretrain.yaml", "paper_smoke.yaml")
SHIPPED = sorted(path for path in CONFIG.glob("*.yaml") if path.name not in NO_STUDY)


def test_the_default_study_ships():
    assert (CONFIG / "mini.yaml").is_file()


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_study_loads(path, repository, monkeypatch):
    from ssl_bench import study

    monkeypatch.chdir(repository)  # a study's paths are relative to the root
    loaded = study.load(path)
    assert loaded.name == path.stem
    assert loaded.cells()


@pytest.mark.parametrize("name", ["mini", "smoke", "paper_smoke", "recordings"])
def test_what_is_for_a_cpu_as_well_says_so(name):
    assert yaml.safe_load((CONFIG / f"{name}.yaml").read_text())["device"] in {"auto", "cpu"}


@pytest.mark.parametrize("name", ["reference", "paper"])
def test_what_takes_days_without_a_gpu_refuses_to(name):
    assert yaml.safe_load((CONFIG / f"{name}.yaml").read_text())["device"] == "cuda"


def test_the_study_in_the_page_on_own_recordings_loads(repository, tmp_path, monkeypatch):
    from ssl_bench import study

    page = (repository / "docs" / "own-recordings.md").read_text(encoding="utf-8")
    blocks = [block.split("```")[0] for block in page.split("```yaml\n")[1:]]
    studies = [block for block in blocks if "corpora:" in block and "tasks:" in block]
    assert studies
    monkeypatch.chdir(repository)
    for number, block in enumerate(studies):
        file = tmp_path / f"{number}.yaml"
        file.write_text(block, encoding="utf-8")
        assert study.load(file).cells()
        assert yaml.safe_load(block)["name"]
