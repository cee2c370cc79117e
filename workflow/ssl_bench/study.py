"""A study: its models, its grid, and the one place that knows paths.

A study is a YAML file (``config/README.md`` explains every key). It is read here, checked strictly,
and from then on passed as a :class:`Study`.
"""

import hashlib
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field, field_validator

from ssl_bench import registry
from ssl_bench.configuration import Strict, validated
from ssl_bench.documents import read_mapping
from ssl_bench.errors import StudyError, suggest
from ssl_bench.recipe import FineTune, Rate, Recipe, Seed, Sweep, Training, settle
from ssl_bench.whole import whole

OWN = ("training", "learning_rates", "interfaces", "job", "enlarge_by")
"""Keys of a task's entry that are the study's business, not the kind's."""
UPSTREAMS_OWN = ("fine_tune", "interfaces")
"""The same of an upstream's entry."""
CHECKED = ("sha256",)
"""Keys of an upstream's entry that hold it to something and change no state."""
Source = Literal["memory", "disk", "live"]
"""Where hidden states are kept."""
Cache = Literal["auto", "memory", "disk", "live"]
NAME = r"^[a-z0-9][a-z0-9_.-]*$"


class Cell(NamedTuple):
    """One square of the grid."""

    task: str
    upstream: str
    interface: str


class RateTable(Strict):
    """A CSV of learning rates chosen elsewhere, and the ceiling to which larger ones are lowered.

    With smaller batches, gradients are noisier and the largest rates no longer train.
    """

    table: str
    at_most: Rate | None = None

    def identity(self) -> str | dict[str, Any]:
        """Return what determines a result: a table without a ceiling is its name alone."""
        return self.table if self.at_most is None else self.model_dump()


class Study(Strict):
    """A checked study."""

    name: str = Field(pattern=NAME)
    title: str = ""
    device: Literal["auto", "cpu", "cuda"] | None = None
    cache: Cache = "auto"
    cache_gb: float = Field(50.0, gt=0)
    state_dtype: Literal["bf16", "fp16", "fp32"] = "bf16"
    normalize: bool = True
    job: Literal["interface", "stream"] = "interface"
    seeds: tuple[Seed, ...] = Field(min_length=1)
    corpora: dict[str, dict[str, Any]] = Field(min_length=1)
    upstreams: dict[str, dict[str, Any]] = Field(min_length=1)
    tasks: dict[str, dict[str, Any]] = Field(min_length=1)
    interfaces: dict[str, dict[str, Any]] = Field(min_length=1)
    training: Training = Training()
    sweep: Sweep | None = None
    learning_rates: RateTable | None = None
    similarity: dict[str, str] = {}
    averages: dict[str, dict[str, list[str]]] = {}

    @field_validator("seeds", mode="before")
    @classmethod
    def _seeds(cls, value: Any) -> Any:
        if isinstance(value, int) and not isinstance(value, bool):
            return tuple(range(value))
        return tuple(value) if isinstance(value, list) else value

    @field_validator("cache", mode="before")
    @classmethod
    def _cache(cls, value: Any) -> Any:
        """Read ``gpu`` as the memory of the training device, which it is on a GPU."""
        return "memory" if value == "gpu" else value

    @field_validator("interfaces", mode="before")
    @classmethod
    def _interfaces(cls, value: Any) -> Any:
        if _names(value):
            if len(set(value)) < len(value):
                raise ValueError("expected each once")
            value = {name: {} for name in value}
        elif not isinstance(value, dict):
            raise ValueError("expected a list of names, or a mapping of names to options")
        return {k: v or {} for k, v in value.items()}

    @field_validator("upstreams", mode="after")
    @classmethod
    def _upstreams(cls, value: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """Leave out keys that are null, by which a second file takes one of the first's back."""
        return {
            name: {key: v for key, v in entry.items() if v is not None}
            for name, entry in value.items()
        }

    @field_validator("learning_rates", mode="before")
    @classmethod
    def _learning_rates(cls, value: Any) -> Any:
        """Read a name as that of a table which is taken as it stands."""
        if isinstance(value, str):
            return {"table": value}
        if value is None or isinstance(value, dict | RateTable):
            return value
        raise ValueError("expected the name of a table, or {table: …, at_most: …}")

    @field_validator("averages", mode="before")
    @classmethod
    def _averages(cls, value: Any) -> Any:
        """Read a list of tasks as groups of one task each."""
        if not isinstance(value, dict):
            return value
        return {
            name: {task: [task] for task in listed} if _names(listed) else listed
            for name, listed in value.items()
        }

    # ---- the grid

    def cells(self) -> list[Cell]:
        """List every (task, upstream, interface) of the study."""
        return [
            Cell(task, upstream, interface)
            for task in self.tasks
            for upstream in self.upstreams
            for interface in self.interfaces_of(task, upstream)
        ]

    def interfaces_of(self, task: str, upstream: str) -> list[str]:
        """List the interfaces of a (task, upstream): all, less what either's own key leaves out.

        A task's key is a list, or a list for each upstream: those that it does not name are left
        out.
        """
        of_task = self.tasks[task].get("interfaces", list(self.interfaces))
        if isinstance(of_task, dict):
            of_task = of_task.get(upstream, [])
        of_upstream = self.upstreams[upstream].get("interfaces", self.interfaces)
        return [name for name in self.interfaces if name in of_task and name in of_upstream]

    def packs(self, task: str, upstream: str) -> list[str]:
        """List the jobs that one (task, upstream) is split into.

        ``job: stream`` trains all interfaces in one job (``all``), over features held once;
        ``job: interface`` makes a job of each. A task's own key goes before the study's.
        """
        names = self.interfaces_of(task, upstream)
        job = self.tasks[task].get("job", self.job)
        return ["all"] if job == "stream" and names else names

    def interfaces_in(self, task: str, upstream: str, pack: str) -> list[str]:
        """List the interfaces that one job trains."""
        return self.interfaces_of(task, upstream) if pack == "all" else [pack]

    # ---- typed entries

    def corpus_config(self, name: str) -> Any:
        """Return the corpus entry as its kind's ``Config``."""
        return _entry("corpora", name, self.corpora[name])

    def corpus_inputs(self, name: str) -> list[str]:
        """List the files that say what a corpus is (a manifest); those missing are told later."""
        config = self.corpus_config(name)
        kind = registry.load("corpora", config.kind)
        listed = kind.inputs(config) if hasattr(kind, "inputs") else []
        return [file for file in listed if Path(file).is_file()]

    def upstream_config(self, name: str) -> Any:
        """Return the upstream entry as its kind's ``Config``."""
        return _entry("upstreams", name, _without(self.upstreams[name], *UPSTREAMS_OWN))

    def upstream_inputs(self, name: str) -> list[str]:
        """List the local files of an upstream; those missing are told later.

        Snakemake would take braces in a path for wildcards: such files are not watched.
        """
        listed = map(str, self.upstream_config(name).inputs())
        return [file for file in listed if Path(file).is_file() and not set("{}") & set(file)]

    def fine_tune_of(self, upstream: str) -> FineTune | None:
        """Return how an upstream is fine-tuned; None: it is frozen."""
        entry = self.upstreams[upstream]
        if "fine_tune" not in entry:
            return None
        return validated(FineTune, entry["fine_tune"], f"upstreams.{upstream}.fine_tune")

    def cache_of(self, upstream: str) -> Cache:
        """Return where an upstream's states are kept: ``cache``, or nowhere while it is trained."""
        return self.cache if self.fine_tune_of(upstream) is None else "live"

    def task_config(self, name: str) -> Any:
        """Return the task entry as its kind's ``Config``."""
        return _entry("tasks", name, _without(self.tasks[name], *OWN))

    def recipe_of(self, task: str) -> Recipe | None:
        """Return the published recipe of a task's kind, None if it has none."""
        return getattr(registry.load("tasks", self.tasks[task]["kind"]), "RECIPE", None)

    def training_of(self, task: str) -> Training:
        """Return the published training with the study's keys, then the task's own, on top."""
        own = validated(Training, self.tasks[task].get("training", {}), f"tasks.{task}.training")
        recipe = self.recipe_of(task)
        return settle(recipe.training if recipe else Training(), self.training, own)

    def rates_of(self, task: str) -> tuple[float, ...]:
        """Return the learning rates that a task sweeps: its own, the study's or the published."""
        own = {"learning_rates": self.tasks[task].get("learning_rates")}
        said = validated(Sweep, own, f"tasks.{task}").learning_rates
        if said is None and self.sweep is not None:
            said = self.sweep.learning_rates
        recipe = self.recipe_of(task)
        if said is None and recipe is None and self.sweep is not None:
            raise StudyError(
                f"tasks.{task}: learning_rates: found none, and its kind publishes none; expected "
                "a list for the task or for the sweep"
            )
        return said or (recipe.learning_rates if recipe else ())

    def interface_options(self, name: str) -> tuple[str, dict[str, Any]]:
        """Return an interface's kind (its own name unless ``kind`` says otherwise) and options."""
        entry = self.interfaces[name]
        return entry.get("kind", name), _without(entry, "kind")

    def enlarge_by(self, task: str) -> str | None:
        """Return the interface by whose parameters a task's head is enlarged, None without one."""
        return self.tasks[task].get("enlarge_by")

    # ---- what determines a stage's result: its slice of the study

    def slice(self, task: str, upstream: str, pack: str) -> str:
        """Return as JSON all that determines the cells of one job; a change re-runs it."""
        corpus = self.tasks[task]["corpus"]
        return _json(
            {
                "corpus": self.corpora[corpus],
                "normalize": self.normalize,
                **self._dtype_slice(),
                "upstream": {**self.upstream_slice(upstream), **self._tuning_slice(upstream)},
                "task": _without(self.tasks[task], *OWN),
                **self._enlarged_slice(task),
                "interfaces": {
                    name: self.interfaces[name] for name in self.interfaces_in(task, upstream, pack)
                },
                "training": self.training_of(task).identity(),
                "sweep": self._sweep_slice(task),
                "learning_rates": self.learning_rates and self.learning_rates.identity(),
                "seeds": self.seeds,
            }
        )

    def _dtype_slice(self) -> dict[str, Any]:
        return {} if self.state_dtype == "bf16" else {"state_dtype": self.state_dtype}

    def _enlarged_slice(self, task: str) -> dict[str, Any]:
        by = self.enlarge_by(task)
        return {} if by is None else {"enlarge_by": {by: self.interfaces[by]}}

    def _tuning_slice(self, upstream: str) -> dict[str, Any]:
        tuning = self.fine_tune_of(upstream)
        return {} if tuning is None else {"fine_tune": tuning.identity()}

    def _sweep_slice(self, task: str) -> dict[str, Any] | None:
        if self.sweep is None:
            return None
        return {**self.sweep.model_dump(), "learning_rates": self.rates_of(task)}

    def fingerprint(self, cell: Cell) -> str:
        """Return 16 hex digits that name all that determines one cell."""
        text = self.slice(cell.task, cell.upstream, cell.interface)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def upstream_slice(self, upstream: str) -> dict[str, Any]:
        """Return all that determines an upstream's states, before it is trained."""
        return _without(self.upstreams[upstream], *UPSTREAMS_OWN, *CHECKED)

    def stream_slice(self, upstream: str) -> tuple[Any, ...]:
        """Return what beside the upstream determines what the features stage leaves."""
        return (self.cache_of(upstream), self.normalize, *self._dtype_slice().values())

    def uses_gpu(self, promised: bool = False) -> bool:
        """Say whether jobs ask for a GPU: with ``cuda`` always, with ``cpu`` never.

        Looks at the device files alone, so that a study's plan never waits for CUDA.

        Args:
            promised: whoever starts the study offers GPUs. A study that names no device then asks
                for one even where the machine shows none.
        """
        found = any(Path("/dev").glob("nvidia[0-9]*")) and (
            os.environ.get("CUDA_VISIBLE_DEVICES") not in ("", "-1")
        )
        offered = found or (promised and self.device is None)
        return self.device == "cuda" or (self.device != "cpu" and offered)

    # ---- paths

    @property
    def work(self) -> Path:
        """What is computed on the way: corpora, features."""
        return Path("work") / self.name

    @property
    def results(self) -> Path:
        """What a study is run for: cells, tables, figures."""
        return Path("results") / self.name

    @property
    def resolved(self) -> Path:
        """The study as its jobs read it."""
        return self.work / "study.json"

    def corpus_dir(self, corpus: str) -> Path:
        """One corpus: CutSets, table.parquet, waveforms.bin."""
        return self.work / "corpora" / corpus

    def upstream_file(self, upstream: str) -> Path:
        """What was probed of an upstream: L, D, stride, parameters."""
        return self.work / "upstreams" / f"{upstream}.json"

    def features_dir(self, upstream: str, corpus: str) -> Path:
        """One upstream's states of one corpus."""
        return self.work / "features" / upstream / corpus

    def states_dir(self, key: str) -> Path:
        """States on disk, which every study that asks for the same ones shares."""
        return Path("work") / "_states" / key

    def pack_dir(self, task: str, upstream: str, pack: str) -> Path:
        """What one training job writes; each cell has a folder of its own in it."""
        return self.results / "cells" / task / upstream / pack

    @property
    def checkpoints(self) -> Path:
        """The checkpoints of trainings that are not done."""
        return self.work / "checkpoints"

    def checkpoint_dir(self, stage: str, cell: Cell) -> Path:
        """Those of one stage of a cell."""
        return self.checkpoints / stage / cell.task / cell.upstream / cell.interface


def load(path: str | Path) -> Study:
    """Read and check a study file.

    Raises:
        StudyError: the file is missing, not YAML, has a key twice, an unknown key or name, or a
            wrong value.
    """
    return parse(read(Path(path)), str(path))


def read(path: Path) -> dict[str, Any]:
    """Read a study file, unchecked.

    Raises:
        StudyError: the file is missing; see :func:`ssl_bench.documents.read_mapping`.
    """
    if not path.is_file():
        there = {*path.parent.glob("[!.]*.yaml"), *Path("config").glob("[!.]*.yaml")}
        folder = "expected a study file, found a folder"
        sort = folder if path.is_dir() else "no such study file"
        raise StudyError(f"{path}: {sort}; {suggest(str(path), map(str, there))}")
    return read_mapping(path)


def from_snakemake(
    config: dict[str, Any], default: str | Path, files: Sequence[str | Path] = ()
) -> Study:
    """Return the study that Snakemake was given.

    Without a study in ``config`` the default one is taken, with the given keys on top.

    Args:
        config: what ``--configfile`` and ``--config`` gave, merged.
        default: the study to take where none is given.
        files: those of ``--configfile``; Snakemake does not see a key that stands twice in one.

    Raises:
        StudyError: see :func:`load`.
    """
    for file in files:
        read_mapping(Path(file))
    if "corpora" not in config:
        load(default)
        config = {**read_mapping(Path(default)), **config}
        files = [default, *files]
    return parse(config, " + ".join(map(_short, files)) or "config")


def _short(file: str | Path) -> str:
    path = Path(file)
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def save(study: Study) -> None:
    """Write a study where its jobs read it: when a run starts, so that a plan changes nothing."""
    # What is not said stays unsaid: only then do published recipes stand below it.
    text = study.model_dump_json(indent=1, exclude_unset=True) + "\n"
    if not study.resolved.is_file() or study.resolved.read_text() != text:
        with whole(study.resolved) as place:
            place.write_text(text)


def parse(raw: dict[str, Any], source: str = "study") -> Study:
    """Check a study given as a mapping; ``source`` names it in errors."""
    from ssl_bench.checks import problems  # which reads studies, too

    raw = _numbers(raw)
    study = validated(Study, raw, source)
    try:
        for problem in problems(study):
            raise StudyError(problem)
    except StudyError as error:
        raise StudyError(f"{source}: {error}") from None
    return study


def _numbers(value: Any) -> Any:
    """Read ``1e-4`` as the number it is meant to be: YAML 1.1 takes it for a string."""
    if isinstance(value, dict):
        return {k: _numbers(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_numbers(v) for v in value]
    if isinstance(value, str) and re.fullmatch(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+", value):
        return float(value)
    return value


def _entry(room: str, name: str, raw: dict[str, Any]) -> Any:
    where = f"{room}.{name}"
    if not isinstance(raw, dict) or "kind" not in raw:
        found = ", ".join(map(str, raw)) if isinstance(raw, dict) else repr(raw)
        known = ", ".join(registry.kinds(room))
        raise StudyError(f"{where}: missing key 'kind'; found: {found}; known: {known}")
    if not isinstance(raw["kind"], str):
        raise StudyError(f"{where}: kind: expected a name, found {raw['kind']!r}")
    return validated(registry.load(room, raw["kind"], where).Config, raw, where)


def _names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _without(entry: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {k: v for k, v in entry.items() if k not in keys}


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=list)
