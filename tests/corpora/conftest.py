"""Published layouts, written once, and what the tests do with a corpus."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ssl_bench import corpus, registry
from ssl_bench.errors import StudyError
from ssl_bench.study import Study, parse


@pytest.fixture(scope="session")
def written(layouts, tmp_path_factory) -> Path:
    """Every published layout, each in a folder named after its kind; not to be changed."""
    root = tmp_path_factory.mktemp("published")
    layouts.everything(root)
    return root


@pytest.fixture
def copied(written, tmp_path) -> Callable[[str], Path]:
    """Copy the layout of a kind, to be changed by a test."""

    def copy(kind: str) -> Path:
        return Path(shutil.copytree(written / kind, tmp_path / kind))

    return copy


def config(**keys: Any) -> Any:
    """Return an entry as its kind's Config; paths may be Path."""
    keys = {name: str(value) if isinstance(value, Path) else value for name, value in keys.items()}
    return registry.load("corpora", keys["kind"]).Config.model_validate(keys)


class Loaded:
    """A corpus entry: what is missing, its cuts, or the line that refuses it."""

    def __init__(self, folder: Path, keys: dict[str, Any]) -> None:
        self.folder, self.config = folder, config(**keys)
        self.kind = registry.load("corpora", keys["kind"])

    def missing(self) -> list[str]:
        return self.kind.missing(self.config)

    def cuts(self) -> dict[str, Any]:
        return self.kind.prepare(self.config, self.folder, 1)

    def table(self) -> Any:
        from ssl_bench.corpora.base import table

        return table(self.cuts()).set_index("id", drop=False)

    def error(self) -> str:
        with pytest.raises(StudyError) as raised:
            self.cuts()
        assert "\n" not in str(raised.value)
        return str(raised.value)


@pytest.fixture
def load(tmp_path) -> Callable[..., Loaded]:
    """``load(kind=…, root=…)``: a corpus entry."""

    def load(**keys: Any) -> Loaded:
        return Loaded(tmp_path, keys)

    return load


@pytest.fixture
def study(tmp_path, monkeypatch) -> Callable[..., Study]:
    """``study(corpus, task)``: a study of one corpus and one task, in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def make(keys: dict[str, Any], **task: Any) -> Study:
        keys = {name: str(v) if isinstance(v, Path) else v for name, v in keys.items()}
        return parse(
            {
                "name": "small",
                "seeds": 1,
                "corpora": {"it": keys},
                "upstreams": {"fbank": {"kind": "fbank"}},
                "tasks": {"task": {"corpus": "it", **task}},
                "interfaces": ["last"],
                "sweep": {"learning_rates": [0.001]},
            }
        )

    return make


@pytest.fixture
def staged(study) -> Callable[..., tuple[corpus.Corpus, Any]]:
    """``staged(corpus, kind=…)``: run the corpus stage; return the corpus and the task on it."""

    def run(keys: dict[str, Any], **task: Any) -> tuple[corpus.Corpus, Any]:
        made = study(keys, **task)
        corpus.prepare(made, "it")
        prepared = corpus.Corpus(made.corpus_dir("it"))
        return prepared, corpus.make_task(made, "task", prepared.table)

    return run
