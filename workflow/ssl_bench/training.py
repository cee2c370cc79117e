"""The loop: a batch of runs over one stream of features, selected on dev."""

from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ssl_bench.evaluation import evaluate
from ssl_bench.features import Features
from ssl_bench.progress import say, track
from ssl_bench.runs import Runs
from ssl_bench.sampling import training_batches
from ssl_bench.steps import make_step
from ssl_bench.study import Training
from ssl_bench.tasks.base import Task


@dataclass
class Trained:
    """What a training leaves: per run, the best dev value, its step, and the way there."""

    dev: np.ndarray
    best_step: np.ndarray
    history: list[dict] = field(default_factory=list)


def train(
    runs: Runs,
    task: Task,
    features: Features,
    rows: dict[str, int],
    training: Training,
    label: str,
) -> Trained:
    """Train all runs and leave them at their best dev step.

    Args:
        runs: stacked runs; changed in place.
        task: the task.
        features: the stream.
        rows: row of the corpus table of every utterance.
        training: steps, batch size, schedule.
        label: names the work in progress lines.

    Returns:
        Per run the best dev value (NaN if the run diverged, however late) and its step, and the
        history.
    """
    ids = task.ids("train")
    targets, target_lengths = padded([task.target(name) for name in ids], features.device)
    train_rows = np.array([rows[name] for name in ids])
    position = torch.full((train_rows.max() + 1,), -1)
    position[train_rows] = torch.arange(len(ids))
    batches = training_batches(
        train_rows,
        features.frames[train_rows],
        int(training.batch_seconds / features.seconds_per_frame),
        training.buckets,
        training.steps,
        [run.seed for run in runs.runs],
    )
    layers = None
    if runs.runs[0].layer is not None:
        layers = np.array([run.layer for run in runs.runs])
    advance = make_step(runs)
    sign = 1.0 if task.higher_is_better else -1.0
    best = np.full(len(runs), -np.inf)
    result = Trained(np.full(len(runs), np.nan), np.zeros(len(runs), int))
    held = runs.snapshot()
    marks = _marks(training)
    mean_loss = torch.zeros(len(runs), device=features.device)
    since = 0
    for step, batch in enumerate(track(list(batches), label), start=1):
        states, lengths = features.batch(batch.rows, batch.width, layers)
        place = position[torch.from_numpy(batch.rows)].flatten().to(features.device)
        losses = partial(_losses, task, targets[place], target_lengths[place])
        mean_loss += advance(states, lengths, losses, _rate(training, step))
        since += 1
        if step not in marks:
            continue
        scores = evaluate(runs, task, features, rows, "dev", training.batch_seconds)
        value = np.array([task.value(score) for score in scores])
        value[~runs.alive.cpu().numpy()] = np.nan
        better = np.nan_to_num(sign * value, nan=-np.inf) > best
        best = np.where(better, sign * value, best)
        runs.keep(held, torch.from_numpy(better).to(features.device))
        result.dev = np.where(better, value, result.dev)
        result.best_step = np.where(better, step, result.best_step)
        loss = (mean_loss / since).tolist()
        mean_loss.zero_()
        since = 0
        for run, dev, mean in zip(runs.runs, value, loss, strict=True):
            result.history.append(
                {
                    "layer": run.layer,
                    "learning_rate": run.learning_rate,
                    "seed": run.seed,
                    "step": step,
                    "train_loss": mean,
                    "dev": float(dev),
                }
            )
        say(f"{label}: step {step} of {training.steps}, dev {task.metric} {_span(value)}")
    runs.restore(held)
    result.dev = np.where(runs.alive.cpu().numpy(), result.dev, np.nan)
    return result


def _losses(
    task: Task, targets: Tensor, target_lengths: Tensor, outputs: Tensor, lengths: Tensor
) -> Tensor:
    """Mean loss of every run (R,), from outputs (R, B, …) and the targets of all R · B examples."""
    each = task.loss(outputs.flatten(0, 1), lengths.flatten(), targets, target_lengths)
    return each.view(len(outputs), -1).mean(1)


def padded(targets: list[Tensor], device: torch.device) -> tuple[Tensor, Tensor]:
    """Stack targets (S,) into (N, S_max), zero-padded, and their lengths (N,)."""
    lengths = torch.tensor([len(target) for target in targets])
    stacked = torch.nn.utils.rnn.pad_sequence(targets, batch_first=True)
    return stacked.to(device), lengths.to(device)


def _marks(training: Training) -> set[int]:
    """Return the steps after which dev is evaluated; the last is one of them."""
    count = min(training.evaluations, training.steps)
    return {round(training.steps * (k + 1) / count) for k in range(count)}


def _rate(training: Training, step: int) -> float:
    """Return the factor on the learning rate at a step (counted from 1)."""
    warm = training.warmup * training.steps
    if step <= warm:
        return step / warm
    if training.schedule == "linear":
        return (training.steps - step + 1) / (training.steps - warm + 1)
    return 1.0


def _span(values: np.ndarray) -> str:
    if np.isnan(values).all():
        return "not finite"
    low, high = np.nanmin(values), np.nanmax(values)
    return f"{low:.2f}" if low == high else f"{low:.2f} … {high:.2f}"
