"""What a published batch is padded to, for heads whose published code sees padding.

s3prl and ESPnet accumulate the gradients of batches that are padded one by one. A batch here is all
of them at once: groups of equally many rows, one after another. Rows that fill a group up repeat
its last utterance, so they change no group's longest. ESPnet's dev loss is of such batches, too.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn


def longest(lengths: Tensor, groups: int) -> Tensor:
    """Return for each row the largest number of its group's: (B,) or (B, M) → (B,)."""
    most = lengths.reshape(groups, -1).amax(1, keepdim=True)
    return most.expand(-1, lengths.shape[0] // groups).reshape(-1)


class Padded(nn.Module):
    """A module whose published code sees padding, in training mode and for a dev loss."""

    groups: int | None = None
    """How many batches that are padded one by one a training batch consists of; None: an utterance
    is trained on as if it were alone."""
    scored: int | None = None
    """The same of a batch in evaluation mode."""

    def padded_to(self, lengths: Tensor) -> Tensor:
        """Return the length that each utterance is padded to, (B,) → (B,): its own if it is alone.

        As every utterance is that is tested: s3prl and ESPnet recognise and verify one at a time.
        """
        groups = self.groups if self.training else self.scored
        return lengths if groups is None else longest(lengths, groups)


def pad_by_group(head: nn.Module, groups: int) -> None:
    """Let the parts of a head that can see padding see that of ``groups`` batches, in training."""
    for part in _padded(head):
        part.groups = groups


@contextmanager
def scored_together(heads: Iterable[nn.Module]) -> Iterator[None]:
    """Let heads in evaluation mode see a batch as padded to its longest, where they see padding."""
    parts = [part for head in heads for part in _padded(head)]
    try:
        for part in parts:
            part.scored = 1
        yield
    finally:
        for part in parts:
            part.scored = None


def _padded(head: nn.Module) -> list[Padded]:
    return [part for part in head.modules() if isinstance(part, Padded)]
