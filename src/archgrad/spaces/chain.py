"""The network of a chain space: a stem, a sequence of layers, and a head.

A layer is a cell of one edge, so skipped ops, dropout, drop-path, extras and partial channels work
as in cells. The depth is searched, because a layer that is an identity computes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
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

Select = Callable[[Sequence[str]], nn.Module]
"""(selected primitives) -> the module of a layer."""
Fill = Callable[[EdgeGroup, Select], nn.Module]
"""(edge group, `Select`) -> a module in the place of a layer."""
Stages = tuple[tuple[Layer, ...], ...]


def stages_of(inputs: int, table: Iterable[tuple[int, int, int]]) -> Stages:
    """Return the layers of each stage.

    Args:
        inputs: Channels of the stem.
        table: (channels, layers, stride) of each stage; its first layer has the stride.

    Returns:
        A tuple of layers for each stage.
    """
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
    """Check the options ``primitives``, ``extras`` and ``partial_channels`` of a chain space.

    The lists among them become tuples.

    Args:
        space: The space, in its ``__post_init__``.
        stages: The layers of its stages.

    Raises:
        ValueError: An option is wrong.
    """
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
                    f"primitives of {name!r} must name at least one, or the chain would end there"
                )
    for layer in (layer for stage in stages for layer in stage if layer.keeps_shape):
        if layer.outputs % space.partial_channels:
            raise ValueError(
                f"{layer.name} has {layer.outputs} channels, "
                f"which is no multiple of partial_channels {space.partial_channels}"
            )


def groups(
    stages: Stages,
    primitives: options.PrimitiveSets,
    usual: tuple[str, ...],
    extras: tuple[str, ...],
    skips: bool,
) -> Groups:
    """Return an edge group for each layer.

    Args:
        stages: The layers of the stages.
        primitives: The option ``primitives`` of the space.
        usual: The primitives of the space if the option is None.
        extras: Primitives of the unsearched columns.
        skips: Whether the first layer of a stage may be a skip. If not, names for all layers lose
            the skip there, for every width and stem, because some of them change the shape.

    Returns:
        The groups.
    """

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
    """Return the derived network of a chain space, as `Space.derive`.

    Args:
        space: The space.
        genotype: The genotype, or its text.
        given: Options of the network.

    Returns:
        The network.

    Raises:
        ValueError: The genotype is not one of the space.
    """
    genotype = Genotype.of(genotype)
    primitives = genotype.primitives(space.groups)
    for cell in genotype.cells:
        if cell.concat != (1,):
            raise ValueError(
                f"{cell.group}: a layer returns only its node 1, "
                f"that of the genotype returns {cell.concat}"
            )
    built: Space = space.evaluation(**given).resized(primitives=primitives)
    return Derived(genotype, built)


def filled(space: Any, fill: Fill, size: int) -> tuple[nn.Module, tuple[Tensor]]:
    """Return a network with other modules for its layers, as `archgrad.modules.ram` needs it.

    Args:
        space: The space.
        fill: (edge group, function) -> the module for a layer. The function returns the layer with
            selected primitives.
        size: Side of an image in pixels.

    Returns:
        A network that returns logits, and an example of its inputs. All weights are 0.
    """
    narrow = {name: (group.edges[0].primitives[:1],) for name, group in space.groups.items()}
    with torch.device("meta"):
        net: ChainNet = space.resized(primitives=narrow).supernet()  # its layers are replaced
        for name, group in space.groups.items():
            net.layers[name] = fill(group, partial(net.layer, group))
    net.to_empty(device="cpu")
    with torch.no_grad():
        for tensor in (*net.parameters(), *net.buffers()):
            tensor.zero_()
    return Logits(net), (torch.zeros(1, space.in_channels, size, size),)


class Logits(nn.Module):
    """Return the logits of a network alone, so that its features are not kept.

    Args:
        network: The network.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (B, K) of images (B, C, H, W)."""
        return self.network(images).logits  # type: ignore[no-any-return]


class ChainNet(nn.Module):
    """The supernet of a chain space.

    The features of its output are those of the last layer of each stage.

    Args:
        space: The space.
        stages: The layers of its stages.
        stem: The stem.
        head: (B, C, H, W) -> (B, features).
        features: Inputs of the classifier.
        kind: Properties of the blocks.
    """

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
        layers = [layer for stage in stages for layer in stage]
        self.space, self.kind = space, kind
        self.plan = {layer.name: layer for layer in layers}
        self.names = tuple(self.plan)
        self.ends = tuple(stage[-1].name for stage in stages)
        self.feature_channels = tuple(stage[-1].outputs for stage in stages)
        self.stem = stem
        self.layers = nn.ModuleDict({name: self._cell(space.groups[name]) for name in self.names})
        self.head = head
        self.classifier = nn.Linear(features, space.classes)
        self.to(memory_format=channels_last)  # type: ignore[call-overload]

    def forward(
        self, images: Tensor, mixture: Mixture | None = None, *, drop_path: float = 0.0
    ) -> Output:
        """Compute the output as `Supernet.forward`, for images (B, C, H, W) of 8 pixels or more."""
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
        """Return the module of a primitive in a layer, in a list."""
        cell: Any = self.layers[group]
        return [cell.ops(edge, primitive)]

    def layer(self, group: EdgeGroup, primitives: Sequence[str]) -> Cell:
        """Return a new layer that has only some primitives of its group."""
        edge = group.edges[0]._replace(primitives=tuple(primitives))
        made = self._cell(replace(group, edges=(edge,)))
        return made.to(memory_format=channels_last)  # type: ignore[call-overload,no-any-return]

    def _cell(self, group: EdgeGroup) -> Cell:
        """Return the cell of a layer.

        If the shape changes, no channel can bypass the ops, so all go through them [reconstructed].
        """
        layer, space = self.plan[group.name], self.space
        return Cell(
            group,
            [nn.Identity()],
            layer.outputs,
            layer.stride,
            Style(space.affine, space.track),
            space.partial_channels if layer.keeps_shape else 1,
            blocks.primitives(layer, self.kind),
        )
