"""The jobs, runs and states of a study, counted from its grid."""

from dataclasses import dataclass
from typing import Literal

from ssl_bench import inventory
from ssl_bench.errors import StudyError
from ssl_bench.planning.known import Hours, Size, corpus_hours, upstream_size
from ssl_bench.study import Cell, Study

RATE = 16_000
SAMPLE_BYTES, WEIGHT_BYTES = 2, 2
"""int16 waveforms, fine-tuned weights in half precision."""
STATE_BYTES = {"bf16": 2, "fp16": 2, "fp32": 4}
GPU_SHARE = 0.4
"""Of a job's part of a GPU's memory: what ``features.choose`` lets the states take."""
NOTEBOOKS = 3
BASE = Size(13, 768, 320)
Place = Literal["memory", "disk", "live"]


@dataclass(frozen=True)
class CorpusPlan:
    """One corpus: whether its files are there, and how long it is."""

    name: str
    kind: str
    state: str
    hours: Hours | None

    @property
    def packed(self) -> float | None:
        """Bytes of its packed waveforms."""
        return None if self.hours is None else self.hours.total * 3600 * RATE * SAMPLE_BYTES


@dataclass(frozen=True)
class StreamPlan:
    """The states of one upstream on one corpus."""

    upstream: str
    corpus: str
    size: Size | None
    hours: Hours | None
    place: Place | None
    """Where they are kept; None if that depends on a size that is not known."""
    gpu: bool
    """Whether ``auto`` prefers a GPU's memory where it is large enough."""
    tuned: bool = False
    """Whether the encoder is trained, so that its states are never kept."""
    item: int = 2
    """Bytes of one number of a state."""

    @property
    def bytes(self) -> float | None:
        """Bytes of the states."""
        return states_bytes(self.size, self.hours, self.item)

    @property
    def on_disk(self) -> float:
        """Bytes that they take on disk, as far as that is known."""
        return (self.bytes or 0.0) if self.place == "disk" else 0.0

    @property
    def gpu_bytes(self) -> float | None:
        """A job's part of a GPU's memory from which ``auto`` keeps them there."""
        return self.bytes / GPU_SHARE if self.gpu and self.bytes is not None else None


@dataclass(frozen=True)
class CellPlan:
    """The runs of one cell; ``layers`` counts the heads of a probe on each layer."""

    cell: Cell
    train: int | None
    sweep: int | None
    """Runs; None where the number of layers is not known."""
    steps: int
    sweep_steps: int
    tuned: bool
    """Whether the encoder is trained, too."""
    weights: float | None
    """Bytes of the trained encoders that it leaves; None where that is not known."""


@dataclass(frozen=True)
class Plan:
    """What a study will do."""

    study: Study
    corpora: list[CorpusPlan]
    streams: list[StreamPlan]
    cells: list[CellPlan]
    jobs: dict[str, int]


def states_bytes(size: Size | None, hours: Hours | None, item: int) -> float | None:
    """Return the bytes of an upstream's states of so many hours, ``item`` a number."""
    if size is None or hours is None:
        return None
    return hours.total * 3600 * RATE / size.stride * size.layers * size.dim * item


def make(study: Study) -> Plan:
    """Count a fresh run of a study, as if nothing of it were done."""
    sizes = {name: upstream_size(study, name) for name in study.upstreams}
    corpora = [_corpus(study, name) for name in study.corpora]
    hours = {corpus.name: corpus.hours for corpus in corpora}
    pairs = dict.fromkeys(
        (upstream, study.tasks[task]["corpus"])
        for task in study.tasks
        for upstream in study.upstreams
        if study.interfaces_of(task, upstream)
    )
    pairs |= dict.fromkeys(study.similarity.items())
    streams = [_stream(study, *pair, sizes[pair[0]], hours[pair[1]]) for pair in pairs]
    cells = [_cell(study, cell, sizes[cell.upstream]) for cell in study.cells()]
    return Plan(study, corpora, streams, cells, _jobs(study, list(pairs)))


def _corpus(study: Study, name: str) -> CorpusPlan:
    config = study.corpus_config(name)
    if (study.corpus_dir(name) / "table.parquet").is_file():
        state = "prepared"
    elif config.kind == "synthetic":
        state = "made by the run"
    else:
        try:
            gone = inventory.missing(study, name)
            state = f"{len(gone):,} files missing" if gone else "present"
        except StudyError as error:
            state = str(error)
    return CorpusPlan(name, config.kind, state, corpus_hours(study, name))


def _stream(
    study: Study, upstream: str, corpus: str, size: Size | None, hours: Hours | None
) -> StreamPlan:
    """Choose as ``features.choose`` does where no GPU is large enough."""
    place: Place | None
    cache = study.cache_of(upstream)
    auto = cache == "auto"
    item = STATE_BYTES[study.state_dtype]
    if cache != "auto":
        place = cache
    else:
        needed = states_bytes(size, hours, item)
        place = None if needed is None else "disk" if needed <= study.cache_gb * 1e9 else "live"
    tuned = study.fine_tune_of(upstream) is not None
    return StreamPlan(upstream, corpus, size, hours, place, auto and study.uses_gpu(), tuned, item)


def _cell(study: Study, cell: Cell, size: Size | None) -> CellPlan:
    layers: int | None = 1
    if study.interface_options(cell.interface)[1].get("layer") == "each":
        layers = None if size is None else size.layers
    steps, sweep = study.training_of(cell.task).steps, study.sweep
    tried = 0 if sweep is None else len(study.rates_of(cell.task)) * len(sweep.seeds)
    train = None if layers is None else layers * len(study.seeds)
    tuned = study.fine_tune_of(cell.upstream) is not None
    return CellPlan(
        cell,
        train=train,
        sweep=None if layers is None else layers * tried,
        steps=steps,
        sweep_steps=0 if sweep is None else max(1, round(steps * sweep.steps)),
        tuned=tuned,
        weights=_weights(size, train) if tuned else 0.0,
    )


def _weights(size: Size | None, runs: int | None) -> float | None:
    """Return about the bytes of trained encoders: 12 D² parameters a block of the usual form."""
    if size is None or runs is None:
        return None
    return runs * 12.0 * (size.layers - 1) * size.dim**2 * WEIGHT_BYTES


def shares(study: Study) -> dict[tuple[str, str, str], float]:
    """Return how much work every training job is, as a share of the largest: updates of its runs.

    Jobs are (task, upstream, pack). An encoder whose size is not known yet is taken for a Base.
    """
    updates = {
        (task, upstream, pack): sum(
            (cell.train or 0) * cell.steps + (cell.sweep or 0) * cell.sweep_steps
            for name in study.interfaces_in(task, upstream, pack)
            for cell in [_cell(study, Cell(task, upstream, name), size)]
        )
        for upstream in study.upstreams
        for size in [_size_or_base(study, upstream)]
        for task in study.tasks
        for pack in study.packs(task, upstream)
    }
    most = max(updates.values(), default=1)
    return {job: count / most for job, count in updates.items()}


def _size_or_base(study: Study, upstream: str) -> Size:
    try:
        found = upstream_size(study, upstream)
    except (StudyError, OSError, ValueError, KeyError):  # told by the stage that needs it
        found = None
    return found or BASE


def packs(study: Study) -> dict[tuple[str, str], int]:
    """Count the training jobs of every (task, upstream)."""
    return {
        (task, upstream): len(study.packs(task, upstream))
        for task in study.tasks
        for upstream in study.upstreams
    }


def _jobs(study: Study, pairs: list[tuple[str, str]]) -> dict[str, int]:
    """Count the jobs of every rule, in the order of the workflow."""
    training = sum(packs(study).values())
    counts = {
        "corpus": len({corpus for _, corpus in pairs}),
        "upstream": len({upstream for upstream, _ in pairs}),
        "features": len(pairs),
        "similarity": len(study.similarity),
        "sweep": training if study.sweep is not None else 0,
        "train": training,
        "collect": 1,
        "tables": 1,
        "figures": 1,
        "notebook": NOTEBOOKS,
        "report": 1,
    }
    return {rule: count for rule, count in counts.items() if count}
