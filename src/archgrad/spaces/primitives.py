"""The primitives of edges.

Their names are those of DARTS (arXiv 1806.09055) and NAS-Bench-201 (arXiv 2001.00326).

Most primitives begin with a ReLU of the node that they read. A node computes this ReLU once for all
its outgoing edges, so the module of a `rectified` primitive reads a tensor after the ReLU. Pools
and identity skips have no weights and give every outgoing edge the same tensor, so they are
`shared`. Convolutions have no bias, because a BatchNorm follows.
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
    """Properties of the BatchNorms of a cell."""

    affine: bool = False
    track: bool = True  # with running statistics
    pool_bn: bool = True  # with a BatchNorm behind pools, never affine (as in DARTS's search code)


class Primitive(NamedTuple):
    """A primitive: how its module is built and used.

    Attributes:
        build: ``build(channels, stride, style)`` returns the module, (B, C, H, W) -> (B, C, H /
            stride, W / stride).
        rectified: The module reads relu(state) instead of the state.
        shared: One module serves all edges out of a node.
        scaled: The module takes the mixture weight as a second argument and multiplies by it.
        path: Drop-path drops the whole output, only the part that a residual op adds to its input,
            or never anything.
    """

    build: Callable[[int, int, Style], nn.Module]
    rectified: bool = True
    shared: bool = False
    scaled: bool = False
    path: Literal["whole", "residual", "never"] = "whole"


def batch_norm(channels: int, style: Style) -> nn.BatchNorm2d:
    """Return a BatchNorm of a style."""
    return nn.BatchNorm2d(channels, affine=style.affine, track_running_stats=style.track)


class DepthwiseConv(nn.Conv2d):
    """A depthwise k x k convolution with "same" padding and without a bias."""

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
        """Return the convolution of x (B, C, H, W)."""
        return depthwise_conv2d(
            x, self.weight, self.stride[0], int(self.padding[0]), self.dilation[0]
        )


class Conv(nn.Module):
    """A k x k convolution and a BatchNorm: "nor_conv", and the preprocessing of a cell's inputs.

    The mixture weight is the scale of the BatchNorm, which saves a seventh of a NAS-Bench-201 step.
    In the DARTS space, whose convolutions are cheaper, it saves nothing.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, style: Style) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.bn = batch_norm(outputs, style)

    def forward(self, rectified: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the convolution of rectified (B, C, H, W) times ``weight``, a scalar."""
        x = self.conv(rectified)
        if weight is not None and not self.bn.affine:
            return scaled_batch_norm(x, self.bn, weight)
        out: Tensor = self.bn(x)
        return out if weight is None else weight * out


def scaled_batch_norm(x: Tensor, bn: nn.BatchNorm2d, weight: Tensor) -> Tensor:
    """Return ``weight * bn(x)`` in one pass, for a BatchNorm that is not affine.

    Args:
        x: (B, C, H, W).
        bn: The BatchNorm.
        weight: A scalar.

    Returns:
        (B, C, H, W).
    """
    track = bn.training and bn.track_running_stats
    if track and bn.num_batches_tracked is not None:
        bn.num_batches_tracked.add_(1)
    use = track or not bn.training
    # The scale is float32 or wider, as the running statistics. It is repeated and not expanded,
    # because torch 2.13 silently returns a wrong input gradient for an expanded one and
    # channels_last.
    scale = weight.to(torch.promote_types(weight.dtype, torch.float32)).repeat(bn.num_features)
    mean, var = (bn.running_mean, bn.running_var) if use else (None, None)
    return F.batch_norm(
        x, mean, var, scale, None, bn.training or mean is None, cast("float", bn.momentum), bn.eps
    )


class FactorizedReduce(nn.Module):
    """Two 1x1 convolutions that halve the image, one of the even and one of the odd pixels.

    They equal two convolutions of stride 2, the second shifted by a pixel. Selecting the pixels
    before the convolution makes it fast. Odd sides are padded with 0, so they round up.
    """

    def __init__(self, inputs: int, outputs: int, style: Style) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs // 2, 1, bias=False)
        self.conv2 = nn.Conv2d(inputs, outputs - outputs // 2, 1, bias=False)
        self.bn = batch_norm(outputs, style)

    def forward(self, rectified: Tensor) -> Tensor:
        """Return (B, outputs, H / 2, W / 2) for rectified (B, inputs, H, W)."""
        odd_height, odd_width = rectified.shape[2] % 2, rectified.shape[3] % 2
        x = (
            F.pad(rectified, (0, odd_width, 0, odd_height))
            if odd_height or odd_width
            else rectified
        )
        halves = torch.cat([self.conv1(x[:, :, ::2, ::2]), self.conv2(x[:, :, 1::2, 1::2])], 1)
        out: Tensor = self.bn(halves)
        return out


class DilConv(nn.Module):
    """A depthwise k x k convolution of dilation 2, a 1x1 convolution, BN."""

    def __init__(
        self, channels: int, kernel: int, stride: int, style: Style, dilation: int = 2
    ) -> None:
        super().__init__()
        self.depthwise = DepthwiseConv(channels, kernel, stride, dilation)
        self.pointwise = nn.Conv2d(channels, channels, 1, bias=False)
        self.bn = batch_norm(channels, style)

    def forward(self, rectified: Tensor) -> Tensor:
        """Return (B, C, H / stride, W / stride) for rectified (B, C, H, W)."""
        out: Tensor = self.bn(self.pointwise(self.depthwise(rectified)))
        return out


class SepConv(nn.Module):
    """Twice a depthwise k x k convolution, a 1x1 convolution and BN, with a ReLU between.

    The first depthwise convolution has the stride.
    """

    def __init__(self, channels: int, kernel: int, stride: int, style: Style) -> None:
        super().__init__()
        self.first = DilConv(channels, kernel, stride, style, dilation=1)
        self.second = DilConv(channels, kernel, 1, style, dilation=1)

    def forward(self, rectified: Tensor) -> Tensor:
        """Return (B, C, H / stride, W / stride) for rectified (B, C, H, W)."""
        out: Tensor = self.second(F.relu(self.first(rectified)))
        return out


class FactoredConv(nn.Module):
    """A 1x7 convolution, a 7x1 convolution, BN (from NASNet and AmoebaNet)."""

    def __init__(self, channels: int, stride: int, style: Style) -> None:
        super().__init__()
        self.horizontal = nn.Conv2d(channels, channels, (1, 7), (1, stride), (0, 3), bias=False)
        self.vertical = nn.Conv2d(channels, channels, (7, 1), (stride, 1), (3, 0), bias=False)
        self.bn = batch_norm(channels, style)

    def forward(self, rectified: Tensor) -> Tensor:
        """Return (B, C, H / stride, W / stride) for rectified (B, C, H, W)."""
        out: Tensor = self.bn(self.vertical(self.horizontal(rectified)))
        return out


class Pool(nn.Module):
    """A 3x3 "max" or "avg" pool that does not count its padding, and a BatchNorm of the style.

    The BatchNorm is never affine.
    """

    def __init__(self, kind: str, channels: int, stride: int, style: Style) -> None:
        super().__init__()
        self.kind, self.stride = kind, stride
        self.bn = (
            batch_norm(channels, style._replace(affine=False)) if style.pool_bn else nn.Identity()
        )

    def forward(self, state: Tensor) -> Tensor:
        """Return (B, C, H / stride, W / stride) for state (B, C, H, W)."""
        if self.kind == "max":
            pooled = F.max_pool2d(state, 3, self.stride, 1)
        else:
            pooled = F.avg_pool2d(state, 3, self.stride, 1, count_include_pad=False)
        out: Tensor = self.bn(pooled)
        return out


class Zero(nn.Module):
    """No connection. Cells never execute it, because it adds nothing."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, state: Tensor) -> Tensor:
        """Return zeros (B, C, H / stride, W / stride) for state (B, C, H, W)."""
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
"""The primitives without weights, except `none`.

A skip of stride 2 has weights, but the literature counts it among them.
"""


def primitive(name: str, stride: int = 1) -> Primitive:
    """Return the primitive of a name.

    Args:
        name: A key of `PRIMITIVES`.
        stride: Stride of the edge; a skip of stride 2 is a `FactorizedReduce`.

    Returns:
        The primitive.

    Raises:
        ValueError: The name is unknown; the message has the nearest name.
    """
    if name not in PRIMITIVES:
        raise plugins.unknown("primitive", name, PRIMITIVES)
    return STRIDED_SKIP if name == "skip_connect" and stride == 2 else PRIMITIVES[name]


def check(names: Iterable[str]) -> None:
    """Raise ValueError for a name that is no primitive, or that is given twice."""
    names = list(names)
    for name in names:
        primitive(name)
        if names.count(name) > 1:
            raise ValueError(
                f"primitive {name!r} is given {names.count(name)} times for one edge, "
                "once is enough"
            )
