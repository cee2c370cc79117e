"""The loop: a batch of runs over one stream of features, selected on dev."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from ssl_bench.checkpoints import Keeper
from ssl_bench.evaluation import evaluate
from ssl_bench.features import Features
from ssl_bench.progress import say, track
from ssl_bench.recipe import Training
from ssl_bench.runs import Runs
from ssl_bench.sampling import Batch, balanced, training_batches
from ssl_bench.selection import Selection
from ssl_bench.steps import make_step
from ssl_bench.tasks.base import Task


@dataclass
class Trained:
    """What a training leaves: per run, its dev value, the step it is of, and the way there."""

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
    keeper: Keeper | None = None,
) -> Trained:
    """Train all runs and leave them at the weights that ``training`` selects.

    Args:
        runs: stacked runs; changed in place.
        task: the task.
        features: the stream.
        rows: row of the corpus table of every utterance.
        training: steps, batch size, schedule, selection.
        label: names the work in progress lines.
        keeper: writes checkpoints, and sets the training back to one that is there; None: nobody.

    Returns:
        Per run the dev value of the selected weights (NaN if the run diverged, however late), the
        step of the best of them, and the history.
    """
    ids = task.ids("train")
    targets, target_lengths = padded([task.target(name) for name in ids], features.device)
    train_rows = np.array([rows[name] for name in ids])
    position = torch.full((train_rows.max() + 1,), -1)
    position[train_rows] = torch.arange(len(ids))
    batches = _batches(runs, task, features, train_rows, training)
    layers = None
    if runs.runs[0].layer is not None:
        layers = np.array([run.layer for run in runs.runs])
    score = partial(
        evaluate,
        runs,
        task,
        features,
        rows,
        "dev",
        training.scored_seconds,
        drawn=_drawn_dev(task) if training.balance else None,
    )
    advance = make_step(runs)
    selection = Selection(runs, training.average)
    history: list[dict] = []
    marks = _marks(training)
    mean_loss = torch.zeros(len(runs), device=features.device)
    changing = {**runs.state(), **selection.state(), "mean_loss": mean_loss}
    done = 0 if keeper is None else keeper.resume(changing, history)
    left = track(islice(batches, done, None), label, total=training.steps - done)
    steps = enumerate(left, start=done + 1)
    for step, batch in steps if keeper is None else keeper.watch(steps):
        states, lengths = features.batch(batch.rows, batch.width, layers, batch.starts)
        place = position[torch.from_numpy(batch.rows)].flatten().to(features.device)
        losses = partial(_losses, task, targets[place], target_lengths[place])
        mean_loss += advance(states, lengths, losses, _rate(training, step))
        if step not in marks:
            continue
        scored = score(with_loss=training.select == "dev_loss")
        alive = runs.alive.cpu().numpy()
        value = np.array([task.value(table) for table in scored.tables])
        value[~alive] = np.nan
        merit = _merit(training, task, value, scored.losses, step)
        selection.offer(np.where(alive, merit, np.nan), step)
        loss = (mean_loss / (step - (history[-1]["step"] if history else 0))).tolist()
        mean_loss.zero_()
        for r, run in enumerate(runs.runs):
            row = {
                "layer": run.layer,
                "learning_rate": run.learning_rate,
                "seed": run.seed,
                "step": step,
                "train_loss": loss[r],
                "dev": float(value[r]),
            }
            if scored.losses is not None:
                row["dev_loss"] = float(scored.losses[r])
            history.append(row)
        say(f"{label}: step {step} of {training.steps}, dev {task.metric} {_span(value)}")
    selection.apply()
    if training.average > 1:
        dev = np.array([task.value(table) for table in score().tables])
    else:
        dev = _at(history, selection.best_steps, len(runs))
    dev = np.where(runs.alive.cpu().numpy() & (selection.best_steps > 0), dev, np.nan)
    return Trained(dev, selection.best_steps, history)


def _batches(
    runs: Runs, task: Task, features: Features, rows: np.ndarray, training: Training
) -> Iterator[Batch]:
    """Yield the batches of a training; sizes in seconds become frames."""

    def frames(seconds: float | None) -> int | None:
        return None if seconds is None else max(1, int(seconds / features.seconds_per_frame))

    weights = _weights(task, task.ids("train")) if training.balance else None
    return training_batches(
        rows,
        features.frames[rows],
        frames(training.batch_seconds),
        training.buckets,
        training.steps,
        [run.seed for run in runs.runs],
        utterances=training.batch_utterances,
        crop=frames(training.crop_seconds),
        weights=weights,
    )


def _drawn_dev(task: Task) -> list[str]:
    """Draw as many dev utterances as there are, all classes equally likely, always the same."""
    ids = task.ids("dev")
    weights = _weights(task, ids)
    drawn = np.random.default_rng(0).choice(len(ids), size=len(ids), p=weights / weights.sum())
    return [ids[place] for place in np.sort(drawn)]


def _weights(task: Task, ids: list[str]) -> np.ndarray:
    return balanced([tuple(task.target(name).tolist()) for name in ids])


def _merit(
    training: Training, task: Task, value: np.ndarray, losses: np.ndarray | None, step: int
) -> np.ndarray:
    """Return how good each run is at a step, higher being better, as ``select`` says."""
    if training.select == "last":
        return np.full(len(value), float(step))
    if losses is not None:
        return -losses
    return value if task.higher_is_better else -value


def _at(history: list[dict], steps: np.ndarray, runs: int) -> np.ndarray:
    """Return each run's dev value at a step of its own, NaN where it has none."""
    dev = np.full(runs, np.nan)
    for place, row in enumerate(history):  # a row for each run at every mark, in their order
        if row["step"] == steps[place % runs]:
            dev[place % runs] = row["dev"]
    return dev


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
