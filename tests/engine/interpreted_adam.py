"""The fused step beside that of torch on a CPU; ``test_engine_adam.py`` runs it, interpreted."""

import sys

import torch

from ssl_bench._adam import update_rows


def compare(decay: float, decoupled: bool) -> None:
    torch.manual_seed(0)
    shape = (3, 1500)
    rows, grads = torch.randn(shape), torch.randn(shape)
    first, second = 0.1 * torch.randn(shape), torch.rand(shape)
    grads[1, 7] = torch.nan  # a run that is lost
    alive = torch.tensor([True, False, True])
    rates, scale = torch.tensor([1e-2, 1e-3, 1e-1]), torch.rand(shape[1]) + 0.5
    shrink, steps = torch.tensor([0.5, 1.0, 0.1]), torch.tensor(5.0, dtype=torch.float64)
    found = [x.clone() for x in (rows, first, second)]
    update_rows(
        *(found[0], grads, found[1], found[2], steps, rates, scale, shrink, alive),
        *(decay, decoupled),
    )
    kept = torch.where(alive[:, None], grads * shrink[:, None], 0.0)
    if decay and not decoupled:
        kept = kept + decay * rows
    first.lerp_(kept, 0.1)
    second.mul_(0.999).addcmul_(kept, kept, value=0.001)
    rate = rates[:, None] * scale
    bias = (1 - 0.999**steps).sqrt()
    change = rate * (first / (1 - 0.9**steps)) / (second.sqrt() / bias + 1e-8)
    if decay and decoupled:
        change = change + rate * decay * rows
    rows.sub_(torch.where(alive[:, None], change, 0.0))
    for one, other in zip(found, (rows, first, second), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


if __name__ == "__main__":
    for case in ((0.0, False), (0.01, False), (0.01, True)):
        compare(*case)
    sys.exit(0)
