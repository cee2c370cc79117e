"""The fused LSTM beside torch's on a CPU; ``test_tasks_lstm.py`` runs it, interpreted."""

import sys

import torch
from triton.runtime import interpreter

from ssl_bench.heads.bilstm import fused, packed

CASES = {
    16: [9, 1, 6, 3],
    5: [7],
    32: [4, 11, 2, 11, 1, 8, 5, 3, 10, 6, 7, 9, 1, 2, 3, 4, 5, 6],  # a program more
    40: [3, 12, 12],
}
"""Lengths by hidden size."""


def compare(hidden: int, lengths: list[int]) -> None:
    """Hold outputs, twice, and all gradients to torch's, with two padded frames."""
    torch.manual_seed(hidden)
    rnn = torch.nn.LSTM(7, hidden, batch_first=True, bidirectional=True)
    counts = torch.tensor(lengths)
    x = torch.randn(len(lengths), max(lengths) + 2, 7)
    x[0, lengths[0] :] = 1e4  # padding counts for nothing
    x.requires_grad_()
    expected = packed(rnn, x, counts)
    found = [fused(rnn, x, counts) for _ in range(2)]
    assert torch.equal(*found)
    torch.testing.assert_close(found[0], expected, rtol=1e-5, atol=1e-5)
    assert not found[0][0, lengths[0] :].any()
    cotangent = torch.randn_like(expected)
    right = torch.autograd.grad(expected, [x, *rnn.parameters()], cotangent)
    mine = torch.autograd.grad(found[0], [x, *rnn.parameters()], cotangent)
    for one, other in zip(mine, right, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def compare_halves(hidden: int) -> None:
    """Hold fp16, whose products the interpreter knows, to fp32; bf16 takes the same way."""
    torch.manual_seed(0)
    exact, rnn = (torch.nn.LSTM(7, hidden, bidirectional=True, batch_first=True) for _ in range(2))
    rnn.load_state_dict(exact.state_dict())
    counts, x = torch.tensor([20, 1, 13]), torch.randn(3, 20, 7, requires_grad=True)
    half = x.detach().half().requires_grad_()
    expected, found = packed(exact, x, counts), fused(rnn.half(), half, counts)
    assert found.dtype == torch.float16
    cotangent = torch.randn_like(expected)
    right = torch.autograd.grad(expected, [x, *exact.parameters()], cotangent)
    mine = torch.autograd.grad(found, [half, *rnn.parameters()], cotangent.half())
    for one, other in zip([found, *mine], [expected, *right], strict=True):
        assert (one.float() - other).norm() < 1e-3 * other.norm()


if __name__ == "__main__":
    patch_tensor = interpreter._patch_lang_tensor

    def scalar_bounds(tensor, scope):
        # NumPy 2.4 no longer makes an int of an array of one, as this Triton does for a loop.
        patch_tensor(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    interpreter._patch_lang_tensor = scalar_bounds
    for case in CASES.items():
        compare(*case)
    compare_halves(32)
    sys.exit(0)
