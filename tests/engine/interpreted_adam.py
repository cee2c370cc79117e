"""The fused step beside that of torch on a CPU; ``test_engine_adam.py`` runs it, interpreted."""

import sys

import torch

from ssl_bench._adam import update_rows


def compare(decay: float, decoupled: bool) -> None:
    torch.manual_seed(0)
    shape = (3, 1500)
    rows, grads = torch.randn(shape), torch.randn(shape)
    first, second = 0.1 * torch.randn(shape), torch.rand(shape)
    grads[1, 7] = torch.nan  # an update that is not taken
    taken = torch.tensor([True, False, True])
    rates, scale = torch.tensor([1e-2, 1e-3, 1e-1]), torch.rand(shape[1]) + 0.5
    shrink, steps = torch.tensor([0.5, 1.0, 0.1]), torch.tensor([5.0, 0.0, 2.0]).double()
    found = [x.clone() for x in (rows, first, second)]
    update_rows(
        *(found[0], grads, found[1], found[2], steps, rates, scale, shrink, taken),
        *(decay, decoupled),
    )
    kept = grads * shrink[:, None]
    if decay and not decoupled:
        kept = kept + decay * rows
    expected = [rows, first.lerp(kept, 0.1), second * 0.999 + 0.001 * kept * kept]
    rate = rates[:, None] * scale
    bias = (1 - 0.999 ** steps[:, None]).sqrt()
    change = rate * (expected[1] / (1 - 0.9 ** steps[:, None])) / (expected[2].sqrt() / bias + 1e-8)
    if decay and decoupled:
        change = change + rate * decay * rows
    expected[0] = rows - change
    before = rows, first, second
    expected = [
        torch.where(taken[:, None], new.float(), old)
        for new, old in zip(expected, before, strict=True)
    ]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


if __name__ == "__main__":
    for case in ((0.0, False), (0.01, False), (0.01, True)):
        compare(*case)
    sys.exit(0)
