"""The weighted sum of a node against the plain expression, in float64 and to second order."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from archgrad.spaces.weighted import weighted_sum


def operands(count: int) -> tuple[Tensor, list[Tensor]]:
    rng = torch.Generator().manual_seed(count)
    weights = torch.rand(count, generator=rng, dtype=torch.float64, requires_grad=True)
    tensors = [
        torch.randn(2, 3, 4, 5, generator=rng, dtype=torch.float64).requires_grad_()
        for _ in range(count)
    ]
    return weights, tensors


def plain(weights: Tensor, *tensors: Tensor) -> Tensor:
    return sum(weight * x for weight, x in zip(weights, tensors))


def ours(weights: Tensor, *tensors: Tensor) -> Tensor:
    return weighted_sum(weights.unbind(), tensors)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_values_and_gradients_to_second_order(count):
    weights, tensors = operands(count)
    torch.testing.assert_close(
        ours(weights, *tensors), plain(weights, *tensors), rtol=1e-14, atol=1e-14
    )
    assert torch.autograd.gradcheck(
        ours, (weights, *tensors), check_forward_ad=True, fast_mode=True
    )
    assert torch.autograd.gradgradcheck(
        ours, (weights, *tensors), check_fwd_over_rev=True, fast_mode=True
    )


def test_none_is_weight_one():
    weights, tensors = operands(4)
    ones = torch.ones((), dtype=torch.float64)

    def partly(first: Tensor, third: Tensor, *rest: Tensor) -> Tensor:
        return weighted_sum([None, first, None, third], rest)

    first, _, third, _ = (w.detach().requires_grad_() for w in weights.unbind())
    torch.testing.assert_close(
        partly(first, third, *tensors),
        plain(torch.stack([ones, first, ones, third]), *tensors),
        rtol=1e-14,
        atol=1e-14,
    )
    assert torch.autograd.gradcheck(
        partly, (first, third, *tensors), check_forward_ad=True, fast_mode=True
    )
    assert torch.autograd.gradgradcheck(
        partly, (first, third, *tensors), check_fwd_over_rev=True, fast_mode=True
    )


def test_forward_over_reverse_by_torch_func():
    weights, tensors = operands(3)
    weights, tensors = weights.detach(), [x.detach() for x in tensors]
    along = torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64)

    def product(sum_of):
        return torch.func.jvp(
            torch.func.grad(lambda w: sum_of(w, *tensors).tanh().sum()), (weights,), (along,)
        )[1]

    torch.testing.assert_close(product(ours), product(plain), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("trained", ["weights", "tensors", "both"])
def test_a_frozen_half_saves_nothing_for_itself(trained):
    weights, tensors = operands(3)
    weights.requires_grad_(trained != "tensors")
    for x in tensors:
        x.requires_grad_(trained != "weights")
    saved: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        ours(weights, *tensors)
    large, small = sum(t.numel() > 1 for t in saved), sum(t.numel() == 1 for t in saved)
    assert (large, small) == (0 if trained == "tensors" else 3, 0 if trained == "weights" else 3)


def test_an_operand_may_stand_twice_and_channels_last_stays():
    _, (x,) = operands(1)
    x = x.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    two = torch.tensor([2.0, 3.0], dtype=torch.float64)
    y = ours(two, x, x)
    assert y.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(torch.autograd.grad(y.sum(), x)[0], torch.full_like(x, 5.0))
