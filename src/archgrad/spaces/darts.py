"""The space of DARTS (arXiv 1806.09055) and its restrictions S1-S4 (RobustDARTS, arXiv 1909.09656).

A network has ``cells`` cells. The cells at a third and at two thirds of the depth halve the image
and double the channels. They share the alphas of group "reduce", and the other cells share those of
group "normal". Nodes 0 and 1 of a cell are the outputs of the two cells before it. Each of the
``nodes`` inner nodes reads all earlier nodes, and the cell returns their concatenation.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from typing import Any, cast

import torch.nn.functional as F
from torch import Tensor, channels_last, nn

from archgrad.arch.edges import Edge, EdgeGroup, Groups, Primitives, groups_of
from archgrad.arch.genotype import Genotype
from archgrad.arch.mixture import Mixture
from archgrad.arch.passes import Output
from archgrad.arch.space import Defaults
from archgrad.errors import unknown_name
from archgrad.spaces import options, partial_channels
from archgrad.spaces.cells import Cell
from archgrad.spaces.derived import Derived, without_dead_nodes
from archgrad.spaces.primitives import FREE, Conv, FactorizedReduce, Style
from archgrad.spaces.stems import Auxiliary, CifarStem, ImageNetStem

EIGHT = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
GROUPS = ("normal", "reduce")
STEMS = ("cifar", "imagenet")
PUBLISHED = {
    "channels": 36,
    "cells": 20,
    "affine": True,
    "track": True,
    "pool_bn": False,
    "auxiliary": False,
    "extras": (),
    "partial_channels": 1,
}
"""The default options of a derived network."""


@cache
def robust_tables() -> dict[str, Primitives]:
    """Return the primitives of each edge in S1-S4, from the code of automl/RobustDARTS."""
    data = json.loads(
        files("archgrad.data_files").joinpath("robustdarts_spaces.json").read_text("utf-8")
    )
    return {
        name: {group: tuple(map(tuple, data[name][group])) for group in GROUPS}
        for name in ("s1", "s2", "s3", "s4")
    }


@dataclass(frozen=True)
class Darts:
    """The space of DARTS, and S1 to S4 by their names.

    Attributes:
        nodes: number of inner nodes of a cell, without its two inputs.
        concat: inner nodes that a cell returns, for each kind of cell; the default is all.
        pool_bn: BatchNorm behind every pool.

    Raises:
        ValueError: An option is out of range.
    """

    name: str = "darts"
    channels: int = 16
    cells: int = 8
    nodes: int = 4
    primitives: options.PrimitiveSets = None
    concat: Mapping[str, tuple[int, ...]] | None = None
    extras: tuple[str, ...] = ()
    in_channels: int = 3
    classes: int = 10
    stem: str = "cifar"  # "cifar" is one 3x3 convolution, "imagenet" three of stride 2
    affine: bool = False
    pool_bn: bool = True
    track: bool = True
    auxiliary: bool = False
    partial_channels: int = 1

    defaults = Defaults()
    option_help = options.HELP

    def __post_init__(self) -> None:
        options.check_whole(
            self, 1, "channels", "cells", "nodes", "in_channels", "classes", "partial_channels"
        )
        partial_channels.check(self.channels, self.partial_channels)
        options.check_flags(self, "affine", "pool_bn", "track", "auxiliary")
        if self.stem not in STEMS:
            raise unknown_name("stem", self.stem, STEMS)
        edges = dict.fromkeys(GROUPS, len(self._edge_ends))
        object.__setattr__(self, "primitives", options.primitive_sets(self.primitives, edges))
        object.__setattr__(
            self, "concat", options.concats(self.concat, edges, range(2, self.nodes + 2))
        )
        object.__setattr__(
            self, "extras", options.primitive_sets(self.extras, edges) if self.extras else ()
        )
        if self.stem == "imagenet" and self.channels < 2:
            raise ValueError(
                "channels must be at least 2 with the imagenet stem, whose first layer has half"
            )
        if self.primitives is None and self.name != "darts" and self.nodes != 4:
            raise ValueError(
                f"space {self.name!r} has 4 nodes, not {self.nodes}: "
                "its table names the primitives of every edge"
            )

    @cached_property
    def groups(self) -> Groups:
        """Return the edge groups "normal" and "reduce"."""
        inner = tuple(range(2, self.nodes + 2))
        return groups_of(
            EdgeGroup(
                group,
                tuple(
                    Edge(source, target, names)
                    for (source, target), names in zip(self._edge_ends, self._primitive_sets(group))
                ),
                concat=inner if self.concat is None else self.concat[group],
                keep=2,
                free=FREE,
                extras=self.extras,
                cells=len(self.reductions)
                if group == "reduce"
                else self.cells - len(self.reductions),
            )
            for group in GROUPS
        )

    @property
    def reductions(self) -> set[int]:
        """Return the numbers of the reduction cells; a network of one cell has only one place."""
        return {self.cells // 3, 2 * self.cells // 3}

    @property
    def _edge_ends(self) -> list[tuple[int, int]]:
        return [(source, target) for target in range(2, self.nodes + 2) for source in range(target)]

    def _primitive_sets(self, group: str) -> tuple[tuple[str, ...], ...]:
        sets = self.primitives
        if sets is None:
            sets = EIGHT if self.name == "darts" else robust_tables()[self.name]
        return sets[group] if isinstance(sets, Mapping) else (sets,) * len(self._edge_ends)

    def resized(self, **changes: Any) -> Darts:
        """Return the same space with other options, as `Space.resized`.

        Primitives ``()`` remove an edge, and ``primitives=None`` restores the space's own.
        """
        return options.with_changes(self, changes)

    def spec(self) -> dict[str, Any]:
        """Return all options as values for JSON."""
        return options.spec(self)

    def supernet(self) -> DartsNet:
        """Return a new supernet."""
        return DartsNet(self)

    def evaluation(self, **given: Any) -> Darts:
        """Return the space of published CIFAR-10 networks, as `Space.evaluation`.

        They have 36 channels, 20 cells, affine BatchNorms, and none behind pools.
        """
        return options.evaluated(self, PUBLISHED, given)

    def derive(self, genotype: Genotype | str, **given: Any) -> Derived:
        """Return the derived network of a genotype, as `Space.derive`.

        Nodes without inputs are left out.
        """
        genotype = Genotype.of(genotype)
        genotype.check(self.groups)
        built = without_dead_nodes(genotype, inputs=2)
        cells = {
            "primitives": built.primitives(self.groups),
            "concat": {cell.group: cell.concat for cell in built.cells},
        }
        return Derived(genotype, self.evaluation(**given).resized(**cells))


class DartsNet(nn.Module):
    """The supernet of the DARTS space.

    A stage ends with a reduction cell or with the last cell, so there are three features at any
    depth.
    """

    def __init__(self, space: Darts) -> None:
        super().__init__()
        self.groups = space.groups
        self.kinds = ["reduce" if i in space.reductions else "normal" for i in range(space.cells)]
        self.stage_ends = (space.cells // 3, 2 * space.cells // 3, space.cells - 1)
        self.stem = (CifarStem if space.stem == "cifar" else ImageNetStem)(
            space.in_channels, space.channels
        )
        style = Style(space.affine, space.track, space.pool_bn)
        before, last = self.stem.channels
        halved, channels, widths = space.stem == "imagenet", space.channels, []
        self.cells = nn.ModuleList()
        for kind in self.kinds:
            group, stride = self.groups[kind], 2 if kind == "reduce" else 1
            channels *= stride
            first = (
                FactorizedReduce(before, channels, style)
                if halved
                else Conv(before, channels, 1, 1, style)
            )
            self.cells.append(
                Cell(
                    group,
                    [first, Conv(last, channels, 1, 1, style)],
                    channels,
                    stride,
                    style,
                    space.partial_channels,
                )
            )
            before, last, halved = last, channels * len(group.concat), kind == "reduce"
            widths.append(last)
        self.feature_channels = tuple(widths[i] for i in self.stage_ends)
        self.auxiliary = (
            Auxiliary(self.feature_channels[1], space.classes, space.stem)
            if space.auxiliary
            else None
        )
        self.classifier = nn.Linear(last, space.classes)
        self.to(memory_format=channels_last)  # type: ignore[call-overload]

    def forward(
        self, images: Tensor, mixture: Mixture | None = None, *, drop_path: float = 0.0
    ) -> Output:
        """Compute the output as `Supernet.forward`, for images (B, C, H, W) of 8 pixels or more."""
        first, second = self.stem(images.contiguous(memory_format=channels_last))
        # Two cells read each output, and both begin with its ReLU, which is computed once.
        x, before, last = second, F.relu(first), F.relu(second)
        outputs, counted = [], dict.fromkeys(self.groups, 0)
        for cell, kind in zip(self.cells, self.kinds):
            x = cell(
                (before, last),
                None if mixture is None else mixture.cell(kind, counted[kind]),
                drop_path,
            )
            before, last = last, F.relu(x)
            outputs.append(x)
            counted[kind] += 1
        features = tuple(outputs[i] for i in self.stage_ends)
        auxiliary = (
            self.auxiliary(features[1]) if self.auxiliary is not None and self.training else None
        )
        return Output(self.classifier(x.mean((2, 3))), features, auxiliary)

    def ops(self, group: str, edge: int, primitive: str) -> list[nn.Module]:
        """Return the modules of a primitive on an edge, one for each cell, as `Supernet.ops`.

        A pool or an identity skip serves all edges out of a node.
        """
        cells = cast("Iterable[Cell]", self.cells)
        return [cell.ops(edge, primitive) for cell, kind in zip(cells, self.kinds) if kind == group]
