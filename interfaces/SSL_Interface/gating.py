"""Gated layers: maximum, sum or side by side, with their backward passes written out.

Gating all layers at once leaves a copy of them, which what follows reads again; and torch spreads
the gradient of ``amax`` over ties, which takes several more such arrays. Here each layer is gated
where it is needed, and a maximum's gradient goes to the first place that holds it. As in
``products``, the plain form is what ``vmap`` and compilers take; so do small states.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from SSL_Interface.working import side_by_side, small, sum_type, traced, vmapped, working_type


def statistics(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and maximum over the last axis: (N, …, C) → the same values, (N, …), (N, …).

    What else reads the values should read those that are returned: then all their gradients arrive
    here, and are added in one pass.
    """
    if traced() or small(values):
        return plain_statistics(values)
    same, mean, largest, *_ = _Statistics.apply(values)
    return same, mean, largest


def plain_statistics(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``statistics`` by torch's own."""
    return values, values.mean(-1), values.amax(-1)


def gated_maximum(gates: Tensor, values: Tensor) -> Tensor:
    """Largest gated value over layers: gates (N, …), values (N, …, C) of one type → (…, C)."""
    if traced() or small(values):
        return plain_maximum(gates, values)
    return _GatedMaximum.apply(gates, values)


def plain_maximum(gates: Tensor, values: Tensor) -> Tensor:
    """``gated_maximum`` of all gated values at once."""
    return (gates[..., None] * values).amax(0)


def gated_sum(gates: Tensor, states: Tensor) -> Tensor:
    """Sum layers that have a gate for each channel.

    Args:
        gates: (N, D), one-hot over layers, or else sums are rounded at every layer.
        states: (N, B, T, D).

    Returns:
        (B, T, D), in the states' type.
    """
    if traced() or small(states):
        return plain_sum(gates, states)
    return _GatedSum.apply(gates, states)


def plain_sum(gates: Tensor, states: Tensor) -> Tensor:
    """``gated_sum`` of all gated states at once."""
    # An einsum would be a batched product of D tiny ones, several times slower.
    return (gates[:, None, None].to(states.dtype) * states).sum(0)


def gated_rows(gates: Tensor, states: Tensor) -> Tensor:
    """Lay an utterance's gated states side by side.

    Args:
        gates: (B, N).
        states: (N, B, T, D).

    Returns:
        (B, T, N·D), under autocast in its type.
    """
    if traced() or small(states):
        return plain_rows(gates, states)
    return _GatedRows.apply(gates, states)


def plain_rows(gates: Tensor, states: Tensor) -> Tensor:
    """``gated_rows`` gated, then copied."""
    return side_by_side(gates.T.to(states.dtype)[..., None, None] * states)


class _Statistics(torch.autograd.Function):
    @staticmethod
    def forward(values: Tensor) -> tuple[Tensor, ...]:
        largest, place = values.max(-1)
        return values.view_as(values), values.mean(-1), largest, place

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, ...]) -> None:
        ctx.mark_non_differentiable(output[3])
        ctx.save_for_backward(output[3])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, values: Tensor, mean: Tensor, largest: Tensor, _: Tensor) -> Tensor:
        (place,) = ctx.saved_tensors
        total = values + (mean / values.shape[-1])[..., None]
        return total.scatter_add_(-1, place[..., None], largest[..., None])

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], values: Tensor) -> tuple[Any, int]:
        return vmapped(plain_statistics, info, in_dims, (values,))


class _GatedMaximum(torch.autograd.Function):
    @staticmethod
    def forward(gates: Tensor, values: Tensor) -> Tensor:
        largest = gates[0, ..., None] * values[0]
        gated = torch.empty_like(largest)
        for gate, value in zip(gates[1:, ..., None], values[1:], strict=True):
            torch.mul(gate, value, out=gated)
            torch.maximum(largest, gated, out=largest)
        return largest

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs, output)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None]:
        gates, values, largest = ctx.saved_tensors
        for_gates = torch.empty_like(gates)
        for_values = torch.empty_like(values) if ctx.needs_input_grad[1] else None
        left, gated = gradient.clone(), torch.empty_like(largest)
        for layer, value in enumerate(values):
            gate = gates[layer, ..., None]
            # The same product as before, so that equal means that this layer was the largest.
            torch.mul(gate, value, out=gated)
            own = left.where(gated == largest, 0.0)
            left -= own
            if for_values is not None:
                torch.mul(own, gate, out=for_values[layer])
            torch.sum(own.mul_(value), -1, out=for_gates[layer])
        return for_gates, for_values

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Tensor) -> tuple[Tensor, int]:
        return vmapped(plain_maximum, info, in_dims, inputs)


class _GatedSum(torch.autograd.Function):
    @staticmethod
    def forward(gates: Tensor, states: Tensor) -> Tensor:
        gates = gates.to(states.dtype)
        total = gates[0] * states[0]
        for gate, state in zip(gates[1:], states[1:], strict=True):
            total.addcmul_(state, gate)
        return total

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        gates, states = ctx.saved_tensors
        for_gates = for_states = None
        if ctx.needs_input_grad[0]:
            dots = [(gradient * s).sum((0, 1), dtype=sum_type(s.dtype)) for s in states]
            for_gates = torch.stack(dots).to(gates.dtype)
        if ctx.needs_input_grad[1]:
            for_states = gates[:, None, None].to(states.dtype) * gradient
        return for_gates, for_states

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Tensor) -> tuple[Tensor, int]:
        return vmapped(plain_sum, info, in_dims, inputs)


class _GatedRows(torch.autograd.Function):
    @staticmethod
    def forward(gates: Tensor, states: Tensor) -> Tensor:
        frames = states.movedim(0, 2)
        rows = torch.empty(frames.shape, dtype=working_type(states), device=states.device)
        torch.mul(frames, gates.to(states.dtype)[:, None, :, None], out=rows)
        return rows.flatten(2)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        gates, states = ctx.saved_tensors
        for_gates = for_states = None
        parts = gradient.unflatten(2, (len(states), -1)).movedim(2, 0)  # (N, B, T, D)
        if ctx.needs_input_grad[0]:
            dots = [
                (part * state).sum((1, 2), dtype=sum_type(gradient.dtype))
                for part, state in zip(parts, states, strict=True)
            ]
            for_gates = torch.stack(dots, 1).to(gates.dtype)
        if ctx.needs_input_grad[1]:
            for_states = (parts * gates.T.to(parts.dtype)[..., None, None]).to(states.dtype)
        return for_gates, for_states

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Tensor) -> tuple[Tensor, int]:
        return vmapped(plain_rows, info, in_dims, inputs)
