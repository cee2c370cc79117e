"""A task's head, enlarged by as many parameters as an interface has (``enlarge_by`` of its entry).

Table 3 of the paper (arXiv 2406.12209) gives the weighted sum a larger downstream model: what it
would get if HConv's parameters went into the head. Which of a head's widths grows is said by the
task's kind (``inner_width``), and the width whose head is nearest to the wanted size is searched
for, since L, D and the number of classes are known only when a cell is trained.
"""

import copy
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn

import SSL_Interface
from ssl_bench.errors import StudyError
from ssl_bench.study import Study
from ssl_bench.tasks.base import Task


class Enlarged(NamedTuple):
    """An enlarged head."""

    by: str
    """The interface whose parameters are added."""
    interface_parameters: int
    key: str
    """Of the task's entry: the width that grows."""
    width_before: int
    width: int
    parameters_before: int
    parameters: int

    def __str__(self) -> str:
        added = self.parameters - self.parameters_before
        return (
            f"{self.key} {self.width_before:,} → {self.width:,}: the head has {self.parameters:,} "
            f"parameters, {added:,} more ({self.by}: {self.interface_parameters:,})"
        )


def find(
    study: Study, name: str, task: Task, layers: int, dim: int, output_dim: int
) -> Enlarged | None:
    """Return how large a task's head is made; None where its entry does not ask for it.

    Args:
        study: the study, for the interface's options.
        name: of the task in it.
        task: its labels, which say how many classes the head has.
        layers: L of the upstream.
        dim: D of the upstream.
        output_dim: width of what the head reads.

    Raises:
        StudyError: the interface does not fit this upstream, or no width makes the head larger.
    """
    by = study.enlarge_by(name)
    if by is None:
        return None
    kind, options = study.interface_options(by)
    key = task.inner_width
    assert key is not None  # checks.py refuses such a task
    try:
        with torch.device("meta"):
            interface = SSL_Interface.create(kind, num_layers=layers, dim=dim, **options)
    except ValueError as error:
        raise StudyError(f"tasks.{name}: enlarge_by: interfaces.{by}: {error}") from None
    before = getattr(task.config, key)
    sizes = {before: _size(task, key, before, output_dim)}
    wanted = _parameters(interface)

    def size(width: int) -> int:
        if width not in sizes:
            sizes[width] = _size(task, key, width, output_dim)
        return sizes[width]

    if size(before + 1) == size(before):
        raise StudyError(
            f"tasks.{name}: enlarge_by: a larger {key} does not make this head larger; found "
            f"{size(before):,} parameters at {before} and {before + 1}"
        )
    width = nearest(size, before, size(before) + wanted)
    return Enlarged(by, wanted, key, before, width, size(before), size(width))


def head(task: Task, output_dim: int, enlarged: Enlarged | None) -> nn.Module:
    """Return a task's head for features of ``output_dim``, weights from torch's global RNG."""
    if enlarged is None:
        return task.head(output_dim)
    return _resized(task, enlarged.key, enlarged.width).head(output_dim)


def nearest(size: Callable[[int], int], start: int, wanted: int) -> int:
    """Return the width from ``start`` on whose size, which grows with it, is nearest to a number.

    Of two as near the smaller.
    """
    low, high = start, 2 * start
    while size(high) < wanted:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if size(middle) < wanted else (low, middle)
    return min((low, high), key=lambda width: abs(size(width) - wanted))


def _resized(task: Task, key: str, width: int) -> Task:
    resized = copy.copy(task)
    resized.config = task.config.model_copy(update={key: width})
    return resized


def _size(task: Task, key: str, width: int, output_dim: int) -> int:
    with torch.device("meta"):
        return _parameters(_resized(task, key, width).head(output_dim))


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
