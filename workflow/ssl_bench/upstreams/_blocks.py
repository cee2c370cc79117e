"""The input of every block of an encoder, taken with hooks.

What ``output_hidden_states`` holds has changed between releases of transformers; what a block is
given has not.
"""

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn


class BlockInputs:
    """A context in which each block's input is kept, in order; ``with inputs as kept: model(x)``.

    Args:
        blocks: modules whose first argument, or ``hidden_states``, is (B, T, D).
    """

    def __init__(self, blocks: Iterable[nn.Module]) -> None:
        self._kept: list[Tensor] = []
        for block in blocks:
            block.register_forward_pre_hook(self._keep, with_kwargs=True)

    def _keep(self, block: nn.Module, args: tuple[Tensor, ...], kwargs: Any) -> None:
        self._kept.append(args[0] if args else kwargs["hidden_states"])

    def __enter__(self) -> list[Tensor]:
        self._kept = []
        return self._kept

    def __exit__(self, *_: object) -> None:
        self._kept = []
