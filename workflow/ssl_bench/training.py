"""The loop: groups of stacked runs over one stream of features, selected on dev."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssl_bench.checkpoints import Keeper
from ssl_bench.device import upload
from ssl_bench.evaluation import Scored, evaluate
from ssl_bench.features import Features
from ssl_bench.neighbours import grouped_batches, groups_of
from ssl_bench.prefetch import Ready, readings
from ssl_bench.progress import say, track
from ssl_bench.recipe import Training
from ssl_bench.runs import Runs
from ssl_bench.sampling import Batch, balanced, training_batches
from ssl_bench.selection import Selection
from ssl_bench.steps import Losses, Step, differentiate, make_step
from ssl_bench.tasks.base import Task


@dataclass
class Trained:
    """What a training leaves: per run, its dev value, the step it is of, and the way there."""

    dev: np.ndarray
    best_step: np.ndarray
    history: list[dict] = field(default_factory=list)


def train(
    groups: list[Runs],
    task: Task,
    features: Features,
    rows: dict[str, int],
    training: Training,
    label: str,
    keeper: Keeper | None = None,
    heard: Features | None = None,
) -> list[Trained]:
    """Train groups of stacked runs and leave them at the weights that ``training`` selects.

    Each group, such as an interface, goes through the batches that it would see alone; what is
    encoded or read from disk for a step is so for all of them once.

    Args:
        groups: stacked runs of one interface each; changed in place.
        task: the task.
        features: what dev is read from.
        rows: row of the corpus table of every utterance.
        training: steps, batch size, schedule, selection.
        label: names the work in progress lines.
        keeper: writes checkpoints, and sets the training back to one that is there; None: nobody.
        heard: what batches to train on are read from; None: ``features``.

    Returns:
        For each group, per run the dev value of the selected weights (NaN if the run diverged,
        however late), the step of the best of them, and the history.
    """
    targets = Targets(task, rows, features.device)
    seeds = [0] if training.order == "shared" else _seeds(groups)
    courses = [Course(runs, training, seeds) for runs in groups]
    taken = make_step(*groups)
    heard = heard or features
    batches = _batches(seeds, task, heard, targets.rows, training)
    together = training.scored_together
    drawn = _drawn_dev(task, as_drawn=together is not None) if training.balance else None
    score = partial(
        evaluate,
        groups,
        task,
        rows=rows,
        split="dev",
        batch_seconds=training.scored_seconds,
        drawn=drawn,
        together=together,
    )
    padded, validated = training.scored_padded, features
    if padded is not None and training.encode == "group":
        validated = replace(heard, cropped=None)  # ESPnet's states see the padding as well
    marks = _marks(training)
    history: list[dict] = []
    changing = {
        name if place == 0 else f"{name}@{place}": value
        for place, course in enumerate(courses)
        for name, value in course.state().items()
    }
    done = 0 if keeper is None else keeper.resume(changing, history)
    left = track(islice(batches, done, None), label, total=training.steps - done)
    steps = enumerate(readings(heard, left, courses), start=done + 1)
    last_mark = max((row["step"] for row in history), default=0)
    for step, reads in steps if keeper is None else keeper.watch(steps):
        learn(taken, courses, reads, targets, _rate(training, step))
        if step not in marks:
            continue
        with_loss = training.select == "dev_loss"
        scored = score(features=validated, with_loss=with_loss, padded=padded)
        values = []
        for place_of, (course, found) in enumerate(zip(courses, scored, strict=True)):
            value = np.array([task.value(table) for table in found.tables])
            values.append(course.offer(value, found.losses, task, step))
            for row in course.rows(step, value, found.losses, step - last_mark):
                history.append({"group": place_of, **row})
        last_mark = step
        span = _span(np.concatenate(values))
        skipped = sum(int(course.skipped(step).sum()) for course in courses)
        note = f", {skipped:,} updates skipped: not finite" if skipped else ""
        say(f"{label}: step {step} of {training.steps}, dev {task.metric} {span}{note}")
    for course in courses:
        course.selection.apply()
    # what selects may see padding, what is reported never does
    rescored = training.average > 1 or padded is not None
    finals = score(features=features) if rescored else [None] * len(courses)
    trained = []
    for place_of, (course, final) in enumerate(zip(courses, finals, strict=True)):
        own_history = [
            {key: value for key, value in row.items() if key != "group"}
            for row in history
            if row["group"] == place_of
        ]
        trained.append(course.result(own_history, final, task))
    return trained


class Targets:
    """Targets of all training utterances, on the device that trains.

    Args:
        task: whose they are.
        rows: row of the corpus table of every utterance.
        device: that trains.
    """

    def __init__(self, task: Task, rows: dict[str, int], device: torch.device) -> None:
        ids = task.ids("train")
        self.task, self.rows = task, np.array([rows[name] for name in ids])
        self._padded, self._lengths = padded([task.target(name) for name in ids], device)
        self._place = torch.full((self.rows.max() + 1,), -1)
        self._place[self.rows] = torch.arange(len(ids))

    def losses(self, rows: np.ndarray, weights: np.ndarray | None = None) -> Losses:
        """Return the loss of runs for what they say of the utterances of rows (R, B).

        ``weights`` (R, B) are the utterances' shares in it; None: all are equal.
        """
        home = self._padded.device
        place = upload(self._place[torch.from_numpy(rows)].flatten(), home)
        shares = None if weights is None else upload(torch.from_numpy(weights), home)
        return partial(_losses, self.task, self._padded[place], self._lengths[place], shares)


def learn(
    step: Step, courses: list["Course"], reads: list[Ready], targets: Targets, rate: float
) -> None:
    """Take one step with all groups of runs.

    Args:
        step: trains their runs.
        courses: the groups.
        reads: what each of them reads.
        targets: what they learn.
        rate: scales all learning rates.
    """
    alike: dict[Any, list[tuple[int, Tensor, Tensor, np.ndarray]]] = {}
    shares: dict[int, np.ndarray] = {}
    found = step.forward([(states, lengths) for _, states, lengths in reads])
    for number, ((batch, *_), (outputs, counts)) in enumerate(zip(reads, found, strict=True)):
        every = len(outputs), batch.rows.shape[-1]
        rows = np.broadcast_to(batch.rows, every)
        if batch.weights is not None:  # of one group of runs or of all
            shares[number] = np.broadcast_to(batch.weights, every)
        shape = outputs.shape[1:], counts.shape[1:]
        alike.setdefault(shape, []).append((number, outputs, counts, rows))
    gradients = [outputs for outputs, _ in found]
    for those in alike.values():  # a loss for all: CTC takes hardly longer for more utterances
        own_shares = [shares[number] for number, *_ in those if number in shares]
        losses = targets.losses(
            np.concatenate([rows for *_, rows in those]),
            np.concatenate(own_shares) if own_shares else None,
        )
        outputs = _joined([own for _, own, *_ in those])
        counts = _joined([own for _, _, own, _ in those])
        each, gradient = differentiate(losses, outputs, counts)
        sizes = [len(own) for _, own, *_ in those]
        parts = zip(those, each.split(sizes), gradient.split(sizes), strict=True)
        for (number, *_), own_losses, own_gradient in parts:
            courses[number].loss += own_losses
            gradients[number] = own_gradient
    step.backward(gradients, rate)


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


class Course:
    """One group of runs on its way: what it reads, and what of it is kept.

    Args:
        runs: stacked runs; changed in place.
        training: how they are trained.
        seeds: the seeds of the first axis of a batch's rows; one alone is everybody's.
    """

    def __init__(self, runs: Runs, training: Training, seeds: list[int]) -> None:
        self.runs, self.training = runs, training
        self.selection = Selection(runs, training.average)
        self.loss = torch.zeros(len(runs), device=runs.device)
        """Sum of each run's losses since the last mark."""
        self.layers = runs.layers
        self._seed = np.array([seeds.index(run.seed) if len(seeds) > 1 else 0 for run in runs.runs])
        self._shared = self.layers is None and len(set(self._seed.tolist())) == 1

    def state(self) -> dict[str, Tensor]:
        """Return all tensors that training changes, as they are: none is a copy."""
        return {**self.runs.state(), **self.selection.state(), "mean_loss": self.loss}

    def own(self, batch: Batch) -> Batch:
        """Choose from the rows (S, B) of all seeds those of the runs, (R, B), or (B,) for all."""
        which: int | np.ndarray = int(self._seed[0]) if self._shared else self._seed
        starts, weights = (
            None if part is None else part[which] for part in (batch.starts, batch.weights)
        )
        return Batch(batch.rows[which], batch.width, starts, weights, batch.groups)

    def offer(
        self, value: np.ndarray, losses: np.ndarray | None, task: Task, step: int
    ) -> np.ndarray:
        """Let the selection see the dev values of a step; those of lost runs become NaN."""
        alive = self.runs.alive.cpu().numpy()
        value[~alive] = np.nan
        merit = _merit(self.training, task, value, losses, step)
        self.selection.offer(np.where(alive, merit, np.nan), step)
        return value

    def skipped(self, step: int) -> np.ndarray:
        """Return how many updates each run has left out up to a step, (R,)."""
        if self.training.not_finite == "stop":
            return np.zeros(len(self.runs), int)
        return step - self.runs.updates.cpu().numpy().astype(int)

    def rows(
        self, step: int, value: np.ndarray, losses: np.ndarray | None, steps: int
    ) -> list[dict]:
        """Return the history's rows of a step, the mean loss being that of the last ``steps``."""
        loss = (self.loss / steps).tolist()
        self.loss.zero_()
        skipped = self.skipped(step)
        rows = []
        for r, run in enumerate(self.runs.runs):
            row = {
                "layer": run.layer,
                "learning_rate": run.learning_rate,
                "seed": run.seed,
                "step": step,
                "train_loss": loss[r],
                "dev": float(value[r]),
            }
            if losses is not None:
                row["dev_loss"] = float(losses[r])
            if self.training.not_finite == "skip":
                row["skipped"] = int(skipped[r])
            rows.append(row)
        return rows

    def result(self, history: list[dict], final: Scored | None, task: Task) -> Trained:
        """Return what is left, from a last score or else from that of the best step."""
        best = self.selection.best_steps
        if final is None:
            dev = _at(history, best, len(self.runs))
        else:
            dev = np.array([task.value(table) for table in final.tables])
        alive = self.runs.alive.cpu().numpy() & (best > 0)
        return Trained(np.where(alive, dev, np.nan), best, history)


def _seeds(groups: list[Runs]) -> list[int]:
    """List the seeds of all runs, each once."""
    return sorted({run.seed for runs in groups for run in runs.runs})


def _batches(
    seeds: list[int], task: Task, features: Features, rows: np.ndarray, training: Training
) -> Iterator[Batch]:
    """Yield the batches of a training for each seed; sizes in seconds become frames."""

    def frames(seconds: float | None) -> int | None:
        return None if seconds is None else max(1, int(seconds / features.seconds_per_frame))

    ids, lengths, crop = task.ids("train"), features.frames[rows], frames(training.crop_seconds)
    weights, spare = _weights(task, ids) if training.balance else None, None
    if features.cropped is not None:
        crop = features.cropped.frames
        spare = np.maximum(features.cropped.lengths[rows] - features.cropped.samples, 0)
    if training.batches != "buckets":
        order = lengths
        if training.batches == "sliding":
            order = np.array([len(task.target(name)) for name in ids])
        groups = groups_of(training.batches, order, training.beside, training.last_batch)
        if training.halve_seconds is not None:
            seconds = np.array([task.seconds(name) for name in ids])
            groups = groups.halved(seconds > training.halve_seconds)
        return grouped_batches(
            rows,
            lengths,
            groups,
            training.groups,
            training.buckets,
            training.steps,
            seeds,
            crop=crop,
            spare=spare,
            weights=weights,
            cut=training.cut,
            accumulated=training.accumulated,
        )
    return training_batches(
        rows,
        lengths,
        frames(training.batch_seconds),
        training.buckets,
        training.steps,
        seeds,
        utterances=training.batch_utterances,
        crop=crop,
        spare=spare,
        weights=weights,
    )


def _drawn_dev(task: Task, as_drawn: bool = False) -> list[str]:
    """Draw as many dev utterances as there are, all classes equally likely, always the same.

    They are in dev's order, or ``as_drawn``, as a loader that draws them cuts its batches.
    """
    ids = task.ids("dev")
    weights = _weights(task, ids)
    drawn = np.random.default_rng(0).choice(len(ids), size=len(ids), p=weights / weights.sum())
    return [ids[place] for place in (drawn if as_drawn else np.sort(drawn))]


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
    task: Task,
    targets: Tensor,
    target_lengths: Tensor,
    shares: Tensor | None,
    outputs: Tensor,
    lengths: Tensor,
) -> Tensor:
    """Mean loss of every run (R,), from outputs (R, B, …) and the targets of all R · B examples."""
    each = task.loss(outputs.flatten(0, 1), lengths.flatten(), targets, target_lengths)
    each = each.view(len(outputs), -1)
    return each.mean(1) if shares is None else (each * shares).sum(1)


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
