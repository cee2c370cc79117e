"""Several runs of one interface and head, trained together as stacked parameters.

R runs (seeds, learning rates or single layers) have the same shapes, so their parameters are
stacked on a first axis and one vectorised forward computes all: on a GPU a step costs little more
than one run's, since a single run of this size is bound by kernel launches.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state

from SSL_Interface import Interface


@dataclass(frozen=True)
class Run:
    """One training: its seed, learning rate and, for single-layer probes, its layer."""

    seed: int
    learning_rate: float
    layer: int | None = None


class Joined(nn.Module):
    """An interface and the head that reads it."""

    def __init__(self, interface: Interface, head: nn.Module) -> None:
        super().__init__()
        self.interface: Interface = interface
        self.head = head

    def forward(self, states: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """States (L, B, T, D), lengths (B,) → the head's outputs and their lengths."""
        return self.head(self.interface(states.float(), lengths), lengths)


class Runs:
    """R stacked copies of a :class:`Joined` and their optimizer (Adam or AdamW).

    A run whose gradient is not finite is stopped and keeps its last finite weights; the others go
    on. ``alive`` (R,) says which still train.
    """

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
    ) -> None:
        modules = []
        for run in runs:
            torch.manual_seed(run.seed)
            modules.append(make())
        self.runs, self.device, self.stackable = runs, device, stackable
        params, buffers = stack_module_state(modules)
        self.params: dict[str, Tensor] = {
            k: v.detach().to(device).requires_grad_() for k, v in params.items()
        }
        self.buffers: dict[str, Tensor] = {k: v.to(device) for k, v in buffers.items()}
        self.skeleton = modules[0].to(device)
        self.alive = torch.ones(len(runs), dtype=torch.bool, device=device)
        self.clip, self.weight_decay, self.decoupled = clip, weight_decay, decoupled
        rates = torch.tensor([run.learning_rate for run in runs], device=device)
        self._rates = {
            name: rates * (layer_weight_scale if _is_layer_weight(name) else 1.0) for name in params
        }
        self._first = {k: torch.zeros_like(v) for k, v in self.params.items()}
        self._second = {k: torch.zeros_like(v) for k, v in self.params.items()}
        self._steps = 0

    def __len__(self) -> int:
        return len(self.runs)

    def forward(
        self, states: Tensor, lengths: Tensor, *, training: bool, shared: bool
    ) -> tuple[Tensor, Tensor]:
        """Run all; return outputs (R, B, …) and lengths (R, B).

        ``shared``: all runs read the same states (L, B, T, D); else each its own (R, L, B, T, D).
        """
        self.skeleton.train(training)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            if not self.stackable:
                return self._looped(states, lengths, shared)
            axis = None if shared else 0
            outputs, out_lengths = torch.vmap(
                self._one, in_dims=(0, 0, axis, axis), randomness="different"
            )(self.params, self.buffers, states, lengths)
        return outputs.float(), out_lengths

    def _one(
        self,
        params: dict[str, Tensor],
        buffers: dict[str, Tensor],
        states: Tensor,
        lengths: Tensor,
    ) -> tuple[Tensor, Tensor]:
        return functional_call(self.skeleton, (params, buffers), (states, lengths))

    def _looped(self, states: Tensor, lengths: Tensor, shared: bool) -> tuple[Tensor, Tensor]:
        results = [
            self._one(
                {k: v[r] for k, v in self.params.items()},
                {k: v[r] for k, v in self.buffers.items()},
                states if shared else states[r],
                lengths if shared else lengths[r],
            )
            for r in range(len(self))
        ]
        outputs, out_lengths = zip(*results, strict=True)
        return torch.stack(outputs).float(), torch.stack(out_lengths)

    def step(self, losses: Tensor, rate: float = 1.0) -> None:
        """Update every run by its own loss; ``losses`` (R,), ``rate`` scales all learning rates."""
        names = list(self.params)
        values = [self.params[name] for name in names]
        found = torch.autograd.grad(losses.sum(), values, allow_unused=True)
        grads = [
            torch.zeros_like(v) if g is None else g for g, v in zip(found, values, strict=True)
        ]
        with torch.no_grad():
            self._update(names, grads, rate)

    def _update(self, names: list[str], grads: list[Tensor], rate: float) -> None:
        squares = [g.flatten(1).square().sum(1) if g.dim() > 1 else g.square() for g in grads]
        norm = torch.stack(squares).sum(0).sqrt()
        self.alive &= norm.isfinite()
        scale = (self.clip / (norm + 1e-6)).clamp(max=1.0)
        self._steps += 1
        first_bias = 1 - 0.9**self._steps
        second_bias = (1 - 0.999**self._steps) ** 0.5
        for name, grad in zip(names, grads, strict=True):
            value, m, v = self.params[name], self._first[name], self._second[name]
            ones = (-1,) + (1,) * (value.dim() - 1)
            alive = self.alive.view(ones)
            lr = (self._rates[name] * rate).view(ones)
            grad = torch.where(alive, grad * scale.view(ones), 0.0)
            if self.weight_decay and not self.decoupled:
                grad = grad + self.weight_decay * value
            m.lerp_(grad, 0.1)
            v.mul_(0.999).addcmul_(grad, grad, value=0.001)
            change = lr * (m / first_bias) / (v.sqrt() / second_bias + 1e-8)
            if self.weight_decay and self.decoupled:
                change = change + lr * self.weight_decay * value
            value.sub_(torch.where(alive, change, 0.0))

    def snapshot(self) -> dict[str, Tensor]:
        """Copy the stacked parameters."""
        return {k: v.detach().clone() for k, v in self.params.items()}

    def keep(self, held: dict[str, Tensor], which: Tensor) -> None:
        """Overwrite the chosen runs' part of a snapshot with their weights of now."""
        for name, value in self.params.items():
            ones = (-1,) + (1,) * (value.dim() - 1)
            held[name].copy_(torch.where(which.view(ones), value.detach(), held[name]))

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
