"""Work on several CUDA streams at once, such as the branches of a graph that is recorded."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

Result = TypeVar("Result", Tensor, tuple[Tensor, ...], None)


def side_by_side(
    lanes: Sequence[torch.cuda.Stream], work: Sequence[Callable[[], Result]]
) -> list[Result]:
    """Do each work on a lane, in turn, and return their results in order.

    The current stream may read the results at once. Their memory is not given to other work of
    their lane before it has.

    Args:
        lanes: the first is the current stream, which waits for all others in the end.
        work: what a lane is given is begun after all that the current stream had to do before.
    """
    first, *others = lanes[: len(work)]
    before = first.record_event()
    for lane in others:
        lane.wait_event(before)
    results: list[Result] = []
    for number, one in enumerate(work):
        with torch.cuda.stream(lanes[number % len(lanes)]):
            results.append(one())
    for lane in others:
        first.wait_stream(lane)
    # Lanes are few, and what another group does on one of them is not in line with this stream.
    for result in results:
        tensors: tuple[Tensor, ...] = (result,) if isinstance(result, Tensor) else result or ()
        for tensor in tensors:
            tensor.record_stream(first)
    return results
