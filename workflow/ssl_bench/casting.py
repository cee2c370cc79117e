"""The copies of weights that autocast computes with, made for all runs at once.

Autocast casts each weight of each run by a kernel of its own whenever it is used, and its gradient
back by another: of a head of a few small layers a sixth of all kernels of a step, and how many
these are is what bounds steps of this size. Under ``vmap`` it casts those of all runs together.
"""

import torch
from torch import Tensor, nn

LOW = torch.bfloat16


class Copies:
    """Parameters as a forward pass under autocast takes them: some of them in bf16.

    Those are the weights and biases of a head's linear layers and convolutions, which a head uses
    by calling these, so that autocast would cast nothing else of them.

    Args:
        flat: (R, n) all parameters, a row for each run.
        params: names → views of ``flat``, (R, …), in the order of its columns.
        head: one run's.
        prefix: of the head's names among ``params``.
    """

    def __init__(
        self, flat: Tensor, params: dict[str, Tensor], head: nn.Module, prefix: str = "head."
    ) -> None:
        cast = {prefix + name for name in _cast_by_autocast(head)}
        sizes = [value[0].numel() for value in params.values()]
        ahead = next((n for n, name in enumerate(params) if name in cast), len(sizes))
        self._flat = flat[:, sum(sizes[:ahead]) :]
        self._low = torch.empty_like(self._flat, dtype=LOW, memory_format=torch.contiguous_format)
        lower = self._low.split(sizes[ahead:], 1)
        self._used = dict(params)
        for (name, value), part in zip(list(params.items())[ahead:], lower, strict=True):
            if name in cast:
                self._used[name] = part.view(value.shape).detach().requires_grad_()

    @torch.no_grad()
    def refreshed(self) -> dict[str, Tensor]:
        """Copy the parameters as they are now → names → what is computed with."""
        self._low.copy_(self._flat)
        return self._used


def _cast_by_autocast(module: nn.Module) -> set[str]:
    return {
        f"{name}.{own}" if name else own
        for name, part in module.named_modules()
        if isinstance(part, nn.Linear | nn.Conv1d | nn.Conv2d)
        for own, parameter in part.named_parameters(recurse=False)
        if parameter.requires_grad and parameter.dtype is torch.float32
    }
