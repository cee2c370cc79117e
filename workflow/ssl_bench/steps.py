"""One training step of stacked runs: computed anew each time, or recorded once and replayed.

Steps of this size are bound by the launching of kernels: hundreds of small ones. On a GPU they are
recorded as CUDA graphs, one pair for each shape of a batch, and a replay costs two launches. The
loss stays outside, between the two graphs, because CTC reads its lengths on the host:

    states → [interface, head] → outputs → loss → ∂loss/∂outputs → [backward, update]

Recording computes nothing that is kept: warm-up runs the forward and backward alone, so neither
parameters nor the optimizer's state see it, and the random generator is set back.
"""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from ssl_bench.runs import Runs

Losses = Callable[[Tensor, Tensor], Tensor]
"""Outputs (R, B, …) and their lengths (R, B) → the loss of every run (R,)."""

_WARM_UP = 2  # libraries choose kernels and reserve memory on first use, which cannot be recorded


class Step(Protocol):
    """Train all runs by one batch and return their losses (R,)."""

    def __call__(self, states: Tensor, lengths: Tensor, losses: Losses, rate: float) -> Tensor:
        """States (R, L, B, T, D), lengths (R, B), or of all runs (L, B, T, D), (B,).

        ``rate`` scales all learning rates.
        """


def make_step(runs: Runs) -> Step:
    """Return the fastest step for these runs: recorded on a GPU, where they can be."""
    if runs.device.type == "cuda" and runs.recordable:
        return RecordedStep(runs)
    return EagerStep(runs)


class EagerStep:
    """Compute every step anew."""

    def __init__(self, runs: Runs) -> None:
        self.runs = runs

    def __call__(self, states: Tensor, lengths: Tensor, losses: Losses, rate: float) -> Tensor:
        """See :class:`Step`."""
        outputs, out_lengths = _forward(self.runs, states, lengths)
        found = losses(outputs, out_lengths)
        self.runs.step(found, rate)
        return found.detach()


class RecordedStep:
    """Replay one pair of CUDA graphs for each shape of a batch."""

    def __init__(self, runs: Runs) -> None:
        self.runs = runs
        self.rate = torch.ones((), device=runs.device)
        self._pool = torch.cuda.graph_pool_handle()
        self._recordings: dict[torch.Size, _Recording] = {}

    def __call__(self, states: Tensor, lengths: Tensor, losses: Losses, rate: float) -> Tensor:
        """See :class:`Step`."""
        recording = self._recordings.get(states.shape)
        if recording is None:
            recording = _Recording(self.runs, self.rate, states, lengths, self._pool)
            self._recordings[states.shape] = recording
        recording.states.copy_(states)
        recording.lengths.copy_(lengths)
        self.rate.fill_(rate)
        recording.forward.replay()
        outputs = recording.outputs.detach().requires_grad_()
        found = losses(outputs, recording.out_lengths)
        (gradient,) = torch.autograd.grad(found.sum(), outputs)
        recording.gradient.copy_(gradient)
        recording.backward.replay()
        return found.detach()


class _Recording:
    """The two graphs of one shape, and the tensors by which they are fed and read."""

    def __init__(
        self, runs: Runs, rate: Tensor, states: Tensor, lengths: Tensor, pool: Any
    ) -> None:
        self.states = states.clone(memory_format=torch.contiguous_format)  # layer by layer
        self.lengths = lengths.clone()
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
