"""What a published batch is padded to, for heads whose published code sees padding in training.

s3prl and ESPnet accumulate the gradients of batches that are padded one by one. A batch here is all
of them at once: groups of equally many rows, one after another. Rows that fill a group up repeat
its last utterance, so they change no group's longest.
"""

from torch import Tensor, nn


def longest(lengths: Tensor, groups: int) -> Tensor:
    """Return for each row the largest number of its group's: (B,) or (B, M) → (B,)."""
    most = lengths.reshape(groups, -1).amax(1, keepdim=True)
    return most.expand(-1, lengths.shape[0] // groups).reshape(-1)


class Padded(nn.Module):
    """A module whose published code sees padding, in training mode."""

    groups: int | None = None
    """How many batches that are padded one by one a training batch consists of; None: an utterance
    is trained on as if it were alone."""

    def padded_to(self, lengths: Tensor) -> Tensor:
        """Return the length that each utterance is padded to, (B,) → (B,): its own if it is alone.

        As every utterance is that is scored: s3prl and ESPnet recognise and verify one at a time.
        """
        if self.groups is None or not self.training:
            return lengths
        return longest(lengths, self.groups)


def pad_by_group(head: nn.Module, groups: int) -> None:
    """Let the parts of a head that can see padding see that of ``groups`` batches."""
    for part in head.modules():
        if isinstance(part, Padded):
            part.groups = groups
