"""Blocks of mobile networks (MobileNetV2, arXiv 1801.04381; squeeze and excitation, arXiv 1709.01507), and the primitives they are.

``mb6_k5`` is an inverted residual of expansion 6 and kernel 5. These primitives read a node as it is: no ReLU belongs to it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from archgrad.errors import unknown
from archgrad.spaces.primitives import PRIMITIVES, Conv, DepthwiseConv, Primitive, Style, batch_norm

SKIP = "skip_connect"
EXAMPLES = (SKIP, "mb3_k3", "mb4_k3", "mb6_k3", "mb4_k5", "mb6_k5", "mb4_k7", "mb6_k7")


class Kind(NamedTuple):
    """What all blocks of a network have in common."""

    activation: Callable[[Tensor], Tensor] = F.relu
    squeeze: bool = False  # squeeze and excitation


PLAIN = Kind()


class Layer(NamedTuple):
    """A layer of a chain: its edge group and its shape."""

    name: str
    inputs: int
    outputs: int
    stride: int
    first: bool  # of its stage

    @property
    def keeps(self) -> bool:
        """Whether what comes out has the shape of what went in."""
        return self.stride == 1 and self.inputs == self.outputs


class SqueezeExcite(nn.Module):
    """x times a gate per channel: mean, 1x1 to a quarter of the channels, ReLU, 1x1, hard sigmoid [author code, CDARTS]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, rounded(channels / 4), 1)
        self.expand = nn.Conv2d(rounded(channels / 4), channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, H, W)"""
        gate = self.expand(F.relu(self.reduce(x.mean((2, 3), keepdim=True))))
        return x * (F.relu6(gate + 3) / 6)  # torch's own hard sigmoid has no second derivative


class InvertedResidual(nn.Module):
    """1x1 to ``expansion`` times the inputs (not at 1), depthwise k x k of the stride, 1x1 to the outputs, a BatchNorm behind each; what it
    read is added where the shape is kept."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        expansion: int,
        stride: int,
        style: Style,
        kind: Kind = PLAIN,
    ) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.activation, self.residual = kind.activation, stride == 1 and inputs == outputs
        self.expand = Conv(inputs, hidden, 1, 1, style) if expansion > 1 else None
        self.depthwise = DepthwiseConv(hidden, kernel, stride)
        self.bn = batch_norm(hidden, style)
        self.squeeze = SqueezeExcite(hidden) if kind.squeeze else nn.Identity()
        self.project = Conv(hidden, outputs, 1, 1, style)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, H, W) -> (B, C', H', W')"""
        hidden = x if self.expand is None else self.activation(self.expand(x))
        hidden = self.squeeze(self.activation(self.bn(self.depthwise(hidden))))
        return self.project(hidden) + x if self.residual else self.project(hidden)


class Downsample(nn.Module):
    """1x1 convolution of a stride, BN: a skip that changes the shape.

    Pixels are taken first, which is the same and cheaper; and torch 2.13's 1x1 convolution of stride 2 writes past its memory on a CPU, for
    fewer than 8 channels in channels_last.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, style: Style) -> None:
        super().__init__()
        self.stride = stride
        self.conv = Conv(inputs, outputs, 1, 1, style)

    def forward(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        """x (B, C, H, W); weight, a scalar that multiplies the result."""
        return self.conv(x[:, :, :: self.stride, :: self.stride], weight)


def rounded(channels: float, divisor: int = 8) -> int:
    """To the nearest multiple, upwards where more than a tenth would be lost (MobileNetV2)."""
    nearest = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return nearest + divisor if nearest < 0.9 * channels else nearest


def shape(name: str) -> tuple[int, int]:
    """``mb6_k5`` -> (expansion, kernel). ValueError for what is no such name, or has an even kernel."""
    found = re.fullmatch(r"mb([1-9]\d*)_k([1-9]\d*)", name)
    if not found:
        raise unknown("primitive", name, EXAMPLES)
    expansion, kernel = map(int, found.groups())
    if kernel % 2 == 0:
        raise ValueError(
            f"primitive {name!r} has a kernel of {kernel} pixels, which has no middle: choose an odd one"
        )
    return expansion, kernel


def check(names: Iterable[str]) -> None:
    """ValueError at the first name that is not a primitive's of a chain, or that stands twice."""
    names = list(names)
    for name in names:
        if name != SKIP:
            shape(name)
        if names.count(name) > 1:
            raise ValueError(
                f"primitive {name!r} stands {names.count(name)} times in one layer, once is meant"
            )


def primitives(layer: Layer, kind: Kind) -> Callable[[str, int], Primitive]:
    """(name, stride) -> that primitive in this layer. A skip that changes the shape is a 1x1 convolution and a BatchNorm, as
    NAS-Bench-Macro's."""

    def lookup(name: str, stride: int) -> Primitive:
        if name == SKIP and layer.keeps:
            return PRIMITIVES[SKIP]
        if name == SKIP:
            return Primitive(
                lambda channels, step, style: Downsample(layer.inputs, channels, step, style),
                False,
                scaled=True,
                path="never",
            )
        expansion, kernel = shape(name)

        def build(channels: int, step: int, style: Style) -> nn.Module:
            # A part of the channels (PC-DARTS) is a narrower layer of the same kind.
            return InvertedResidual(
                channels if layer.keeps else layer.inputs,
                channels,
                kernel,
                expansion,
                step,
                style,
                kind,
            )

        return Primitive(build, rectified=False, path="residual" if layer.keeps else "never")

    return lookup
