"""Depthwise convolution with a fast backward on the CPU; elsewhere it is `torch.nn.functional.conv2d`.

``<g, conv(x, w)>`` is linear in each of x, w and g. Its three partial derivatives are the convolution (by g), the input gradient
(by x) and the weight gradient (by w), so one rule differentiates all three, any number of times, in reverse and in forward mode.

Why it is faster than what autograd calls (torch 2.13, oneDNN, one thread): the input gradient at stride 1 is a *forward*
convolution with the flipped kernel; the weight gradient is fast only for undilated kernels at most 3 wide, so wide kernels are
cut into such pieces and a dilated kernel acts on the interleaved sublattices of the image, put side by side in the batch.

Shape letters: x (B, C, H, W); w (C, 1, k, k); g and the result (B, C, Hy, Wy).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Geometry:
    """A square kernel with "same" padding, and the (H, W) of x."""

    kernel: int
    stride: int
    padding: int
    dilation: int
    size: tuple[int, int]


def depthwise_conv2d(
    x: Tensor, weight: Tensor, stride: int = 1, padding: int = 0, dilation: int = 1
) -> Tensor:
    """x (B, C, H, W), weight (C, 1, k, k) -> (B, C, Hy, Wy), in x's memory format.

    Saves for backward only what the asked gradients need: x where the weight has one, the weight where x has one.
    """
    channels, kernel = weight.shape[0], weight.shape[-1]
    same = weight.shape[-2] == kernel and kernel % 2 == 1 and 2 * padding == dilation * (kernel - 1)
    fits = x.dim() == 4 and x.shape[1] == channels and x.device.type == "cpu"
    recorded = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    elsewhere = torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu")
    if not (same and fits and recorded) or elsewhere:
        return F.conv2d(x, weight, None, stride, padding, dilation, channels)
    return _Trilinear.apply(
        x, weight, None, Geometry(kernel, stride, padding, dilation, (x.shape[2], x.shape[3]))
    )


class _Trilinear(torch.autograd.Function):
    """The partial derivative of ``<g, conv(x, w)>`` by whichever of x, w, g is None."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor | None, w: Tensor | None, g: Tensor | None, geometry: Geometry) -> Tensor:
        return _partial(x, w, g, geometry)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *operands, ctx.geometry = inputs
        needs = ctx.needs_input_grad[:3]
        # An operand serves only the gradients of the others: a frozen half saves nothing for itself.
        ctx.save_for_backward(
            *(t if any(needs[:i] + needs[i + 1 :]) else None for i, t in enumerate(operands))
        )
        ctx.save_for_forward(*operands)
        ctx.missing = next(i for i, t in enumerate(operands) if t is None)

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        operands = _put(ctx.saved_tensors, ctx.missing, cotangent)
        # Recording costs as much as a small convolution: only where this backward will itself be differentiated.
        by: Any = _Trilinear.apply if torch.is_grad_enabled() else _partial
        gradients = [
            by(*_put(operands, i, None), ctx.geometry) if n else None
            for i, n in enumerate(ctx.needs_input_grad[:3])
        ]
        return *gradients, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        moved = [_put(ctx.saved_tensors, i, t) for i, t in enumerate(tangents[:3]) if t is not None]
        return sum(_Trilinear.apply(*operands, ctx.geometry) for operands in moved)


def _put(operands: tuple[Any, ...], place: int, value: Tensor | None) -> tuple[Any, ...]:
    return (*operands[:place], value, *operands[place + 1 :])


def _partial(x: Any, w: Any, g: Any, geometry: Geometry) -> Tensor:
    if g is None:
        return F.conv2d(
            x, w, None, geometry.stride, geometry.padding, geometry.dilation, w.shape[0]
        )
    return _input_gradient(w, g, geometry) if x is None else _weight_gradient(x, g, geometry)


def _input_gradient(w: Tensor, g: Tensor, geometry: Geometry) -> Tensor:
    """w (C, 1, k, k), g (B, C, Hy, Wy) -> (B, C, H, W)"""
    stride, padding, dilation = geometry.stride, geometry.padding, geometry.dilation
    if stride == 1:
        return F.conv2d(g, w.flip(2, 3), None, 1, padding, dilation, w.shape[0])
    if _skips(geometry):
        seen = replace(geometry, stride=1, padding=padding // dilation, dilation=1)
        x = g.new_zeros(*g.shape[:2], *geometry.size).contiguous(memory_format=_format(g))
        x[:, :, ::stride, ::stride] = _input_gradient(w, g, seen)
        return x
    x = torch.empty(
        (*g.shape[:2], *geometry.size), dtype=g.dtype, device=g.device, memory_format=_format(g)
    )
    return _aten(x, w, g, stride, (padding, padding), dilation, 0)


def _weight_gradient(x: Tensor, g: Tensor, geometry: Geometry) -> Tensor:
    """x (B, C, H, W), g (B, C, Hy, Wy) -> (C, 1, k, k)"""
    kernel, stride, padding, dilation = (
        geometry.kernel,
        geometry.stride,
        geometry.padding,
        geometry.dilation,
    )
    if _skips(geometry):
        x, stride, padding, dilation = x[:, :, ::stride, ::stride], 1, padding // dilation, 1
    elif dilation > 1 and stride == 1 and padding % dilation == 0:
        x, g, padding, dilation = (
            _sublattices(x, dilation),
            _sublattices(g, dilation),
            padding // dilation,
            1,
        )
    if dilation > 1 or kernel <= 3 or x.shape[3] < kernel // 2:
        return _aten(
            x, _like(g, x.shape[1], kernel, kernel), g, stride, (padding, padding), dilation, 1
        )
    # Columns [start, end) of the kernel meet the columns of x from start - padding to those the last column of g meets.
    pieces = []
    rows = (
        padding if x.shape[2] < kernel else 0
    )  # oneDNN is ten times slower where the kernel is higher than the image
    for start in range(0, kernel, 3):
        end = min(start + 3, kernel)
        right = stride * (g.shape[3] - 1) + end - padding - x.shape[3]
        met = F.pad(x, (padding - start, right, rows, rows))
        pieces.append(
            _aten(
                met, _like(g, x.shape[1], kernel, end - start), g, stride, (padding - rows, 0), 1, 1
            )
        )
    return torch.cat(pieces, 3)


def _skips(geometry: Geometry) -> bool:
    """Whether the convolution is an undilated one of stride 1 on ``x[::stride, ::stride]``."""
    return 1 < geometry.stride == geometry.dilation and geometry.padding % geometry.dilation == 0


def _sublattices(x: Tensor, step: int) -> Tensor:
    """(B, C, H, W) -> (step * step * B, C, ceil(H / step), ceil(W / step)): every ``step``-th pixel, zeros past the border."""
    x = F.pad(x, (0, -x.shape[3] % step, 0, -x.shape[2] % step))
    shifted = [x[:, :, i::step, j::step] for i in range(step) for j in range(step)]
    return torch.cat(shifted).contiguous(memory_format=_format(x))


def _format(x: Tensor) -> torch.memory_format:
    return torch.channels_last if x.stride(1) == 1 else torch.contiguous_format


def _like(g: Tensor, channels: int, height: int, width: int) -> Tensor:
    return g.new_empty(1).expand(channels, 1, height, width)


def _aten(
    x: Tensor, w: Tensor, g: Tensor, stride: int, padding: tuple[int, int], dilation: int, by: int
) -> Tensor:
    """What autograd calls: the gradient by x (``by`` 0) or by w (1); of the tensor it is taken by, only the shape counts."""
    steps, dilations, mask = (stride, stride), (dilation, dilation), (by == 0, by == 1, False)
    return torch.ops.aten.convolution_backward(
        g, x, w, None, steps, padding, dilations, False, (0, 0), x.shape[1], mask
    )[by]
