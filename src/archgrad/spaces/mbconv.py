"""The chain space of CDARTS (arXiv 2006.10724).

Layers are inverted residuals of kernel 3, 5 or 7 and expansion 4 or 6, with squeeze and excitation
and Swish. The depth is searched, because a layer that is not the first of its stage may be a skip.

The authors released networks of this space, CDARTS_A and CDARTS_B, but no search. The networks are
built as in their code (microsoft/Cream, CDARTS_detection/mmdet/models/backbones/mobilenetv3.py).
The search is ours [reconstructed].
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from archgrad.arch.edges import Groups
from archgrad.arch.genotype import Genotype
from archgrad.arch.space import Defaults
from archgrad.bounds import CHAIN, OPTIONS
from archgrad.errors import short_repr, unknown_name
from archgrad.spaces import blocks, chain, options
from archgrad.spaces.blocks import InvertedResidual, Kind, rounded
from archgrad.spaces.derived import Derived
from archgrad.spaces.primitives import Conv
from archgrad.spaces.stems import AFFINE

KIND = Kind(F.silu, squeeze=True)
WIDTH, STEM, FEATURES = 960, 16, 1280
"""Channels of the published networks: the last convolution, the stem, the classifier's input."""
STEMS = {"cifar": (1, 1), "small": (1, 0), "imagenet": (2, 0)}
"""Stride of the stem, and the number of stages of stride 2 that get stride 1.

Images of 32, 64 and 224 pixels so end at 4, 4 and 7 pixels.
"""
PUBLISHED = {"channels": STEM, "affine": True, "track": True, "extras": (), "partial_channels": 1}
"""The default options of a derived network."""


@dataclass(frozen=True)
class MBConv:
    """The chain space of CDARTS.

    All channels of the network are in proportion to `channels`, rounded to multiples of 8.

    Attributes:
        stages: channels, layers and stride of each stage.
        kernels: kernel sizes of the blocks, in pixels.
        expansions: expansion ratios of the blocks.

    Raises:
        ValueError: An option is out of range.
    """

    name: str = "mbconv"
    channels: int = STEM
    stages: tuple[tuple[int, int, int], ...] = (
        (24, 4, 2),
        (40, 4, 2),
        (80, 4, 2),
        (96, 4, 1),
        (192, 4, 2),
    )  # (channels, layers, stride)
    kernels: tuple[int, ...] = (3, 5, 7)
    expansions: tuple[int, ...] = (4, 6)
    primitives: options.PrimitiveSets = None
    extras: tuple[str, ...] = ()
    in_channels: int = 3
    classes: int = 10
    # "imagenet" is the published stem. In "small" it has stride 1, and in "cifar" the first stage
    # has stride 1 too.
    stem: str = "cifar"
    affine: bool = False
    track: bool = True
    partial_channels: int = 1  # in layers that change the shape all channels go through the ops

    defaults = Defaults()  # those of DARTS [reconstructed]
    option_help = options.HELP

    def __post_init__(self) -> None:
        options.check_whole(self, 1, "channels", "in_channels", "classes", "partial_channels")
        options.check_flags(self, "affine", "track")
        if self.stem not in STEMS:
            raise unknown_name("stem", self.stem, STEMS)
        for option in ("kernels", "expansions"):
            object.__setattr__(self, option, _numbers(option, getattr(self, option)))
        object.__setattr__(self, "stages", _table(self.stages))
        blocks.check(self._default_primitives)
        chain.check(self, self.layout)
        for layer in (stage[0] for stage in self.layout):
            if blocks.SKIP in (names := self.groups[layer.name].edges[0].primitives) or not names:
                raise ValueError(
                    f"{layer.name} is the first layer of its stage, which cannot be a skip: "
                    "name only blocks for it"
                )

    @cached_property
    def layout(self) -> chain.Stages:
        """Return the layers of each stage, for this width and this stem."""
        left, table = STEMS[self.stem][1], []
        for channels, count, stride in self.stages:
            if stride == 2 and left > 0:
                left, stride = left - 1, 1
            table.append((rounded(channels * self.channels / STEM), count, stride))
        return chain.stages_of(self.channels, table)

    @cached_property
    def groups(self) -> Groups:
        """Return an edge group for each layer."""
        return chain.groups(
            self.layout, self.primitives, self._default_primitives, self.extras, skips=False
        )

    @property
    def _default_primitives(self) -> tuple[str, ...]:
        return (
            *(
                f"mb{expansion}_k{kernel}"
                for kernel in self.kernels
                for expansion in self.expansions
            ),
            blocks.SKIP,
        )

    def resized(self, **changes: Any) -> MBConv:
        """Return the same space with other options; ``primitives=None`` restores its own."""
        return options.with_changes(self, changes)

    def spec(self) -> dict[str, Any]:
        """Return all options as values for JSON."""
        return options.spec(self)

    def supernet(self) -> chain.ChainNet:
        """Return a new supernet."""
        width, features = (
            rounded(channels * self.channels / STEM) for channels in (WIDTH, FEATURES)
        )
        stem = MobileStem(self.in_channels, self.channels, STEMS[self.stem][0])
        return chain.ChainNet(
            self,
            self.layout,
            stem,
            MobileHead(self.layout[-1][-1].outputs, width, features),
            features,
            KIND,
        )

    def evaluation(self, **given: Any) -> MBConv:
        """Return the space of the published networks: 16 channels, affine BatchNorms."""
        return options.evaluated(self, PUBLISHED, given)

    def derive(self, genotype: Genotype | str, **given: Any) -> Derived:
        """Return the derived network of a genotype, as `Space.derive`."""
        return chain.derive(self, genotype, given)

    def filled(self, fill: chain.Fill, size: int) -> tuple[nn.Module, tuple[Tensor]]:
        """Return a network with other modules for its layers, as `chain.filled`."""
        return chain.filled(self, fill, size)


class MobileStem(nn.Module):
    """The stem: a 3x3 convolution, BN, Swish, and a depthwise separable block."""

    def __init__(self, inputs: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv = Conv(inputs, channels, 3, stride, AFFINE)
        self.block = InvertedResidual(channels, channels, 3, 1, 1, AFFINE, KIND)

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, channels, H', W') for images (B, C, H, W)."""
        out: Tensor = self.block(F.silu(self.conv(images)))
        return out


class MobileHead(nn.Module):
    """The head: a 1x1 convolution, BN, Swish, mean, a linear layer, Swish."""

    def __init__(self, inputs: int, width: int, features: int) -> None:
        super().__init__()
        self.conv = Conv(inputs, width, 1, 1, AFFINE)
        self.linear = nn.Linear(width, features)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, features) for x (B, C, H, W)."""
        return F.silu(self.linear(F.silu(self.conv(x)).mean((2, 3))))


def _numbers(option: str, given: Any) -> tuple[int, ...]:
    if (
        not isinstance(given, list | tuple)
        or not given
        or not all(type(number) is int and number >= 1 for number in given)
    ):
        raise ValueError(
            f"{option} must be a list of whole numbers of at least 1, not {short_repr(given)}"
        )
    if max(given) > CHAIN or len(given) > CHAIN:
        raise ValueError(
            f"{option} must be at most {CHAIN} numbers of at most {CHAIN}, not {short_repr(given)}"
        )
    return tuple(given)


def _is_stage(row: Any) -> bool:
    return (
        isinstance(row, list | tuple)
        and len(row) == 3
        and all(type(number) is int and number >= 1 for number in row)
        and row[2] <= 2
    )


def _table(given: Any) -> tuple[tuple[int, int, int], ...]:
    """Check the option ``stages``, rows of (channels, layers, stride 1 or 2)."""
    rows = given if isinstance(given, list | tuple) else ()
    for number, row in enumerate(rows, 1):
        if not _is_stage(row):
            raise ValueError(
                f"stages: row {number} must be [channels, layers, stride 1 or 2], "
                f"not {short_repr(row)}"
            )
    if not rows:
        raise ValueError(
            f"stages must be rows of [channels, layers, stride], not {short_repr(given)}"
        )
    if (
        sum(row[1] for row in rows) > OPTIONS["cells"]
        or max(row[0] for row in rows) > OPTIONS["channels"]
    ):
        raise ValueError(
            f"stages must have at most {OPTIONS['cells']} layers "
            f"of at most {OPTIONS['channels']:,} channels, not {short_repr(given)}"
        )
    return tuple((row[0], row[1], row[2]) for row in rows)
