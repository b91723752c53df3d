"""The space of NAS-Bench-Macro (arXiv 2103.11922): eight layers, each an identity or one of two inverted residuals; 6,561 networks.

Stages of 2, 3 and 3 layers at 2, 4 and 8 times ``channels``; the first layer of a stage halves the image, and is a 1x1 convolution there
where it is an "identity", as in xiusu/NAS-Bench-Macro, train/model.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from archgrad.arch.chain import MACRO, MACRO_STAGES
from archgrad.arch.edges import Groups
from archgrad.arch.genotype import Genotype
from archgrad.arch.space import Defaults
from archgrad.spaces import chain, options
from archgrad.spaces.derived import Derived
from archgrad.spaces.primitives import Conv
from archgrad.spaces.stems import AFFINE

PUBLISHED = {"channels": 32, "affine": True, "track": True, "extras": (), "partial_channels": 1}
"""Options of a derived network unless others are given."""


@dataclass(frozen=True)
class NasBenchMacro:
    """The space of NAS-Bench-Macro. The whole network is in proportion to `channels`.

    Attributes:
        name: name of the space, as `archgrad spaces` lists it.
        channels: channels of the first cell of the supernet, or of a chain's stem.
        primitives: names of the primitives on every edge; the default is the space's own.
        extras: names of primitives that every edge has beside the searched ones; they are never
            selected.
        in_channels: channels of an image; a search reads them from the images.
        classes: number of classes; a search reads it from the images.
        affine: let the BatchNorms in cells, or in a chain's layers, scale and shift.
        track: keep running statistics in the BatchNorms of cells, or of a chain's layers.
        partial_channels: divisor K of a node's channels: 1/K of them go through the ops (PC-DARTS);
            1 is off.

    Raises:
        ValueError: An option is out of range.
    """

    name: str = "nasbenchmacro"
    channels: int = 32
    primitives: options.Sets = None
    extras: tuple[str, ...] = ()  # unsearched columns in every layer
    in_channels: int = 3
    classes: int = 10
    affine: bool = False  # of the layers' BatchNorms
    track: bool = True  # running statistics in the layers
    partial_channels: int = (
        1  # K: only 1/K of the channels go through ops where the shape is kept (PC-DARTS)
    )

    defaults = Defaults()  # DARTS's own: the benchmark comes with no gradient-based search

    def __post_init__(self) -> None:
        options.whole(self, 1, "channels", "in_channels", "classes", "partial_channels")
        options.flags(self, "affine", "track")
        chain.check(self, self.stages)

    @cached_property
    def stages(self) -> chain.Stages:
        return chain.stages_of(
            self.channels,
            [(2 ** (k + 1) * self.channels, count, 2) for k, count in enumerate(MACRO_STAGES)],
        )

    @cached_property
    def groups(self) -> Groups:
        return chain.groups(self.stages, self.primitives, MACRO, self.extras, skips=True)

    def resized(self, **changes: Any) -> NasBenchMacro:
        """The same space with other options; ``primitives=None`` restores the three."""
        return options.changed(self, changes)

    def spec(self) -> dict[str, Any]:
        return options.spec(self)

    def supernet(self) -> chain.ChainNet:
        head, features = (
            MacroHead(self.stages[-1][-1].outputs, 40 * self.channels),
            40 * self.channels,
        )
        return chain.ChainNet(
            self, self.stages, MacroStem(self.in_channels, self.channels), head, features
        )

    def evaluation(self, **given: Any) -> NasBenchMacro:
        """As in the benchmark's table, unless ``given`` otherwise: 32 channels, affine BatchNorms."""
        return options.evaluated(self, PUBLISHED, given)

    def derive(self, genotype: Genotype | str, **given: Any) -> Derived:
        """The network of a genotype, in the form of `evaluation`. ValueError if it does not fit."""
        return chain.derive(self, genotype, given)


class MacroStem(nn.Module):
    """A 3x3 convolution, BN, ReLU."""

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        self.conv = Conv(inputs, channels, 3, 1, AFFINE)

    def forward(self, images: Tensor) -> Tensor:
        return F.relu(self.conv(images))


class MacroHead(nn.Module):
    """A 1x1 convolution, BN, ReLU, mean."""

    def __init__(self, inputs: int, features: int) -> None:
        super().__init__()
        self.conv = Conv(inputs, features, 1, 1, AFFINE)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, H, W) -> (B, features)"""
        return F.relu(self.conv(x)).mean((2, 3))
