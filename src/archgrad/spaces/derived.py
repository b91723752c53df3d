"""The derived network: a supernet whose edges have only the ops of a genotype, with weight 1."""

from __future__ import annotations

from torch import Tensor, nn

from archgrad.arch.genotype import Genotype
from archgrad.arch.links import CellGenotype
from archgrad.arch.passes import Output
from archgrad.arch.space import Space
from archgrad.cost import process_memory


class Derived(nn.Module):
    """The network of a genotype. ``network`` is its supernet, which returns an `Output`.

    Args:
        genotype: The genotype.
        space: The space in which an edge has at most one op.
    """

    def __init__(self, genotype: Genotype, space: Space) -> None:
        super().__init__()
        self.genotype = genotype
        self.space = space
        process_memory.check_memory(space)
        self.network = space.supernet()

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (B, K) of images (B, C, H, W)."""
        output: Output = self.network(images)
        return output.logits

    def forward_features(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the last feature map (B, C', H', W') of each stage, for images (B, C, H, W)."""
        output: Output = self.network(images)
        return output.features


def without_dead_nodes(genotype: Genotype, inputs: int) -> Genotype:
    """Return a genotype without the nodes that have no inputs.

    Their outgoing links and their place in the concatenation are removed too. FairDARTS (arXiv
    1911.12126) builds its cells with 0 to 2 inputs for each node in this way. A cell that would
    lose all nodes keeps its concatenation of zeros.

    Args:
        genotype: The genotype.
        inputs: Number of inputs of a cell.

    Returns:
        The genotype.
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
