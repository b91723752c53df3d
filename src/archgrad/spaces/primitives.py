"""Primitives: what may sit on an edge, by the names of DARTS (arXiv 1806.09055) and NAS-Bench-201 (arXiv 2001.00326).

Most primitives begin with a ReLU of the node they read. That ReLU belongs to the node, not to the primitive: it is computed once for
all outgoing edges, so the modules here whose primitive is `rectified` read an already rectified state. Likewise pools and identity
skips have no weights and give every outgoing edge the same tensor: they are `shared`. Convolutions have no bias: BatchNorm follows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from archgrad import plugins
from archgrad.spaces.depthwise import depthwise_conv2d
from archgrad.spaces.noise import Noise


class Style(NamedTuple):
    """How the BatchNorms of a cell are built."""

    affine: bool = False
    track: bool = True  # running statistics
    pool_bn: bool = True  # a BatchNorm behind pools, never affine (as in the official search code)


class Primitive(NamedTuple):
    """``build(channels, stride, style)``; ``rectified``: reads relu(state); ``shared``: serves all edges out of a node; ``scaled``: its
    module takes the mixture weight and multiplies by it itself; ``path``: what drop-path drops of it, the whole, what it adds to what it
    read, or nothing."""

    build: Callable[[int, int, Style], nn.Module]
    rectified: bool = True
    shared: bool = False
    scaled: bool = False
    path: Literal["whole", "residual", "never"] = "whole"


def batch_norm(channels: int, style: Style) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, affine=style.affine, track_running_stats=style.track)


class DepthwiseConv(nn.Conv2d):
    """A bias-free depthwise k x k convolution of "same" padding."""

    def __init__(self, channels: int, kernel: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__(
            channels,
            channels,
            kernel,
            stride,
            dilation * (kernel // 2),
            dilation,
            groups=channels,
            bias=False,
        )

    def forward(self, x: Tensor) -> Tensor:
        return depthwise_conv2d(
            x, self.weight, self.stride[0], int(self.padding[0]), self.dilation[0]
        )


class Conv(nn.Module):
    """k x k convolution, BN: "nor_conv", and what fits a cell's inputs to its channels.

    A mixture weight is that BatchNorm's: a seventh of a NAS-Bench-201 step (in the DARTS space, whose convolutions are cheaper, it
    gains nothing).
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, style: Style) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.bn = batch_norm(outputs, style)

    def forward(self, rectified: Tensor, weight: Tensor | None = None) -> Tensor:
        """rectified (B, C, H, W); weight, a scalar that multiplies the result."""
        x = self.conv(rectified)
        if weight is None or self.bn.affine:
            return self.bn(x) if weight is None else weight * self.bn(x)
        return scaled_batch_norm(x, self.bn, weight)


def scaled_batch_norm(x: Tensor, bn: nn.BatchNorm2d, weight: Tensor) -> Tensor:
    """``weight * bn(x)`` in one pass, for a BatchNorm without affine."""
    track = bn.training and bn.track_running_stats
    if track and bn.num_batches_tracked is not None:
        bn.num_batches_tracked.add_(1)
    use = track or not bn.training
    # In float32 at least, as the running statistics are. repeat, never expand: torch 2.13 then returns a wrong input gradient for
    # channels_last, and says nothing.
    scale = weight.to(torch.promote_types(weight.dtype, torch.float32)).repeat(bn.num_features)
    mean, var = (bn.running_mean, bn.running_var) if use else (None, None)
    return F.batch_norm(
        x, mean, var, scale, None, bn.training or mean is None, cast("float", bn.momentum), bn.eps
    )


class FactorizedReduce(nn.Module):
    """Halves the image, rounding up: a 1x1 convolution of the even pixels beside one of the odd ones. Odd sides are padded by 0.

    Two convolutions of stride 2, the second a pixel further on; taking the pixels first is what makes it fast.
    """

    def __init__(self, inputs: int, outputs: int, style: Style) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs // 2, 1, bias=False)
        self.conv2 = nn.Conv2d(inputs, outputs - outputs // 2, 1, bias=False)
        self.bn = batch_norm(outputs, style)

    def forward(self, rectified: Tensor) -> Tensor:
        odd_height, odd_width = rectified.shape[2] % 2, rectified.shape[3] % 2
        x = (
            F.pad(rectified, (0, odd_width, 0, odd_height))
            if odd_height or odd_width
            else rectified
        )
        return self.bn(
            torch.cat([self.conv1(x[:, :, ::2, ::2]), self.conv2(x[:, :, 1::2, 1::2])], 1)
        )


class DilConv(nn.Module):
    """Depthwise k x k of dilation 2, 1x1, BN."""

    def __init__(
        self, channels: int, kernel: int, stride: int, style: Style, dilation: int = 2
    ) -> None:
        super().__init__()
        self.depthwise = DepthwiseConv(channels, kernel, stride, dilation)
        self.pointwise = nn.Conv2d(channels, channels, 1, bias=False)
        self.bn = batch_norm(channels, style)

    def forward(self, rectified: Tensor) -> Tensor:
        return self.bn(self.pointwise(self.depthwise(rectified)))


class SepConv(nn.Module):
    """Depthwise k x k, 1x1, BN, twice with a ReLU between; the stride is on the first."""

    def __init__(self, channels: int, kernel: int, stride: int, style: Style) -> None:
        super().__init__()
        self.first = DilConv(channels, kernel, stride, style, dilation=1)
        self.second = DilConv(channels, kernel, 1, style, dilation=1)

    def forward(self, rectified: Tensor) -> Tensor:
        return self.second(F.relu(self.first(rectified)))


class FactoredConv(nn.Module):
    """1x7, then 7x1 convolution, BN (NASNet's, AmoebaNet's)."""

    def __init__(self, channels: int, stride: int, style: Style) -> None:
        super().__init__()
        self.horizontal = nn.Conv2d(channels, channels, (1, 7), (1, stride), (0, 3), bias=False)
        self.vertical = nn.Conv2d(channels, channels, (7, 1), (stride, 1), (3, 0), bias=False)
        self.bn = batch_norm(channels, style)

    def forward(self, rectified: Tensor) -> Tensor:
        return self.bn(self.vertical(self.horizontal(rectified)))


class Pool(nn.Module):
    """3x3 "max" or "avg" pool, padding not counted, then a BatchNorm without affine if the style says so."""

    def __init__(self, kind: str, channels: int, stride: int, style: Style) -> None:
        super().__init__()
        self.kind, self.stride = kind, stride
        self.bn = (
            batch_norm(channels, style._replace(affine=False)) if style.pool_bn else nn.Identity()
        )

    def forward(self, state: Tensor) -> Tensor:
        if self.kind == "max":
            return self.bn(F.max_pool2d(state, 3, self.stride, 1))
        return self.bn(F.avg_pool2d(state, 3, self.stride, 1, count_include_pad=False))


class Zero(nn.Module):
    """No connection. Cells never run it: it adds nothing."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, state: Tensor) -> Tensor:
        return torch.zeros_like(state[:, :, :: self.stride, :: self.stride])


def _sep_conv(kernel: int) -> Primitive:
    return Primitive(lambda channels, stride, style: SepConv(channels, kernel, stride, style))


def _dil_conv(kernel: int) -> Primitive:
    return Primitive(lambda channels, stride, style: DilConv(channels, kernel, stride, style))


def _nor_conv(kernel: int) -> Primitive:
    return Primitive(
        lambda channels, stride, style: Conv(channels, channels, kernel, stride, style), scaled=True
    )


def _pool(kind: str) -> Primitive:
    return Primitive(
        lambda channels, stride, style: Pool(kind, channels, stride, style),
        rectified=False,
        shared=True,
    )


PRIMITIVES: dict[str, Primitive] = {
    "none": Primitive(lambda channels, stride, style: Zero(stride), rectified=False, shared=True),
    "max_pool_3x3": _pool("max"),
    "avg_pool_3x3": _pool("avg"),
    "skip_connect": Primitive(
        lambda channels, stride, style: nn.Identity(), rectified=False, shared=True, path="never"
    ),
    "sep_conv_3x3": _sep_conv(3),
    "sep_conv_5x5": _sep_conv(5),
    "sep_conv_7x7": _sep_conv(7),
    "dil_conv_3x3": _dil_conv(3),
    "dil_conv_5x5": _dil_conv(5),
    "conv_7x1_1x7": Primitive(
        lambda channels, stride, style: FactoredConv(channels, stride, style)
    ),
    "nor_conv_1x1": _nor_conv(1),
    "nor_conv_3x3": _nor_conv(3),
    "noise": Primitive(lambda channels, stride, style: Noise(stride), rectified=False),
}
STRIDED_SKIP = Primitive(
    lambda channels, stride, style: FactorizedReduce(channels, channels, style)
)

FREE = ("max_pool_3x3", "avg_pool_3x3", "skip_connect", "noise")
"""Primitives without weights (a skip of stride 2 has some: the field still calls it weight-free), `none` apart."""


def primitive(name: str, stride: int = 1) -> Primitive:
    """ValueError with the nearest name if there is none of that name."""
    if name not in PRIMITIVES:
        raise plugins.unknown("primitive", name, PRIMITIVES)
    return STRIDED_SKIP if name == "skip_connect" and stride == 2 else PRIMITIVES[name]


def check(names: Iterable[str]) -> None:
    """ValueError at the first name that is not a primitive's, or that stands twice."""
    names = list(names)
    for name in names:
        primitive(name)
        if names.count(name) > 1:
            raise ValueError(
                f"primitive {name!r} stands {names.count(name)} times on one edge, once is meant"
            )
