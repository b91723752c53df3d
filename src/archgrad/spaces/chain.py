"""The network of a chain space: stem, layers one behind the other, head. A layer is a cell of one edge, so all that holds for cells
(idle ops, dropout, drop-path, extras, partial channels) holds for it.

Depth is searched: a layer of an identity is none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, channels_last, nn

from archgrad.arch.chain import layer_name
from archgrad.arch.edges import Edge, EdgeGroup, Groups, groups_of
from archgrad.arch.genotype import Genotype
from archgrad.arch.mixture import Mixture
from archgrad.arch.passes import Output
from archgrad.arch.space import Space
from archgrad.spaces import blocks, options
from archgrad.spaces.blocks import PLAIN, Kind, Layer
from archgrad.spaces.cells import Cell
from archgrad.spaces.derived import Derived
from archgrad.spaces.primitives import Style

Stages = tuple[tuple[Layer, ...], ...]


def stages_of(inputs: int, table: Iterable[tuple[int, int, int]]) -> Stages:
    """``table``: (channels, layers, stride) of each stage, whose first layer has the stride."""
    found = []
    for number, (channels, count, stride) in enumerate(table, 1):
        first = Layer(layer_name(number, 1), inputs, channels, stride, True)
        found.append(
            (
                first,
                *(
                    Layer(layer_name(number, k), channels, channels, 1, False)
                    for k in range(2, count + 1)
                ),
            )
        )
        inputs = channels
    return tuple(found)


def check(space: Any, stages: Stages) -> None:
    """What every chain space asks of its options ``primitives``, ``extras`` and ``partial_channels``, which become tuples. ValueError."""
    edges = {layer.name: 1 for stage in stages for layer in stage}
    object.__setattr__(
        space, "primitives", options.primitive_sets(space.primitives, edges, blocks.check)
    )
    object.__setattr__(
        space,
        "extras",
        options.primitive_sets(space.extras, edges, blocks.check) if space.extras else (),
    )
    if isinstance(space.primitives, Mapping):
        for name, (names,) in space.primitives.items():
            if not names:
                raise ValueError(
                    f"primitives of {name!r} must name at least one: without it the chain ends there"
                )
    for layer in (layer for stage in stages for layer in stage if layer.keeps):
        if layer.outputs % space.partial_channels:
            raise ValueError(
                f"{layer.name} has {layer.outputs} channels, which is no multiple of partial_channels {space.partial_channels}"
            )


def groups(
    stages: Stages,
    primitives: options.Sets,
    usual: tuple[str, ...],
    extras: tuple[str, ...],
    skips: bool,
) -> Groups:
    """A group for each layer. ``skips``: the first of a stage may be a skip too; else the names meant for all layers lose it there, in every
    width and for every stem, for the shape of some changes with these."""

    def of(layer: Layer) -> tuple[str, ...]:
        if isinstance(primitives, Mapping):
            return primitives[layer.name][0]
        return tuple(
            name for name in primitives or usual if skips or not layer.first or name != blocks.SKIP
        )

    return groups_of(
        EdgeGroup(
            layer.name,
            (Edge(0, 1, of(layer)),),
            (1,),
            hidden=(),
            free=(blocks.SKIP,),
            extras=extras,
        )
        for stage in stages
        for layer in stage
    )


def derive(space: Any, genotype: Genotype | str, given: Mapping[str, Any]) -> Derived:
    """`Space.derive` of a chain space."""
    genotype = Genotype.of(genotype)
    primitives = genotype.primitives(space.groups)
    for cell in genotype.cells:
        if cell.concat != (1,):
            raise ValueError(
                f"{cell.group}: a layer returns its node 1 alone, the genotype's returns {cell.concat}"
            )
    built: Space = space.evaluation(**given).resized(primitives=primitives)
    return Derived(genotype, built)


class ChainNet(nn.Module):
    """The supernet. ``head``: (B, C, H, W) -> (B, features). One feature map per stage: what its last layer returns."""

    def __init__(
        self,
        space: Any,
        stages: Stages,
        stem: nn.Module,
        head: nn.Module,
        features: int,
        kind: Kind = PLAIN,
    ) -> None:
        super().__init__()
        groups, style, k = space.groups, Style(space.affine, space.track), space.partial_channels
        layers = [layer for stage in stages for layer in stage]
        self.names = tuple(layer.name for layer in layers)
        self.ends = tuple(stage[-1].name for stage in stages)
        self.feature_channels = tuple(stage[-1].outputs for stage in stages)
        self.stem = stem
        self.layers = nn.ModuleDict(
            {layer.name: _cell(groups[layer.name], layer, style, kind, k) for layer in layers}
        )
        self.head = head
        self.classifier = nn.Linear(features, space.classes)
        self.to(memory_format=channels_last)  # type: ignore[call-overload]

    def forward(
        self, images: Tensor, mixture: Mixture | None = None, *, drop_path: float = 0.0
    ) -> Output:
        """images (B, C, H, W), any size from 8 on; ``None`` is weight 1 on every op."""
        x = self.stem(images.contiguous(memory_format=channels_last))
        features = []
        for name in self.names:
            x = self.layers[name](
                (x,), None if mixture is None else mixture.cell(name, 0), drop_path
            )
            if name in self.ends:
                features.append(x)
        return Output(self.classifier(self.head(x)), tuple(features))

    def ops(self, group: str, edge: int, primitive: str) -> list[nn.Module]:
        """The module of a primitive in a layer."""
        cell: Any = self.layers[group]
        return [cell.ops(edge, primitive)]


def _cell(group: EdgeGroup, layer: Layer, style: Style, kind: Kind, k: int) -> Cell:
    """Where the shape changes there is nothing that could go by: all channels go through the ops [reconstructed]."""
    lookup = blocks.primitives(layer, kind)
    return Cell(
        group, [nn.Identity()], layer.outputs, layer.stride, style, k if layer.keeps else 1, lookup
    )
