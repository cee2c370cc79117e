"""What the cells of one (task, upstream) share: the task, its features and how it is trained."""

from dataclasses import dataclass
from typing import Any

import torch

from ssl_bench import enlarging
from ssl_bench.features import Features
from ssl_bench.recipe import Training
from ssl_bench.study import Study
from ssl_bench.tasks.base import Task


@dataclass
class Stream:
    """What the cells of one (task, upstream) share."""

    study: Study
    task_name: str
    upstream: str
    task: Task
    features: Features
    rows: dict[str, int]
    training: Training
    device: torch.device
    heard: Features
    """What training batches are read from: ``features``, or what is encoded then."""
    scored: Features
    """What dev and test are read from, to be scored: ``features``, or what is encoded then."""


def enlarged(stream: Stream, interface: Any) -> enlarging.Enlarged | None:
    """Return how large the head behind an interface is made, where the task asks for it."""
    study, name, features = stream.study, stream.task_name, stream.features
    size = (features.layers, features.dim)
    return enlarging.find(study, name, stream.task, *size, interface.output_dim)
