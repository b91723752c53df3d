"""The weighted sum of a node's inputs, ``sum_i w_i * x_i``, in one pass per input without copies.

Autograd's chain of `addcmul` allocates every partial sum. If the w are trained, its backward also
multiplies each x by 1 before it is reduced. Together that takes about a tenth of a search step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def weighted_sum(weights: Sequence[Tensor | None], tensors: Sequence[Tensor]) -> Tensor:
    """Return the weighted sum of tensors.

    The tensors are saved for backward only if the weights have a gradient.

    Args:
        weights: Scalars; None is 1.
        tensors: At least one tensor, all (B, C, H, W).

    Returns:
        (B, C, H, W).
    """
    total: Tensor = _WeightedSum.apply(*weights, *tensors)  # type: ignore[no-untyped-call]
    return total


class _WeightedSum(torch.autograd.Function):
    @staticmethod
    def forward(*operands: Any) -> Tensor:
        (first, x), *rest = _pairs(operands)
        total: Tensor = x.clone() if first is None else first * x
        for weight, x in rest:
            total = total.add_(x) if weight is None else total.addcmul_(weight, x)
        return total

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        # The gradient of an operand needs the operand that it is multiplied with.
        needs = _partners(ctx.needs_input_grad)
        ctx.save_for_backward(*(t if needed else None for t, needed in zip(inputs, needs)))
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        factors, needs = _partners(ctx.saved_tensors), ctx.needs_input_grad
        count = len(factors) // 2
        of_weights = [
            (g * x).sum() if needed else None for x, needed in zip(factors[:count], needs)
        ]
        of_tensors = [
            (g if weight is None else g * weight) if needed else None
            for weight, needed in zip(factors[count:], needs[count:])
        ]
        return *of_weights, *of_tensors

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        pairs = zip(_partners(ctx.saved_tensors), tangents)
        return sum(
            tangent if factor is None else factor * tangent
            for factor, tangent in pairs
            if tangent is not None
        )


def _pairs(operands: tuple[Any, ...]) -> list[tuple[Any, Any]]:
    half = len(operands) // 2
    return list(zip(operands[:half], operands[half:]))


def _partners(operands: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return for each operand the one that it is multiplied with: the two halves swapped."""
    half = len(operands) // 2
    return (*operands[half:], *operands[:half])
