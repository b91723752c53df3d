"""The space of NAS-Bench-Macro (arXiv 2103.11922): 6,561 networks of eight layers.

A layer is an identity or one of two inverted residuals. The stages have 2, 3 and 3 layers with 2, 4
and 8 times ``channels``. The first layer of a stage halves the image, so its "identity" is a 1x1
convolution, as in xiusu/NAS-Bench-Macro, train/model.py.
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
"""The default options of a derived network."""


@dataclass(frozen=True)
class NasBenchMacro:
    """The space of NAS-Bench-Macro. All channels of the network are in proportion to `channels`.

    Raises:
        ValueError: An option is out of range.
    """

    name: str = "nasbenchmacro"
    channels: int = 32
    primitives: options.PrimitiveSets = None
    extras: tuple[str, ...] = ()
    in_channels: int = 3
    classes: int = 10
    affine: bool = False
    track: bool = True
    partial_channels: int = 1  # in layers that change the shape all channels go through the ops

    defaults = Defaults()  # those of DARTS, as the benchmark has no gradient-based search
    option_help = options.HELP

    def __post_init__(self) -> None:
        options.check_whole(self, 1, "channels", "in_channels", "classes", "partial_channels")
        options.check_flags(self, "affine", "track")
        chain.check(self, self.stages)

    @cached_property
    def stages(self) -> chain.Stages:
        """Return the layers of each stage."""
        return chain.stages_of(
            self.channels,
            [(2 ** (k + 1) * self.channels, count, 2) for k, count in enumerate(MACRO_STAGES)],
        )

    @cached_property
    def groups(self) -> Groups:
        """Return an edge group for each layer."""
        return chain.groups(self.stages, self.primitives, MACRO, self.extras, skips=True)

    def resized(self, **changes: Any) -> NasBenchMacro:
        """Return the same space with other options; ``primitives=None`` restores all three."""
        return options.with_changes(self, changes)

    def spec(self) -> dict[str, Any]:
        """Return all options as values for JSON."""
        return options.spec(self)

    def supernet(self) -> chain.ChainNet:
        """Return a new supernet."""
        head, features = (
            MacroHead(self.stages[-1][-1].outputs, 40 * self.channels),
            40 * self.channels,
        )
        return chain.ChainNet(
            self, self.stages, MacroStem(self.in_channels, self.channels), head, features
        )

    def evaluation(self, **given: Any) -> NasBenchMacro:
        """Return the space of the benchmark's networks: 32 channels, affine BatchNorms."""
        return options.evaluated(self, PUBLISHED, given)

    def derive(self, genotype: Genotype | str, **given: Any) -> Derived:
        """Return the derived network of a genotype, as `Space.derive`."""
        return chain.derive(self, genotype, given)

    def filled(self, fill: chain.Fill, size: int) -> tuple[nn.Module, tuple[Tensor]]:
        """Return a network with other modules for its layers, as `chain.filled`."""
        return chain.filled(self, fill, size)


class MacroStem(nn.Module):
    """The stem: a 3x3 convolution, BN, ReLU."""

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        self.conv = Conv(inputs, channels, 3, 1, AFFINE)

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, channels, H, W) for images (B, C, H, W)."""
        return F.relu(self.conv(images))


class MacroHead(nn.Module):
    """The head: a 1x1 convolution, BN, ReLU, mean."""

    def __init__(self, inputs: int, features: int) -> None:
        super().__init__()
        self.conv = Conv(inputs, features, 1, 1, AFFINE)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, features) for x (B, C, H, W)."""
        return F.relu(self.conv(x)).mean((2, 3))
