"""The fast depthwise convolution against plain autograd in float64, and the BatchNorm trap its neighbours must avoid."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from archgrad.spaces.depthwise import _Trilinear, depthwise_conv2d

GEOMETRIES = list(itertools.product((3, 5, 7), (1, 2), (1, 2)))
SIZES = [(8, 8), (7, 6), (5, 5), (3, 4)]


def operands(
    kernel: int, size: tuple[int, int], *, channels: int = 3, dtype=torch.float64
) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(kernel)
    x = torch.randn(2, channels, *size, generator=rng, dtype=dtype).contiguous(
        memory_format=torch.channels_last
    )
    return x.requires_grad_(), torch.randn(
        channels, 1, kernel, kernel, generator=rng, dtype=dtype, requires_grad=True
    )


def plain(x: Tensor, w: Tensor, stride: int, padding: int, dilation: int) -> Tensor:
    return F.conv2d(x, w, None, stride, padding, dilation, x.shape[1])


def same(kernel: int, dilation: int) -> int:
    return dilation * (kernel - 1) // 2


@pytest.mark.parametrize("kernel, stride, dilation", GEOMETRIES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_values_and_gradients_are_those_of_autograd(kernel, stride, dilation, size, memory_format):
    x, w = operands(kernel, size)
    x = x.detach().contiguous(memory_format=memory_format).requires_grad_()
    ours = depthwise_conv2d(x, w, stride, same(kernel, dilation), dilation)
    theirs = plain(x, w, stride, same(kernel, dilation), dilation)
    assert "_Trilinear" in ours.grad_fn.name() and torch.equal(ours, theirs)
    g = torch.randn(theirs.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for a, b in zip(
        torch.autograd.grad(ours, (x, w), g), torch.autograd.grad(theirs, (x, w), g), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kernel, stride, dilation", GEOMETRIES)
def test_second_order(kernel, stride, dilation):
    x, w = operands(kernel, (7, 6), channels=2)

    def ours(x: Tensor, w: Tensor) -> Tensor:
        return depthwise_conv2d(x, w, stride, same(kernel, dilation), dilation)

    assert torch.autograd.gradcheck(ours, (x, w), fast_mode=True, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(ours, (x, w), fast_mode=True, check_fwd_over_rev=True)


@pytest.mark.parametrize(
    "kernel, stride, dilation", [(3, 1, 1), (5, 1, 1), (5, 2, 1), (3, 1, 2), (5, 2, 2)]
)
def test_second_order_entry_by_entry(kernel, stride, dilation):
    x, w = operands(kernel, (5, 4), channels=1)
    x = x.detach()[:1].requires_grad_()
    assert torch.autograd.gradgradcheck(
        lambda x, w: depthwise_conv2d(x, w, stride, same(kernel, dilation), dilation), (x, w)
    )


@pytest.mark.parametrize("kernel, stride, dilation", [(5, 1, 1), (3, 2, 1), (5, 1, 2), (3, 2, 2)])
def test_torch_func_forward_over_reverse_and_vmap(kernel, stride, dilation):
    x, w = (t.detach() for t in operands(kernel, (7, 6)))
    _, v = (t.detach() for t in operands(kernel + 2, (7, 6)))
    v = v[..., 1:-1, 1:-1]

    def loss(convolve):
        return lambda w: (
            convolve(x, w, stride, same(kernel, dilation), dilation).tanh() ** 2
        ).sum()

    def product(convolve):
        return torch.func.jvp(torch.func.grad(loss(convolve)), (w,), (v,))[1]

    torch.testing.assert_close(product(depthwise_conv2d), product(plain), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(
        torch.func.hessian(loss(depthwise_conv2d))(w),
        torch.func.hessian(loss(plain))(w),
        rtol=1e-10,
        atol=1e-10,
    )


@pytest.mark.parametrize("trained", ["x", "weight", "both", "neither"])
def test_a_frozen_half_saves_nothing_for_itself(trained):
    x, w = operands(5, (8, 8))
    x.requires_grad_(trained in ("x", "both")), w.requires_grad_(trained in ("weight", "both"))
    saved: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        depthwise_conv2d(x, w, 1, 2, 1)
    expected = {"x": w.nbytes, "weight": x.nbytes, "both": w.nbytes + x.nbytes, "neither": 0}[
        trained
    ]
    assert sum(t.nbytes for t in saved) == expected


def test_output_and_input_gradient_stay_channels_last():
    for kernel, stride, dilation in GEOMETRIES:
        x, w = operands(kernel, (8, 8), channels=4, dtype=torch.float32)
        y = depthwise_conv2d(x, w, stride, same(kernel, dilation), dilation)
        (dx,) = torch.autograd.grad(y, x, torch.ones_like(y))
        assert y.is_contiguous(memory_format=torch.channels_last) and dx.is_contiguous(
            memory_format=torch.channels_last
        )


def test_uncovered_cases_are_the_plain_convolution():
    x, w = operands(5, (9, 9))
    y = depthwise_conv2d(x, w, 1, 0, 1)
    assert "Convolution" in y.grad_fn.name() and torch.equal(y, plain(x, w, 1, 0, 1))
    with torch.no_grad():
        assert depthwise_conv2d(x, w, 1, 2, 1).grad_fn is None
    with torch.autocast("cpu", torch.bfloat16):
        y = depthwise_conv2d(x.float(), w.float(), 1, 2, 1)
    assert y.dtype == torch.bfloat16
    y.sum().backward()
    assert w.grad is not None and w.grad.isfinite().all()


def test_meta_flops_functional_call_and_export():
    weight = torch.empty(4, 1, 3, 3, device="meta", requires_grad=True)
    assert depthwise_conv2d(torch.empty(2, 4, 9, 9, device="meta"), weight, 2, 1, 1).shape == (
        2,
        4,
        5,
        5,
    )

    class Layer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.randn(4, 1, 3, 3))

        def forward(self, x: Tensor) -> Tensor:
            return depthwise_conv2d(x, self.weight, 2, 1, 1)

    layer, x = Layer(), torch.randn(2, 4, 9, 9)
    with FlopCounterMode(display=False) as counter:
        layer(x)
    assert counter.get_total_flops() == 2 * (2 * 4 * 5 * 5) * 9
    twice = torch.func.functional_call(layer, {"weight": 2 * layer.weight}, (x,))
    torch.testing.assert_close(twice, 2 * layer(x))
    exported = torch.export.export(layer, (x,)).module()
    torch.testing.assert_close(exported(x), layer(x))


def test_every_gradient_formula_is_reached():
    """Not the plain convolution's double backward: the graph of a gradient consists of the same function."""
    x, w = operands(5, (6, 6))
    dx, dw = torch.autograd.grad(
        depthwise_conv2d(x, w, 1, 2, 1).square().sum(), (x, w), create_graph=True
    )
    assert all(type(d.grad_fn).__name__ == _Trilinear.__name__ + "Backward" for d in (dx, dw))


def test_batch_norm_takes_a_repeated_weight():
    """torch 2.13: `F.batch_norm` on channels_last input with ``weight=a.expand(C)`` returns a silently wrong input gradient.
    Wherever one scalar scales a whole BatchNorm, the rule is ``a.repeat(C)``; this holds it to the formula in float64."""
    rng = torch.Generator().manual_seed(0)
    x = (
        torch.randn(4, 16, 6, 6, generator=rng)
        .contiguous(memory_format=torch.channels_last)
        .requires_grad_()
    )
    g = torch.randn(4, 16, 6, 6, generator=rng).contiguous(memory_format=torch.channels_last)
    a = torch.tensor([0.3], requires_grad=True)
    zero = torch.zeros(16)
    by_torch = torch.autograd.grad(
        F.batch_norm(x, None, None, a.repeat(16), zero, training=True), (x, a), g
    )

    x64, a64 = x.detach().double().requires_grad_(), a.detach().double().requires_grad_()
    mean, variance = (
        x64.mean((0, 2, 3), keepdim=True),
        x64.var((0, 2, 3), keepdim=True, unbiased=False),
    )
    by_formula = torch.autograd.grad(
        a64 * (x64 - mean) / (variance + 1e-5).sqrt(), (x64, a64), g.double()
    )
    for ours, exact in zip(by_torch, by_formula, strict=True):
        torch.testing.assert_close(ours.double(), exact, rtol=1e-4, atol=1e-5)
