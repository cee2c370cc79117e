"""GPU hours from measured speed, and apart from them those by ``estimate``'s model.

A line of ``throughput.csv`` is one measurement on named hardware: ``encode`` in seconds of audio a
second, ``step`` in milliseconds for one training step of ``runs`` stacked runs with
``batch_seconds`` of audio each, ``tune`` the same of one fine-tuned run, its encoder's passes
included. A measurement serves the same number and width of states, and for a
step the same kinds of task (heads at their published sizes) and interface. Of several numbers of
runs the one is taken that makes the study's runs cheapest; a step with more audio than was measured
is taken to cost in proportion, one with less to cost the same, for steps of this size are bound by
kernel launches.
"""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from ssl_bench.planning import estimate
from ssl_bench.planning.known import Size, rows
from ssl_bench.planning.work import CellPlan, Plan, StreamPlan, packs
from ssl_bench.study import Study

STRIDE = 320
"""Samples a frame of everything that was measured."""


@dataclass(frozen=True)
class Estimate:
    """GPU hours on one kind of hardware, and how much of the study they cover."""

    hardware: str
    encoding: float
    streams: int
    """That ``encoding`` counts: measured, and of known hours."""
    measured_streams: int
    training: float
    cells: int
    """That ``training`` counts, by measurements of their own steps."""
    estimated: float
    """Hours of training that ``training`` does not count, by steps that were estimated."""
    estimated_cells: int
    """That ``estimated`` counts."""


def tuned_and_unmeasured(plan: Plan) -> int:
    """Count the fine-tuned cells whose steps were measured on no hardware."""
    sizes = {stream.upstream: stream.size for stream in plan.streams}
    return sum(
        cell.tuned
        and not any(_steps_of(plan, cell, sizes[cell.cell.upstream], name) for name in hardware())
        for cell in plan.cells
    )


def frozen_and_uncounted(plan: Plan) -> dict[str, int]:
    """Count by kind of task the cells on frozen upstreams with steps of no known cost."""
    sizes = {stream.upstream: stream.size for stream in plan.streams}

    def known(cell: CellPlan, name: str) -> bool:
        size = sizes[cell.cell.upstream]
        return bool(_steps_of(plan, cell, size, name) or _steps_like(plan, cell, size, name))

    return Counter(
        plan.study.tasks[cell.cell.task]["kind"]
        for cell in plan.cells
        if not cell.tuned and not any(known(cell, name) for name in hardware())
    )


def hardware() -> list[str]:
    """List the hardware that anything was measured on."""
    return list(dict.fromkeys(row["hardware"] for row in rows("throughput")))


def estimates(plan: Plan) -> list[Estimate]:
    """Estimate GPU hours on every kind of hardware that was measured.

    Encoding counts every time that a recording is encoded: once where states are kept on disk, once
    a training job where in memory, at every step where nowhere. Training counts steps, not the
    scoring in between. A step of a fine-tuned cell has the encoder's passes in it, and its stream
    no encoding of its own.
    """
    return [_estimate(plan, name) for name in hardware()]


def _estimate(plan: Plan, name: str) -> Estimate:
    sizes = {stream.upstream: stream.size for stream in plan.streams}
    encoding = [_encoding(plan, stream, name) for stream in plan.streams]
    training, guessed = [], []
    for cell in plan.cells:
        size = sizes[cell.cell.upstream]
        hours = _training(plan, cell, _steps_of(plan, cell, size, name))
        if hours is not None:
            training.append(hours)
        elif (hours := _training(plan, cell, _steps_like(plan, cell, size, name))) is not None:
            guessed.append(hours)
    encoded = [hours for hours in encoding if hours is not None]
    fit = sum(1 for s in plan.streams if not s.tuned and any(_measured("encode", name, s.size)))
    return Estimate(
        name,
        encoding=sum(encoded),
        streams=len(encoded),
        measured_streams=fit,
        training=sum(training),
        cells=len(training),
        estimated=sum(guessed),
        estimated_cells=len(guessed),
    )


def _measured(stage: str, name: str, size: Size | None) -> Iterator[dict[str, str]]:
    for row in rows("throughput"):
        fits = (row["stage"], row["hardware"]) == (stage, name)
        if fits and size == Size(int(row["layers"]), int(row["dim"]), STRIDE):
            yield row


def _encoding(plan: Plan, stream: StreamPlan, name: str) -> float | None:
    if stream.tuned:
        return None
    speeds = [float(row["value"]) for row in _measured("encode", name, stream.size)]
    audio = encoded_hours(plan, stream)
    return None if not speeds or audio is None else audio / min(speeds)


def encoded_hours(plan: Plan, stream: StreamPlan) -> float | None:
    """Return how many hours of audio are encoded for one stream in all; None if not known."""
    study = plan.study
    tasks = [task for task in study.tasks if study.tasks[task]["corpus"] == stream.corpus]
    if stream.hours is None or stream.place is None:
        return None
    stages = 1 if study.sweep is None else 2
    audio = 0.0
    if stream.place == "disk":
        audio = stream.hours.total
    elif stream.place == "memory":
        jobs = packs(study)
        audio = stream.hours.total * stages * sum(jobs[task, stream.upstream] for task in tasks)
    for task in tasks:
        if stream.place != "live" and not study.training_of(task).encodes:
            continue
        cells = [c for c in plan.cells if c.cell[:2] == (task, stream.upstream)]
        if any(cell.train is None or cell.sweep is None for cell in cells):
            return None
        if not cells:
            continue
        batch = _batch_seconds(plan, cells[0])
        if batch is None:
            return None
        if stream.tuned:
            batches = sum((c.train or 0) * c.steps + (c.sweep or 0) * c.sweep_steps for c in cells)
        else:
            batches = _batches(study, cells[0]) * len(study.packs(task, stream.upstream))
        audio += batches * batch / 3600
    return audio


def _batches(study: Study, cell: CellPlan) -> int:
    """Return how many batches a job encodes: each seed's, for all interfaces and learning rates."""
    shared = study.training_of(cell.cell.task).order == "shared"
    tried = 0 if study.sweep is None else len(study.sweep.seeds)
    trained = len(study.seeds)
    if shared:
        tried, trained = min(tried, 1), 1
    return trained * cell.steps + tried * cell.sweep_steps


def _batch_seconds(plan: Plan, cell: CellPlan) -> float | None:
    """Return the audio of a batch, None if not known.

    Where batches are counted in utterances, each is taken to be as long as they are on average, and
    no longer than what they are cropped to.
    """
    study = plan.study
    training = study.training_of(cell.cell.task)
    if training.batch_seconds is not None:
        return training.batch_seconds
    name = study.tasks[cell.cell.task]["corpus"]
    hours = next(corpus.hours for corpus in plan.corpora if corpus.name == name)
    if training.batch_utterances is None or hours is None or hours.utterance is None:
        return None
    return training.batch_utterances * min(hours.utterance, training.crop_seconds or math.inf)


def _kinds(plan: Plan, cell: CellPlan) -> tuple[str, str]:
    study = plan.study
    return study.tasks[cell.cell.task]["kind"], study.interface_options(cell.cell.interface)[0]


def _steps_of(plan: Plan, cell: CellPlan, size: Size | None, name: str) -> list[dict[str, str]]:
    """Return the measurements of a cell's steps: of its own kinds of task and interface alone."""
    stage = "tune" if cell.tuned else "step"
    kinds = _kinds(plan, cell)
    return [row for row in _measured(stage, name, size) if (row["task"], row["interface"]) == kinds]


def _steps_like(plan: Plan, cell: CellPlan, size: Size | None, name: str) -> list[dict[str, str]]:
    """Return estimated lines of a cell's steps; none of fine-tuning."""
    if cell.tuned:
        return []
    return estimate.lines(_measured("step", name, size), *_kinds(plan, cell))


def _training(plan: Plan, cell: CellPlan, found: list[dict[str, str]]) -> float | None:
    batch = _batch_seconds(plan, cell)
    if not found or batch is None or cell.train is None or cell.sweep is None:
        return None
    total = cell.steps * milliseconds(found, cell.train, batch)
    if cell.sweep:
        total += cell.sweep_steps * milliseconds(found, cell.sweep, batch)
    return total / 3.6e6


def milliseconds(found: list[dict[str, str]], runs: int, batch: float) -> float:
    """Return what a step of so many runs of ``batch`` seconds takes, by the cheapest line."""
    return min(
        math.ceil(runs / int(row["runs"]))
        * float(row["value"])
        * max(1.0, batch / float(row["batch_seconds"]))
        for row in found
    )
