"""The blocks of mobile networks and their primitives.

``mb6_k5`` is an inverted residual (MobileNetV2, arXiv 1801.04381) of expansion 6 and kernel 5, with
or without squeeze and excitation (arXiv 1709.01507). These primitives read a node without a ReLU.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from archgrad.errors import unknown_name
from archgrad.spaces.primitives import PRIMITIVES, Conv, DepthwiseConv, Primitive, Style, batch_norm

SKIP = "skip_connect"
EXAMPLES = (SKIP, "mb3_k3", "mb4_k3", "mb6_k3", "mb4_k5", "mb6_k5", "mb4_k7", "mb6_k7")


class Kind(NamedTuple):
    """The properties that all blocks of a network share."""

    activation: Callable[[Tensor], Tensor] = F.relu
    squeeze: bool = False  # with squeeze and excitation


PLAIN = Kind()


class Layer(NamedTuple):
    """A layer of a chain: the name of its edge group, its channels and its stride."""

    name: str
    inputs: int
    outputs: int
    stride: int
    first: bool  # the first layer of its stage

    @property
    def keeps_shape(self) -> bool:
        """Return whether the output has the shape of the input."""
        return self.stride == 1 and self.inputs == self.outputs


class SqueezeExcite(nn.Module):
    """Squeeze and excitation, which multiplies each channel by a gate [author code, CDARTS].

    The gate is: mean, 1x1 to a quarter of the channels, ReLU, 1x1, hard sigmoid.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, rounded(channels / 4), 1)
        self.expand = nn.Conv2d(rounded(channels / 4), channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return x (B, C, H, W) times its gates."""
        gate = self.expand(F.relu(self.reduce(x.mean((2, 3), keepdim=True))))
        return x * (F.relu6(gate + 3) / 6)  # torch's own hard sigmoid has no second derivative


class InvertedResidual(nn.Module):
    """An inverted residual: three convolutions with a BatchNorm each, and a skip connection.

    The convolutions are 1x1 to ``expansion`` times the inputs (left out for expansion 1), depthwise
    k x k with the stride, and 1x1 to the outputs. The input is added if the shape stays the same.
    """

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
        """Return (B, outputs, H', W') for x (B, inputs, H, W)."""
        hidden = x if self.expand is None else self.activation(self.expand(x))
        hidden = self.squeeze(self.activation(self.bn(self.depthwise(hidden))))
        out: Tensor = self.project(hidden)
        return out + x if self.residual else out


class Downsample(nn.Module):
    """A 1x1 convolution with a stride and a BatchNorm: a skip that changes the shape.

    The pixels are selected before the convolution, which gives the same result and is cheaper. It
    also avoids an error of torch 2.13, whose 1x1 convolution of stride 2 on a CPU writes past its
    memory for fewer than 8 channels in channels_last.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, style: Style) -> None:
        super().__init__()
        self.stride = stride
        self.conv = Conv(inputs, outputs, 1, 1, style)

    def forward(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the convolution of x (B, C, H, W) times ``weight``, a scalar."""
        out: Tensor = self.conv(x[:, :, :: self.stride, :: self.stride], weight)
        return out


def rounded(channels: float, divisor: int = 8) -> int:
    """Round channels to a multiple of ``divisor``, up if the nearest loses more than a tenth.

    The rule is that of MobileNetV2.
    """
    nearest = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return nearest + divisor if nearest < 0.9 * channels else nearest


def expansion_and_kernel(name: str) -> tuple[int, int]:
    """Return the expansion and the kernel of a primitive.

    Args:
        name: A name such as ``mb6_k5``.

    Returns:
        (expansion, kernel).

    Raises:
        ValueError: The name has another form, or the kernel is even.

    >>> expansion_and_kernel("mb6_k5")
    (6, 5)
    """
    found = re.fullmatch(r"mb([1-9]\d*)_k([1-9]\d*)", name)
    if not found:
        raise unknown_name("primitive", name, EXAMPLES)
    expansion, kernel = map(int, found.groups())
    if kernel % 2 == 0:
        raise ValueError(
            f"primitive {name!r} has an even kernel of {kernel} pixels: choose an odd one"
        )
    return expansion, kernel


def check(names: Iterable[str]) -> None:
    """Raise ValueError for a name that is no primitive of a chain, or that is given twice."""
    names = list(names)
    for name in names:
        if name != SKIP:
            expansion_and_kernel(name)
        if names.count(name) > 1:
            raise ValueError(
                f"primitive {name!r} is given {names.count(name)} times for one layer, "
                "once is enough"
            )


def primitives(layer: Layer, kind: Kind) -> Callable[[str, int], Primitive]:
    """Return the lookup of primitives for a layer.

    A skip that changes the shape is a 1x1 convolution with a BatchNorm, as in NAS-Bench-Macro.

    Args:
        layer: The layer.
        kind: The properties of its blocks.

    Returns:
        (name, stride) -> the primitive in this layer.
    """

    def lookup(name: str, stride: int) -> Primitive:
        if name == SKIP and layer.keeps_shape:
            return PRIMITIVES[SKIP]
        if name == SKIP:
            return Primitive(
                lambda channels, step, style: Downsample(layer.inputs, channels, step, style),
                False,
                scaled=True,
                path="never",
            )
        expansion, kernel = expansion_and_kernel(name)

        def build(channels: int, step: int, style: Style) -> nn.Module:
            # With partial channels (PC-DARTS) the block is a narrower one of the same kind.
            return InvertedResidual(
                channels if layer.keeps_shape else layer.inputs,
                channels,
                kernel,
                expansion,
                step,
                style,
                kind,
            )

        return Primitive(build, rectified=False, path="residual" if layer.keeps_shape else "never")

    return lookup
