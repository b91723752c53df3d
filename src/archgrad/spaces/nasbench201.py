"""The space of NAS-Bench-201 (arXiv 2001.00326): 15,625 cells of four nodes and six edges.

Each edge has one of five ops. A network has three stages of ``cells`` cells with 1, 2 and 4 times
``channels``, and a residual block of stride 2 between two stages. It is built as in
AutoDL-Projects, the code of the benchmark's published search results.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import torch.nn.functional as F
from torch import Tensor, channels_last, nn

from archgrad.arch.edges import Edge, EdgeGroup, Groups, groups_of
from archgrad.arch.genotype import Genotype
from archgrad.arch.mixture import Mixture
from archgrad.arch.passes import Output
from archgrad.arch.space import Defaults, WeightSettings
from archgrad.spaces import options, partial_channels
from archgrad.spaces.cells import Cell
from archgrad.spaces.derived import Derived
from archgrad.spaces.primitives import FREE, Conv, Style
from archgrad.spaces.stems import AFFINE, Auxiliary

FIVE = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
ENDS = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
PUBLISHED = {
    "channels": 16,
    "cells": 5,
    "affine": True,
    "track": True,
    "extras": (),
    "partial_channels": 1,
}
"""The default options of a derived network."""


@dataclass(frozen=True)
class NasBench201:
    """The space of NAS-Bench-201.

    Raises:
        ValueError: An option is out of range.
    """

    name: str = "nasbench201"
    channels: int = 16
    cells: int = 5
    primitives: options.PrimitiveSets = None
    extras: tuple[str, ...] = ()
    in_channels: int = 3
    classes: int = 10
    affine: bool = False
    track: bool = True
    auxiliary: bool = False  # a head behind the second stage, which the benchmark does not have
    partial_channels: int = 1

    # The learning rate changes once an epoch. AutoDL calls its scheduler at every step, but its
    # cosine reads only the epoch.
    defaults = Defaults("weight_first", WeightSettings(nesterov=True, decay=5e-4, clip=0.0))
    option_help = options.HELP

    def __post_init__(self) -> None:
        options.check_whole(
            self, 1, "channels", "cells", "in_channels", "classes", "partial_channels"
        )
        partial_channels.check(self.channels, self.partial_channels)
        options.check_flags(self, "affine", "track", "auxiliary")
        edges = {"cell": len(ENDS)}
        object.__setattr__(self, "primitives", options.primitive_sets(self.primitives, edges))
        object.__setattr__(
            self, "extras", options.primitive_sets(self.extras, edges) if self.extras else ()
        )

    @cached_property
    def groups(self) -> Groups:
        """Return the edge group "cell"."""
        sets = FIVE if self.primitives is None else self.primitives
        each = sets["cell"] if isinstance(sets, Mapping) else (sets,) * len(ENDS)
        edges = tuple(Edge(source, target, names) for (source, target), names in zip(ENDS, each))
        return groups_of(
            [
                EdgeGroup(
                    "cell",
                    edges,
                    (3,),
                    hidden=(),
                    free=FREE,
                    extras=self.extras,
                    cells=3 * self.cells,
                )
            ]
        )

    def resized(self, **changes: Any) -> NasBench201:
        """Return the same space with other options, as `Space.resized`.

        Primitives ``()`` remove an edge, and ``primitives=None`` restores all five.
        """
        return options.with_changes(self, changes)

    def spec(self) -> dict[str, Any]:
        """Return all options as values for JSON."""
        return options.spec(self)

    def supernet(self) -> NasBench201Net:
        """Return a new supernet."""
        return NasBench201Net(self)

    def evaluation(self, **given: Any) -> NasBench201:
        """Return the space of the benchmark's networks, as `Space.evaluation`.

        They have 16 channels, 5 cells in each stage, and affine BatchNorms.
        """
        return options.evaluated(self, PUBLISHED, given)

    def derive(self, genotype: Genotype | str, **given: Any) -> Derived:
        """Return the derived network of a genotype, as `Space.derive`."""
        genotype = Genotype.of(genotype)
        primitives = genotype.primitives(self.groups)
        (cell,) = genotype.cells
        if cell.concat != (3,):
            raise ValueError(
                f"a NAS-Bench-201 cell returns only its node 3, "
                f"that of the genotype returns {cell.concat}"
            )
        return Derived(genotype, self.evaluation(**given).resized(primitives=primitives))


class ResidualBlock(nn.Module):
    """ResNet's basic block of stride 2: two (ReLU, 3x3, BN), plus a 2x2 average pool with a 1x1.

    Odd sides of images are rounded up.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv_a = Conv(inputs, outputs, 3, 2, AFFINE)
        self.conv_b = Conv(outputs, outputs, 3, 1, AFFINE)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, outputs, H / 2, W / 2) for x (B, inputs, H, W)."""
        y = self.conv_b(F.relu(self.conv_a(F.relu(x))))
        z = self.shortcut(F.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False))
        out: Tensor = y + z
        return out


class NasBench201Net(nn.Module):
    """The supernet of NAS-Bench-201.

    A stage ends with the residual block that halves the image, or with the last cell.
    """

    def __init__(self, space: NasBench201) -> None:
        super().__init__()
        group, style = space.groups["cell"], Style(space.affine, space.track, pool_bn=False)
        self.depth = space.cells
        first, second, third = space.channels, 2 * space.channels, 4 * space.channels
        self.feature_channels = (second, third, third)
        self.stem = Conv(space.in_channels, first, 3, 1, AFFINE)
        self.cells = nn.ModuleList(
            Cell(group, [nn.Identity()], channels, 1, style, space.partial_channels)
            for channels in (first, second, third)
            for _ in range(space.cells)
        )
        self.blocks = nn.ModuleList([ResidualBlock(first, second), ResidualBlock(second, third)])
        self.bn = nn.BatchNorm2d(third)
        self.auxiliary = Auxiliary(third, space.classes, "cifar") if space.auxiliary else None
        self.classifier = nn.Linear(third, space.classes)
        self.to(memory_format=channels_last)  # type: ignore[call-overload]

    def forward(
        self, images: Tensor, mixture: Mixture | None = None, *, drop_path: float = 0.0
    ) -> Output:
        """Compute the output as `Supernet.forward`, for images (B, C, H, W) of 8 pixels or more."""
        x = self.stem(images.contiguous(memory_format=channels_last))
        features: list[Tensor] = []
        for k, cell in enumerate(self.cells):
            x = cell((x,), None if mixture is None else mixture.cell("cell", k), drop_path)
            if (k + 1) % self.depth == 0:
                if len(features) < len(self.blocks):
                    x = self.blocks[len(features)](x)
                features.append(x)
        auxiliary = (
            self.auxiliary(features[1]) if self.auxiliary is not None and self.training else None
        )
        return Output(self.classifier(F.relu(self.bn(x)).mean((2, 3))), tuple(features), auxiliary)

    def ops(self, group: str, edge: int, primitive: str) -> list[nn.Module]:
        """Return the modules of a primitive on an edge, one for each cell, as `Supernet.ops`.

        A pool or a skip serves all edges out of a node.
        """
        cells = cast("Iterable[Cell]", self.cells)
        return [cell.ops(edge, primitive) for cell in cells if group == "cell"]
