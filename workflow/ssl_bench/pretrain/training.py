"""The loop of masked prediction, for one iteration of one model."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import islice, takewhile

import torch
from torch import Tensor

from ssl_bench.checkpoints import Checkpoints
from ssl_bench.errors import StudyError
from ssl_bench.pretrain.augment import corrupt
from ssl_bench.pretrain.data import Clips
from ssl_bench.pretrain.model import PretrainingModel, span_mask
from ssl_bench.pretrain.settings import Settings, Training
from ssl_bench.spending import Spending

REPORT_EVERY = 50
"""Steps between two looks at the losses, which wait for the GPU."""


@dataclass
class Report:
    """What a training run leaves for the model card."""

    steps: int = 0
    planned_steps: int = 0
    seconds: float = 0.0
    start_seconds: float = 0.0
    """Seconds of the (last start's) first step, compilation included."""
    curve: list[dict[str, float]] = field(default_factory=list)
    held_out: list[dict[str, float]] = field(default_factory=list)
    peak_memory_gb: float | None = None


def schedule(progress: float, peak: float, warm_up: float) -> float:
    """Return the learning rate at a progress in 0…1: linear warm-up, then cosine to zero."""
    if progress < warm_up:
        return peak * progress / warm_up
    return peak * 0.5 * (1 + math.cos(math.pi * (progress - warm_up) / (1 - warm_up)))


class Trainer:
    """Trains one model on clips and targets.

    Args:
        settings: all settings.
        training: steps, batch and learning rate of this iteration.
        model: on its device.
        clips: the speech.
        targets: (heads, clips, T) on the same device.
        minutes: time limit. Progress is the larger of steps done and time used, so that the
            schedule always reaches its end; None means steps alone.
        compiled: whether to train with ``torch.compile``.
        kept: checkpoints to write and to go on from; None: none. Not with a time limit.
    """

    def __init__(
        self,
        settings: Settings,
        training: Training,
        model: PretrainingModel,
        clips: Clips,
        targets: Tensor,
        *,
        minutes: float | None = None,
        compiled: bool = True,
        kept: Checkpoints | None = None,
    ) -> None:
        self.settings, self.training = settings, training
        self.model, self.clips, self.targets = model, clips, targets
        self.minutes = minutes
        self.device = clips.device
        self.compiled, self.kept = compiled, kept
        self.rng = torch.Generator(self.device).manual_seed(settings.seed)
        self.order = torch.Generator().manual_seed(settings.seed)
        self.trainable = clips.count - settings.speech.held_out

    def train(self, log: Callable[[str], None] = print) -> Report:
        """Run all steps and measure the held-out losses.

        Raises:
            StudyError: a loss is not finite; says at which step.
        """
        report = Report(planned_steps=self.training.steps)
        optimizer = torch.optim.AdamW(
            self.model.parameters(),
            lr=self.training.learning_rate,
            betas=(0.9, 0.98),
            eps=1e-6,
            weight_decay=self.settings.weight_decay,
            fused=self.device.type == "cuda",
        )
        self.model.train()
        self.model.compile_parts(self.compiled)
        spending = Spending(self.device)
        begin = started = time.perf_counter()
        every = max(1, min(REPORT_EVERY, self.training.steps // 10))
        losses = torch.zeros(every, 1 + 3 * len(self.targets), device=self.device)
        drawn = self.rng.get_state()
        changing = {
            **{f"model.{name}": value for name, value in self.model.state_dict().items()},
            **_moments(optimizer),
            "losses": losses,
            "drawn": drawn,
        }
        if self.kept is not None:
            self.kept.spending = spending
        with nullcontext() if self.kept is None else self.kept.keeper(0, []) as keeper:
            done = 0 if keeper is None else keeper.resume(changing, report.curve)
            self.rng.set_state(drawn)
            report.steps, progress = done, done / self.training.steps
            left = enumerate(islice(self._batches(), done, None), start=done + 1)
            steps = takewhile(lambda _: progress < 1, left)
            for step, indices in steps if keeper is None else keeper.watch(steps):
                rate = schedule(
                    max(progress, 1 / self.training.steps),
                    self.training.learning_rate,
                    self.settings.warm_up,
                )
                for group in optimizer.param_groups:
                    group["lr"] = rate
                loss, figures = self._loss(indices, self.rng)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
                optimizer.step()
                place = (step - 1) % every
                losses[place] = torch.cat([loss.detach()[None], figures.flatten()])
                drawn.copy_(self.rng.get_state())
                if step == done + 1:
                    self._wait()
                    started = time.perf_counter()
                    report.start_seconds = started - begin
                report.steps, progress = step, self._progress(step, begin, started)
                if progress >= 1 or place == every - 1:
                    entry = self._read(losses[: place + 1].cpu(), step)
                    elapsed = spending.now().seconds
                    entry |= {"learning_rate": rate, "seconds": elapsed}
                    report.curve.append(entry)
                    log(
                        f"step {step}/{self.training.steps} loss {entry['loss']:.3f} "
                        f"masked {entry['masked_0']:.3f} accuracy {entry['accuracy_0']:.3f} "
                        f"lr {rate:.2e} {elapsed:.0f} s, {100 * progress:.0f} %"
                    )
        self._wait()
        report.seconds = spending.now().seconds
        report.held_out = self._held_out()
        if self.device.type == "cuda":
            report.peak_memory_gb = spending.now().peak / 1e9
        return report

    def _batches(self) -> Iterator[Tensor]:
        """Yield the clips of each step, for ever: all of them, again and again in another order."""
        batch, queue = self.training.batch, torch.empty(0, dtype=torch.int64)
        while True:
            if len(queue) < batch:
                fresh = torch.randperm(self.trainable, generator=self.order)
                queue = torch.cat([queue, fresh.repeat(-(-batch // len(fresh)))])
            yield queue[:batch]
            queue = queue[batch:]

    def _progress(self, step: int, begin: float, started: float) -> float:
        by_steps = step / self.training.steps
        if self.minutes is None:
            return by_steps
        # Compilation happens in the first step: it takes from the time but must not skip warm-up.
        left = 60 * self.minutes - (started - begin)
        return max(by_steps, (time.perf_counter() - started) / left if left > 0 else 1.0)

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _loss(self, indices: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        waves = corrupt(self.clips.batch(indices), self.settings.augment, rng)
        targets = self.targets[:, indices.to(self.device, non_blocking=True)].long()
        mask = span_mask(len(indices), targets.shape[2], self.settings.loss, rng)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            return self.model(waves, mask, targets)

    def _read(self, values: Tensor, step: int) -> dict[str, float]:
        """Average a stretch of steps (N, 1 + 3 × heads) and check it."""
        bad = (~torch.isfinite(values[:, 0])).nonzero()
        if len(bad):
            at = step - len(values) + int(bad[0]) + 1
            raise StudyError(
                f"pretrain: the loss of step {at} is not finite; lower the learning rate"
            )
        mean = values.mean(0).tolist()
        entry = {"step": float(step), "loss": mean[0]}
        for head in range((len(mean) - 1) // 3):
            masked, unmasked, accuracy = mean[1 + 3 * head : 4 + 3 * head]
            entry |= {f"masked_{head}": masked, f"unmasked_{head}": unmasked}
            entry[f"accuracy_{head}"] = accuracy
        return entry

    @torch.no_grad()
    def _held_out(self) -> list[dict[str, float]]:
        """Return each head's figures on clips that were never trained on, corrupted alike."""
        rng = torch.Generator(self.device).manual_seed(self.settings.seed + 1)
        self.model.eval()
        self.model.compile_parts(False)
        indices = torch.arange(self.trainable, self.clips.count)
        parts = [self._loss(part, rng)[1] for part in indices.split(self.training.batch)]
        sizes = torch.tensor([len(p) for p in indices.split(self.training.batch)]).float()
        mean = (torch.stack(parts).float().cpu() * sizes[:, None, None]).sum(0) / sizes.sum()
        names = ("masked", "unmasked", "accuracy")
        return [dict(zip(names, head, strict=True)) for head in mean.tolist()]


def _moments(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return an optimizer's state before its first step, zero, as tensors that it will update."""
    for group in optimizer.param_groups:
        group["lr"] = 0.0
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    made = {
        f"optimizer.{number}.{name}": value
        for number, state in enumerate(optimizer.state.values())
        for name, value in state.items()
    }
    for value in made.values():
        value.zero_()
    optimizer.zero_grad(set_to_none=True)
    return made
