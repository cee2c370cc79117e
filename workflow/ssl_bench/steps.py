"""One training step of groups of stacked runs: computed anew each time, or recorded and replayed.

Steps of this size are bound by the launching of kernels: hundreds of small ones. On a GPU they are
recorded as CUDA graphs, one pair for each shape of a batch, and a replay costs two launches. The
groups, such as the interfaces of a job, are branches of a graph, which the GPU works on side by
side. The loss stays outside, between the two graphs, because CTC reads its lengths on the host:

    states → [interface, head] → outputs → loss → ∂loss/∂outputs → [backward, update]

Recording computes nothing that is kept: warm-up runs the forward and backward alone, so neither
parameters nor the optimizer's state see it, and the random generator is set back.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from ssl_bench.lanes import side_by_side
from ssl_bench.runs import Runs

Losses = Callable[[Tensor, Tensor], Tensor]
"""Outputs (R, B, …) and their lengths (R, B) → the loss of every run (R,)."""
Read = tuple[Tensor, Tensor]
"""States (R, L, B, T, D) and lengths (R, B), or of all runs (L, B, T, D), (B,)."""
Found = tuple[Tensor, Tensor]
"""Outputs (R, B, …), detached, and their lengths (R, B)."""

_WARM_UP = 2  # libraries choose kernels and reserve memory on first use, which cannot be recorded


class Step(Protocol):
    """Train groups of runs by one batch: forward, then backward with what the loss says.

    What is done between the two can then be done for all groups at once.
    """

    def forward(self, reads: Sequence[Read]) -> list[Found]:
        """Return each group's outputs for what it reads."""

    def backward(self, gradients: Sequence[Tensor], rate: float) -> None:
        """Update all runs by the gradients of their losses for the outputs of the last forward.

        ``rate`` scales all learning rates.
        """


def take(step: Step, states: Tensor, lengths: Tensor, losses: Losses, rate: float) -> Tensor:
    """Take one step with a single group and return the losses (R,)."""
    ((outputs, out_lengths),) = step.forward([(states, lengths)])
    found, gradient = differentiate(losses, outputs, out_lengths)
    step.backward([gradient], rate)
    return found


def differentiate(losses: Losses, outputs: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Return the losses (R,) and the gradient of their sum for the outputs."""
    outputs = outputs.detach().requires_grad_()
    found = losses(outputs, lengths)
    (gradient,) = torch.autograd.grad(found.sum(), outputs)
    return found.detach(), gradient


def make_step(*groups: Runs) -> Step:
    """Return the fastest step for some groups: recorded on a GPU, where they can be."""
    if all(runs.device.type == "cuda" and runs.recordable for runs in groups):
        return RecordedStep(*groups)
    return EagerStep(*groups)


class EagerStep:
    """Compute every step anew."""

    def __init__(self, *groups: Runs) -> None:
        self.groups = groups
        self._outputs: list[Tensor] = []

    def forward(self, reads: Sequence[Read]) -> list[Found]:
        """See :class:`Step`."""
        found = [_forward(runs, *read) for runs, read in zip(self.groups, reads, strict=True)]
        self._outputs = [outputs for outputs, _ in found]
        return [(outputs.detach(), lengths) for outputs, lengths in found]

    def backward(self, gradients: Sequence[Tensor], rate: float) -> None:
        """See :class:`Step`."""
        outputs, self._outputs = self._outputs, []
        for runs, own, gradient in zip(self.groups, outputs, gradients, strict=True):
            runs.update(runs.gradients(own, gradient), rate)


class RecordedStep:
    """Replay one pair of CUDA graphs for each shape of what is read."""

    def __init__(self, *groups: Runs) -> None:
        self.groups = groups
        (device,) = {runs.device for runs in groups}
        self.rate = torch.ones((), device=device)
        self._lanes = [torch.cuda.Stream(device) for _ in groups]
        self._pool = torch.cuda.graph_pool_handle()
        self._places: dict[Any, Read] = {}
        self._recordings: dict[Any, _Recording] = {}
        self._last: _Recording | None = None

    def forward(self, reads: Sequence[Read]) -> list[Found]:
        """See :class:`Step`. The next forward of the same shapes overwrites the outputs."""
        laid = self._lay(reads)
        key = tuple((states.shape, lengths.shape, states.data_ptr()) for states, lengths in laid)
        if key not in self._recordings:
            self._recordings[key] = _Recording(
                self.groups, self.rate, laid, self._lanes, self._pool
            )
            # Else what warming up took of each shape is kept, which is more than what is recorded.
            torch.cuda.empty_cache()
        self._last = self._recordings[key]
        self._last.forward.replay()
        return [(outputs.detach(), lengths) for outputs, lengths in self._last.found]

    def backward(self, gradients: Sequence[Tensor], rate: float) -> None:
        """See :class:`Step`."""
        assert self._last is not None
        self.rate.fill_(rate)
        for place, gradient in zip(self._last.gradients, gradients, strict=True):
            place.copy_(gradient)
        self._last.backward.replay()

    def _lay(self, reads: Sequence[Read]) -> list[Read]:
        """Copy what is read, layer by layer, to where recordings find it; each thing once."""
        different: list[Tensor] = []
        laid = []
        for states, lengths in reads:
            known = [number for number, other in enumerate(different) if other is states]
            number = known[0] if known else len(different)
            key = number, states.shape, lengths.shape
            if key not in self._places:
                layered = torch.empty_like(states, memory_format=torch.contiguous_format)
                self._places[key] = layered, torch.empty_like(lengths)
            place = self._places[key]
            if not known:
                different.append(states)
                place[0].copy_(states)
                place[1].copy_(lengths)
            laid.append(place)
        return laid


class _Recording:
    """The two graphs of one shape, and the tensors by which they are fed and read."""

    def __init__(
        self,
        groups: Sequence[Runs],
        rate: Tensor,
        reads: Sequence[Read],
        lanes: Sequence[torch.cuda.Stream],
        pool: Any,
    ) -> None:
        self.reads = reads
        ahead = [partial(_forward, runs, *read) for runs, read in zip(groups, reads, strict=True)]
        device, stream = rate.device, lanes[0]
        generator = torch.cuda.get_rng_state(device)
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UP):
                found = side_by_side(lanes, ahead)
                side_by_side(
                    lanes,
                    [
                        partial(runs.gradients, outputs, torch.zeros_like(outputs))
                        for runs, (outputs, _) in zip(groups, found, strict=True)
                    ],
                )
        torch.cuda.current_stream(device).wait_stream(stream)
        torch.cuda.set_rng_state(generator, device)
        self.forward, self.backward = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.forward, pool=pool, stream=stream):
            self.found = side_by_side(lanes, ahead)
        self.gradients = [torch.zeros_like(outputs) for outputs, _ in self.found]
        back = [
            partial(_learn, runs, outputs, gradient, rate)
            for runs, (outputs, _), gradient in zip(groups, self.found, self.gradients, strict=True)
        ]
        with torch.cuda.graph(self.backward, pool=pool, stream=stream):
            side_by_side(lanes, back)


def _forward(runs: Runs, states: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    return runs.forward(states, lengths, training=True, shared=lengths.dim() == 1)


def _learn(runs: Runs, outputs: Tensor, gradient: Tensor, rate: Tensor) -> None:
    runs.update(runs.gradients(outputs, gradient), rate)
