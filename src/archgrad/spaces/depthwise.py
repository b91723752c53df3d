"""Depthwise convolution with a fast backward on the CPU.

On other devices it is `torch.nn.functional.conv2d`.

``<g, conv(x, w)>`` is linear in each of x, w and g. Its three partial derivatives are the
convolution (by g), the input gradient (by x) and the weight gradient (by w). So one rule
differentiates all three, any number of times, in reverse and in forward mode.

It is faster than autograd (torch 2.13, oneDNN, one thread) for two reasons. The input gradient at
stride 1 is a *forward* convolution with the flipped kernel. The weight gradient is fast only for
undilated kernels of width 3 or less, so wider kernels are cut into such pieces, and a dilated
kernel acts on the interleaved sublattices of the image, which are stacked in the batch.

Shapes: x (B, C, H, W); w (C, 1, k, k); g and the result (B, C, Hy, Wy).
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
    """Return the depthwise convolution of x with a weight.

    For backward it saves only the tensors that the requested gradients need: x if the weight has a
    gradient, and the weight if x has one.

    Args:
        x: (B, C, H, W).
        weight: (C, 1, k, k).
        stride: Stride.
        padding: Padding on each side.
        dilation: Dilation.

    Returns:
        (B, C, Hy, Wy) in the memory format of x.
    """
    channels, kernel = weight.shape[0], weight.shape[-1]
    same = weight.shape[-2] == kernel and kernel % 2 == 1 and 2 * padding == dilation * (kernel - 1)
    fits = x.dim() == 4 and x.shape[1] == channels and x.device.type == "cpu"
    recorded = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    elsewhere = torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu")
    if not (same and fits and recorded) or elsewhere:
        return F.conv2d(x, weight, None, stride, padding, dilation, channels)
    geometry = Geometry(kernel, stride, padding, dilation, (x.shape[2], x.shape[3]))
    out: Tensor = _Trilinear.apply(x, weight, None, geometry)  # type: ignore[no-untyped-call]
    return out


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
        # An operand is needed only for the gradients of the others.
        ctx.save_for_backward(
            *(t if any(needs[:i] + needs[i + 1 :]) else None for i, t in enumerate(operands))
        )
        ctx.save_for_forward(*operands)
        ctx.missing = next(i for i, t in enumerate(operands) if t is None)

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        operands = _put(ctx.saved_tensors, ctx.missing, cotangent)
        # Recording costs as much as a small convolution, so it is done only if this backward will
        # be differentiated.
        by: Any = _Trilinear.apply if torch.is_grad_enabled() else _partial
        gradients = [
            by(*_put(operands, i, None), ctx.geometry) if n else None
            for i, n in enumerate(ctx.needs_input_grad[:3])
        ]
        return *gradients, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        moved = [_put(ctx.saved_tensors, i, t) for i, t in enumerate(tangents[:3]) if t is not None]
        return sum(_Trilinear.apply(*operands, ctx.geometry) for operands in moved)  # type: ignore[no-untyped-call]


def _put(operands: tuple[Any, ...], place: int, value: Tensor | None) -> tuple[Any, ...]:
    return (*operands[:place], value, *operands[place + 1 :])


def _partial(x: Any, w: Any, g: Any, geometry: Geometry) -> Tensor:
    if g is None:
        return F.conv2d(
            x, w, None, geometry.stride, geometry.padding, geometry.dilation, w.shape[0]
        )
    return _input_gradient(w, g, geometry) if x is None else _weight_gradient(x, g, geometry)


def _input_gradient(w: Tensor, g: Tensor, geometry: Geometry) -> Tensor:
    """Return the gradient of the input (B, C, H, W)."""
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
    """Return the gradient of the weight (C, 1, k, k)."""
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
    # Columns [start, end) of the kernel read the columns of x from start - padding on, up to those
    # that the last column of g reads.
    pieces = []
    # oneDNN is ten times slower if the kernel is higher than the image.
    rows = padding if x.shape[2] < kernel else 0
    for start in range(0, kernel, 3):
        end = min(start + 3, kernel)
        right = stride * (g.shape[3] - 1) + end - padding - x.shape[3]
        columns = F.pad(x, (padding - start, right, rows, rows))
        pieces.append(
            _aten(
                columns,
                _like(g, x.shape[1], kernel, end - start),
                g,
                stride,
                (padding - rows, 0),
                1,
                1,
            )
        )
    return torch.cat(pieces, 3)


def _skips(geometry: Geometry) -> bool:
    """Return whether the convolution is an undilated one on ``x[::stride, ::stride]``."""
    return 1 < geometry.stride == geometry.dilation and geometry.padding % geometry.dilation == 0


def _sublattices(x: Tensor, step: int) -> Tensor:
    """Return the sublattices of every ``step``-th pixel, with zeros past the border.

    The shape is (step * step * B, C, ceil(H / step), ceil(W / step)).
    """
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
    """Return torch's own gradient by x (``by`` 0) or by w (1), of which only the shape is read."""
    steps, dilations, mask = (stride, stride), (dilation, dilation), (by == 0, by == 1, False)
    gradients: tuple[Tensor, ...] = torch.ops.aten.convolution_backward(
        g, x, w, None, steps, padding, dilations, False, (0, 0), x.shape[1], mask
    )
    return gradients[by]
