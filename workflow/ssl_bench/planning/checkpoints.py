"""How large a checkpoint is: parameters, Adam's two moments and the weights that are kept."""

from collections import defaultdict
from functools import cache
from typing import NamedTuple

import torch
from torch import nn

import SSL_Interface
from ssl_bench import enlarging
from ssl_bench.corpus import make_task
from ssl_bench.errors import StudyError
from ssl_bench.planning.known import Size, upstream_size
from ssl_bench.planning.work import WEIGHT_BYTES, CellPlan, Plan
from ssl_bench.read_back import parquet_of
from ssl_bench.study import Study
from ssl_bench.tasks.base import Task

NUMBER = 4
"""Bytes of a parameter, of a moment and of a kept weight."""
TRAINED = 3
"""Numbers of a parameter while it is trained; ``average`` kept ones come to them."""


class Largest(NamedTuple):
    """The checkpoints of that job of a study which has the largest ones, and what is not in it."""

    bytes: float
    """At most: as if all interfaces that one reading may serve were trained at once."""
    unknown: int
    """Cells whose parameters are not known."""
    headless: int
    """Tasks whose heads are not counted: their labels, so their classes, are not prepared."""


def largest(plan: Plan) -> Largest:
    """Find the checkpoints of the job that has the largest ones."""
    study = plan.study
    tasks = {name: _task(study, name) for name in study.tasks}
    interface_of = cache(lambda name, size: _interface(study, name, size))
    sizes = cache(lambda name: upstream_size(study, name))
    read = {(stream.upstream, stream.corpus): stream for stream in plan.streams}
    jobs: dict[tuple[str, ...], float] = defaultdict(float)
    unknown, headless = 0, set()
    for one in plan.cells:
        cell, size = one.cell, sizes(one.cell.upstream)
        interface = None if size is None else interface_of(cell.interface, size)
        if size is None or interface is None or one.train is None or one.sweep is None:
            unknown += 1
            continue
        task = tasks[cell.task]
        parameters = _count(interface) + _encoder(one)
        if task is None:
            headless.add(cell.task)
        else:
            parameters += _head(study, cell.task, task, size, interface.output_dim)
        stream = read[cell.upstream, study.tasks[cell.task]["corpus"]]
        # From a disk, or on a CPU, a job of several interfaces trains one after another.
        at_once = stream.place != "disk" or stream.gpu
        alone = not at_once or study.packs(cell.task, cell.upstream) != ["all"]
        job = (cell.task, cell.upstream, *([cell.interface] if alone else []))
        jobs[job] += NUMBER * parameters * _numbers(study, one)
    return Largest(max(jobs.values(), default=0.0), unknown, len(headless))


def _numbers(study: Study, one: CellPlan) -> int:
    """Return how many numbers are kept of each parameter, in all runs of a cell's larger stage.

    Fine-tuned encoders are trained one after another; of what is done the kept weights remain.
    """
    assert one.train is not None
    assert one.sweep is not None
    runs = max(one.train, one.sweep)
    return runs * study.training_of(one.cell.task).average + TRAINED * (1 if one.tuned else runs)


def _task(study: Study, name: str) -> Task | None:
    """Return a task with the labels of its corpus, once that is prepared."""
    table = study.corpus_dir(study.tasks[name]["corpus"]) / "table.parquet"
    try:
        return make_task(study, name, parquet_of(table)) if table.is_file() else None
    except StudyError:
        return None


def _interface(study: Study, name: str, size: Size) -> SSL_Interface.Interface | None:
    """Return an interface without memory for its parameters; None where it does not fit."""
    kind, options = study.interface_options(name)
    layers = size.layers
    if options.get("layer") == "each":  # trained as one layer of each
        kind, layers, options = "last", 1, {}
    try:
        with torch.device("meta"):
            return SSL_Interface.create(kind, num_layers=layers, dim=size.dim, **options)
    except ValueError:
        return None


def _head(study: Study, name: str, task: Task, size: Size, width: int) -> int:
    larger = enlarging.find(study, name, task, size.layers, size.dim, width)
    with torch.device("meta"):
        return _count(enlarging.head(task, width, larger))


def _encoder(one: CellPlan) -> float:
    """Return the parameters of a fine-tuned encoder, as its weights are counted."""
    return (one.weights or 0.0) / (WEIGHT_BYTES * (one.train or 1))


def _count(module: nn.Module) -> int:
    return sum(value.numel() for value in module.parameters() if value.requires_grad)
