"""One training step of stacked runs: computed anew each time, or recorded once and replayed.

Steps of this size are bound by the launching of kernels: hundreds of small ones. On a GPU they are
recorded as CUDA graphs, one pair for each shape of a batch, and a replay costs two launches. The
loss stays outside, between the two graphs, because CTC reads its lengths on the host:

    states → [interface, head] → outputs → loss → ∂loss/∂outputs → [backward, update]

Recording computes nothing that is kept: warm-up runs the forward and backward alone, so neither
parameters nor the optimizer's state see it, and the random generator is set back.
"""

import weakref
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from ssl_bench.runs import Runs

Losses = Callable[[Tensor, Tensor], Tensor]
"""Outputs (R, B, …) and their lengths (R, B) → the loss of every run (R,)."""

_WARM_UP = 2  # libraries choose kernels and reserve memory on first use, which cannot be recorded


class Step(Protocol):
    """Train all runs by one batch: forward, then backward with what the loss says of the outputs.

    What several groups do between the two can then be done for all of them at once.
    """

    def forward(self, states: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return outputs (R, B, …), detached, and their lengths (R, B).

        States (R, L, B, T, D), lengths (R, B), or of all runs (L, B, T, D), (B,).
        """

    def backward(self, gradient: Tensor, rate: float) -> None:
        """Update all runs by the gradient of their losses for the outputs of the last forward.

        ``rate`` scales all learning rates.
        """


def take(step: Step, states: Tensor, lengths: Tensor, losses: Losses, rate: float) -> Tensor:
    """Take one step by itself and return the losses (R,)."""
    outputs, out_lengths = step.forward(states, lengths)
    found, gradient = differentiate(losses, outputs, out_lengths)
    step.backward(gradient, rate)
    return found


def differentiate(losses: Losses, outputs: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Return the losses (R,) and the gradient of their sum for the outputs."""
    outputs = outputs.detach().requires_grad_()
    found = losses(outputs, lengths)
    (gradient,) = torch.autograd.grad(found.sum(), outputs)
    return found.detach(), gradient


def make_step(runs: Runs, desk: "Desk | None" = None) -> Step:
    """Return the fastest step for these runs: recorded on a GPU, where they can be."""
    if runs.device.type == "cuda" and runs.recordable:
        return RecordedStep(runs, desk)
    return EagerStep(runs)


class EagerStep:
    """Compute every step anew."""

    def __init__(self, runs: Runs) -> None:
        self.runs = runs
        self._outputs: Tensor | None = None

    def forward(self, states: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`Step`."""
        self._outputs, out_lengths = _forward(self.runs, states, lengths)
        return self._outputs.detach(), out_lengths

    def backward(self, gradient: Tensor, rate: float) -> None:
        """See :class:`Step`."""
        assert self._outputs is not None
        outputs, self._outputs = self._outputs, None
        self.runs.update(self.runs.gradients(outputs, gradient), rate)


class Desk:
    """Where recorded steps find their states: always at one place for each shape.

    Several groups of runs may share a desk. What all of them read is laid there once.
    """

    def __init__(self) -> None:
        self._places: dict[tuple[torch.Size, torch.Size], tuple[Tensor, Tensor]] = {}
        self._lies: dict[tuple[torch.Size, torch.Size], weakref.ref[Tensor]] = {}

    def lay(self, states: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Copy states, layer by layer, and lengths to their place, unless these lie there."""
        key = states.shape, lengths.shape
        if key not in self._places:
            layered = torch.empty_like(states, memory_format=torch.contiguous_format)
            self._places[key] = layered, torch.empty_like(lengths)
        place = self._places[key]
        if key not in self._lies or self._lies[key]() is not states:
            place[0].copy_(states)
            place[1].copy_(lengths)
            self._lies[key] = weakref.ref(states)
        return place


class RecordedStep:
    """Replay one pair of CUDA graphs for each shape of a batch."""

    def __init__(self, runs: Runs, desk: Desk | None = None) -> None:
        self.runs, self.desk = runs, desk or Desk()
        self.rate = torch.ones((), device=runs.device)
        self._pool = torch.cuda.graph_pool_handle()
        self._recordings: dict[tuple[torch.Size, torch.Size], _Recording] = {}
        self._last: _Recording | None = None

    def forward(self, states: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`Step`. The next forward of the same shape overwrites the outputs."""
        states, lengths = self.desk.lay(states, lengths)
        key = states.shape, lengths.shape
        if key not in self._recordings:
            self._recordings[key] = _Recording(self.runs, self.rate, states, lengths, self._pool)
        self._last = self._recordings[key]
        self._last.forward.replay()
        return self._last.outputs.detach(), self._last.out_lengths

    def backward(self, gradient: Tensor, rate: float) -> None:
        """See :class:`Step`."""
        assert self._last is not None
        self.rate.fill_(rate)
        self._last.gradient.copy_(gradient)
        self._last.backward.replay()


class _Recording:
    """The two graphs of one shape, and the tensors by which they are fed and read."""

    def __init__(
        self, runs: Runs, rate: Tensor, states: Tensor, lengths: Tensor, pool: Any
    ) -> None:
        self.states, self.lengths = states, lengths
        generator = torch.cuda.get_rng_state(runs.device)
        stream = torch.cuda.Stream(runs.device)
        stream.wait_stream(torch.cuda.current_stream(runs.device))
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UP):
                outputs, _ = self._forward(runs)
                runs.gradients(outputs, torch.zeros_like(outputs))
        torch.cuda.current_stream(runs.device).wait_stream(stream)
        torch.cuda.set_rng_state(generator, runs.device)
        self.forward, self.backward = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.forward, pool=pool, stream=stream):
            self.outputs, self.out_lengths = self._forward(runs)
        self.gradient = torch.zeros_like(self.outputs)
        with torch.cuda.graph(self.backward, pool=pool, stream=stream):
            runs.update(runs.gradients(self.outputs, self.gradient), rate)

    def _forward(self, runs: Runs) -> tuple[Tensor, Tensor]:
        return _forward(runs, self.states, self.lengths)


def _forward(runs: Runs, states: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    return runs.forward(states, lengths, training=True, shared=lengths.dim() == 1)
