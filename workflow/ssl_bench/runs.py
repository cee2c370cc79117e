"""Several runs of one interface and head, trained together as stacked parameters.

R runs (seeds, learning rates or single layers) have the same shapes, so their parameters are
stacked on a first axis. Where it pays, one vectorised forward computes all: on a GPU a step of
many small runs then costs little more than one run's, since each by itself is bound by kernel
launches. Else the runs are computed one after another, or as branches of a recorded step, with the
library's own backward passes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state

from ssl_bench.casting import Copies
from ssl_bench.lanes import side_by_side
from SSL_Interface import Interface

_LANES = 8
"""Branches that runs which are not stacked are recorded on."""


@dataclass(frozen=True)
class Run:
    """One training: its seed, learning rate and, for single-layer probes, its layer."""

    seed: int
    learning_rate: float
    layer: int | None = None


FULL = 3e10
"""Multiply-accumulates of one run's interface in a batch that keep a GPU busy by themselves."""

BRANCHES = 20
"""Most runs that are branches of a recorded step even if each keeps a GPU far from busy."""


def stacking_pays(device: str, macs: float, shared: bool, branches: int | None) -> bool:
    """Whether several runs are computed faster at once than each by itself.

    On a GPU where the products of one run, ``macs``, take no longer than to launch them, unless the
    runs are few ``branches`` of a recorded step, which nothing waits to launch; None: the step is
    not recorded. On a CPU, where launching costs little, if states are ``shared``, as they are then
    read once for all.
    """
    if device != "cuda":
        return shared
    return macs < FULL and (branches is None or branches > BRANCHES)


class Joined(nn.Module):
    """An interface and the head that reads it."""

    def __init__(self, interface: Interface, head: nn.Module) -> None:
        super().__init__()
        self.interface: Interface = interface
        self.head = head

    def forward(self, states: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """States (L, B, T, D), lengths (B,) → the head's outputs and their lengths."""
        if not torch.is_autocast_enabled(states.device.type):
            states = states.float()
        return self.head(self.interface(states, lengths), lengths)


class Runs:
    """R stacked copies of a :class:`Joined` and their optimizer (Adam or AdamW).

    A run whose gradient is not finite is stopped and keeps its last finite weights; the others go
    on. With ``skip`` it goes on, too, without that update. ``alive`` (R,) says which still train,
    ``updates`` (R,) how many updates each has had. ``recordable``: whether a step's work is the
    same for all batches of a shape, so that it can be recorded as a CUDA graph.
    """

    recordable = True

    def __init__(
        self,
        runs: list[Run],
        make: Callable[[], Joined],
        device: torch.device,
        *,
        stackable: bool,
        weight_decay: float = 0.0,
        decoupled: bool = False,
        clip: float = 1.0,
        layer_weight_scale: float = 1.0,
        autocast: bool = True,
        skip: bool = False,
    ) -> None:
        modules = []
        for run in runs:
            torch.manual_seed(run.seed)
            modules.append(make())
        self.runs, self.device, self.stackable = runs, device, stackable
        self._lanes: list[torch.cuda.Stream] = []
        self.autocast = autocast and device.type == "cuda"
        stacked, buffers = stack_module_state(modules)
        stacked = {name: value for name, value in stacked.items() if value.requires_grad}
        # A row of parameters for each run: the optimizer works on rows, modules on views of them.
        self._flat = torch.cat([v.detach().flatten(1).to(device) for v in stacked.values()], 1)
        sizes = [v[0].numel() for v in stacked.values()]
        self.params: dict[str, Tensor] = {
            name: part.view(value.shape).detach().requires_grad_()
            for (name, value), part in zip(stacked.items(), self._flat.split(sizes, 1), strict=True)
        }
        self.leaves = list(self.params.values())
        """What the last forward pass computed with, R · n numbers each."""
        self.buffers: dict[str, Tensor] = {k: v.to(device) for k, v in buffers.items()}
        self.skeleton = modules[0].to(device)
        self._copies: Copies | None = None
        if self.autocast:
            self.cast_once()
        self.alive = torch.ones(len(runs), dtype=torch.bool, device=device)
        self.clip, self.weight_decay, self.decoupled = clip, weight_decay, decoupled
        self.skip = skip
        rates = torch.tensor([run.learning_rate for run in runs], device=device)
        self.layer_weight_scale = layer_weight_scale
        scales = [self.scale(name) for name in stacked]
        parts = [torch.full((n,), s) for n, s in zip(sizes, scales, strict=True)]
        self._run_rates, self._scale = rates, torch.cat(parts).to(device)
        self._fused = device.type == "cuda" and find_spec("triton") is not None
        if self._fused:
            from ssl_bench._adam import prepare

            prepare(self._flat.shape[1], weight_decay, decoupled, device)
        else:
            self._rates = rates[:, None] * self._scale
        self._first, self._second = torch.zeros_like(self._flat), torch.zeros_like(self._flat)
        self.updates = torch.zeros(len(runs), dtype=torch.float64, device=device)

    def __len__(self) -> int:
        return len(self.runs)

    def cast_once(self) -> None:
        """Have autocast's copies made for all runs at once, where they are not stacked."""
        self._copies = Copies(self._flat, self.params, self.skeleton.head)

    def lent(self, stacked: bool) -> dict[str, Tensor]:
        """Return what the modules compute with, and what is differentiated by: names → (R, …)."""
        return self.params if stacked or self._copies is None else self._copies.refreshed()

    @property
    def layers(self) -> np.ndarray | None:
        """The single layer of each run, (R,), where it reads but one."""
        if self.runs[0].layer is None:
            return None
        return np.array([run.layer for run in self.runs])

    def scale(self, name: str) -> float:
        """Return how many times faster than the rest a parameter learns."""
        return self.layer_weight_scale if _is_layer_weight(name) else 1.0

    def states(self, batch: Tensor, lengths: Tensor) -> Tensor:
        """Return the states (L, B, T, D) that all runs read in a batch."""
        return batch

    def forward(
        self, states: Tensor, lengths: Tensor, *, training: bool, shared: bool
    ) -> tuple[Tensor, Tensor]:
        """Run all; return outputs (R, B, …) and lengths (R, B).

        ``shared``: all runs read the same states (L, B, T, D); else each its own (R, L, B, T, D).
        """
        self.skeleton.train(training)
        stacked = self._stacks(states, shared, training)
        params = self.lent(stacked)
        self.leaves = list(params.values())
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            if not stacked:
                return self._looped(params, states, lengths, shared)
            axis = None if shared else 0
            outputs, out_lengths = torch.vmap(
                self._one, in_dims=(0, 0, axis, axis), randomness="different"
            )(params, self.buffers, states, lengths)
        return outputs.float(), out_lengths

    def _stacks(self, states: Tensor, shared: bool, training: bool) -> bool:
        if not self.stackable or len(self) == 1:
            return False
        frames = states.shape[-3] * states.shape[-2]
        macs = self.skeleton.interface.macs_per_frame() * frames
        branches = len(self) if training and self.recordable else None
        return stacking_pays(self.device.type, macs, shared, branches)

    def _one(
        self,
        params: dict[str, Tensor],
        buffers: dict[str, Tensor],
        states: Tensor,
        lengths: Tensor,
    ) -> tuple[Tensor, Tensor]:
        return functional_call(self.skeleton, (params, buffers), (states, lengths))

    def _looped(
        self, params: dict[str, Tensor], states: Tensor, lengths: Tensor, shared: bool
    ) -> tuple[Tensor, Tensor]:
        each = {name: value.unbind() for name, value in params.items()}
        work = [
            partial(
                self._one,
                {k: v[r] for k, v in each.items()},
                {k: v[r] for k, v in self.buffers.items()},
                states if shared else states[r],
                lengths if shared else lengths[r],
            )
            for r in range(len(self))
        ]
        if self.device.type == "cuda" and torch.cuda.is_current_stream_capturing():
            # An LSTM, say, leaves most of a GPU idle, so runs are branches of the recording.
            here = torch.cuda.current_stream(self.device)
            while len(self._lanes) < min(len(self), _LANES) - 1:
                self._lanes.append(torch.cuda.Stream(self.device))
            results = side_by_side([here, *self._lanes], work)
        else:
            results = [one() for one in work]
        outputs, out_lengths = zip(*results, strict=True)
        return torch.stack(outputs).float(), torch.stack(out_lengths)

    def step(self, losses: Tensor, rate: float = 1.0) -> None:
        """Update every run by its own loss; ``losses`` (R,), ``rate`` scales all learning rates."""
        self.update(self.gradients(losses, torch.ones_like(losses)), rate)

    def gradients(self, outputs: Tensor, weights: Tensor) -> Tensor:
        """Return the gradient of Σ outputs · weights, a row of all parameters for each run."""
        found = torch.autograd.grad(outputs, self.leaves, weights, allow_unused=True)
        grads = [
            torch.zeros_like(v) if g is None else g for g, v in zip(found, self.leaves, strict=True)
        ]
        dtype = self._flat.dtype
        return torch.cat([grad.to(dtype).reshape(len(self), -1) for grad in grads], 1)

    @torch.no_grad()
    def update(self, grads: Tensor, rate: float | Tensor) -> None:
        """Clip each run's gradient and take one step of Adam or AdamW.

        All that changes from step to step is a tensor, so that a CUDA graph can be made of it.
        """
        norm = grads.norm(dim=1)
        taken = norm.isfinite()
        if not self.skip:
            self.alive &= taken
            taken = self.alive
        scale = (self.clip / (norm + 1e-6)).clamp(max=1.0)
        self.updates += taken
        if self._fused:
            from ssl_bench._adam import update_rows

            rates = self._run_rates * rate
            update_rows(
                *(self._flat, grads, self._first, self._second, self.updates),
                *(rates, self._scale, scale, taken),
                *(self.weight_decay, self.decoupled),
            )
            return
        taken = taken[:, None]
        first_bias = (1 - 0.9**self.updates).float()[:, None]
        second_bias = (1 - 0.999**self.updates).sqrt().float()[:, None]
        lr = self._rates * rate
        grads = torch.where(taken, grads * scale[:, None], 0.0)
        if self.weight_decay and not self.decoupled:
            grads = grads + self.weight_decay * self._flat
        moments = self._first, self._second
        before = [moment.clone() for moment in moments] if self.skip else []
        self._first.lerp_(grads, 0.1)
        self._second.mul_(0.999).addcmul_(grads, grads, value=0.001)
        for moment, value in zip(moments, before, strict=False):
            moment.copy_(torch.where(taken, moment, value))
        change = lr * (self._first / first_bias) / (self._second.sqrt() / second_bias + 1e-8)
        if self.weight_decay and self.decoupled:
            change = change + lr * self.weight_decay * self._flat
        self._flat.sub_(torch.where(taken, change, 0.0))

    def state(self) -> dict[str, Tensor]:
        """Return all tensors that training changes, as they are: none is a copy."""
        return {
            "parameters": self._flat,
            "first": self._first,
            "second": self._second,
            "updates": self.updates,
            "alive": self.alive,
            **{f"buffer.{name}": value for name, value in self.buffers.items()},
        }

    def snapshot(self) -> dict[str, Tensor]:
        """Copy the stacked parameters."""
        return {k: v.detach().clone() for k, v in self.params.items()}

    def stored(self) -> dict[str, Tensor]:
        """Return the parameters as a cell keeps them, stacked over runs."""
        return self.snapshot()

    def keep(self, held: dict[str, Tensor], which: Tensor) -> None:
        """Overwrite the chosen runs' part of a snapshot, wherever it is, with weights of now."""
        for name, value in self.params.items():
            ones = (-1,) + (1,) * (value.dim() - 1)
            now = value.detach().to(held[name].device)
            held[name].copy_(torch.where(which.to(now.device).view(ones), now, held[name]))

    def restore(self, held: dict[str, Tensor]) -> None:
        """Set all runs' parameters from a snapshot."""
        with torch.no_grad():
            for name, value in self.params.items():
                value.copy_(held[name])

    def module(self, r: int) -> Joined:
        """Return run r as an ordinary module, its weights copied in."""
        with torch.no_grad():
            for name, parameter in self.skeleton.named_parameters():
                parameter.copy_(self.params[name][r])
            for name, buffer in self.skeleton.named_buffers():
                buffer.copy_(self.buffers[name][r])
        return self.skeleton


def _is_layer_weight(name: str) -> bool:
    """Softmax weights of layers: a few scalars that must travel far, so they learn faster."""
    return name.startswith("interface.") and name.endswith("weights")
