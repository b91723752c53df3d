"""The derived network: what a genotype says, alone. It *is* a supernet of single-op edges under unit weights."""

from __future__ import annotations

from torch import Tensor, nn

from archgrad.arch.genotype import Genotype
from archgrad.arch.links import CellGenotype
from archgrad.arch.space import Space
from archgrad.cost import room


class Derived(nn.Module):
    """``network`` is the supernet of ``space``, where an edge has one op at most; it takes ``drop_path`` and returns an `Output`."""

    def __init__(self, genotype: Genotype, space: Space) -> None:
        super().__init__()
        self.genotype = genotype
        self.space = space
        room.check(space)
        self.network = space.supernet()

    def forward(self, images: Tensor) -> Tensor:
        """images (B, C, H, W) -> logits (B, K)"""
        return self.network(images).logits

    def forward_features(self, images: Tensor) -> tuple[Tensor, ...]:
        """images (B, C, H, W) -> the last feature map of each stage, (B, C', H', W')"""
        return self.network(images).features


def connected(genotype: Genotype, inputs: int) -> Genotype:
    """Without the nodes that nothing leads to: they leave the concatenation, and their outgoing links fall away.

    So FairDARTS (arXiv 1911.12126) builds its cells of 0 to 2 inputs a node. A cell left without any node keeps its zeros.
    """
    return Genotype(tuple(_connected(cell, inputs) for cell in genotype.cells))


def _connected(cell: CellGenotype, inputs: int) -> CellGenotype:
    alive = set(range(inputs))
    for link in sorted(cell.links, key=lambda link: link.target):
        if link.source in alive:
            alive.add(link.target)
    links = tuple(link for link in cell.links if link.source in alive)
    return CellGenotype(
        cell.group, links, tuple(node for node in cell.concat if node in alive) or cell.concat
    )
