"""Edges, on which a search chooses ops, and the groups of edges that are decided together.

In shapes, ``edges`` and ``ops`` are the edges and the columns of one group, and ``cells`` are the
cells that share the group.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Alphas = dict[str, "Tensor"]
"""Group name -> (edges, ops) logits, float32. Further logits have keys ``group/name``.

An edge with fewer ops than others is padded with 0.
"""


class Edge(NamedTuple):
    """An edge of a cell, with the primitives to choose from.

    Edges may have different primitives (as in S1). A removed edge has none.
    """

    source: int
    target: int
    primitives: tuple[str, ...]


@dataclass(frozen=True)
class EdgeGroup:
    """Edges that are decided together: those of a cell type, or of one layer of a chain.

    Attributes:
        name: Name of the group.
        edges: The edges.
        concat: Nodes whose concatenation a cell returns.
        keep: Number of edges that selection keeps for each node (2 in DARTS); None keeps all.
        least: Smallest number of inputs of a node in a genotype.
        pick: Number of ops that selection keeps on an edge.
        hidden: Primitives that are part of the mixture but never selected.
        free: Primitives without weights.
        extras: Primitives of further, unsearched columns (such as the auxiliary skip of DARTS-).
        cells: Number of cells that share the group.
    """

    name: str
    edges: tuple[Edge, ...]
    concat: tuple[int, ...] = ()
    keep: int | None = None
    least: int = 0
    pick: int = 1
    hidden: tuple[str, ...] = ("none",)
    free: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()
    cells: int = 1

    @property
    def width(self) -> int:
        """Return the number of columns of the group's alphas, the most primitives of any edge."""
        return max((len(edge.primitives) for edge in self.edges), default=0)

    def mask(self, device: torch.device | str | None = None) -> Tensor:
        """Return a bool tensor (edges, ops) that is False for padding."""
        import torch

        columns = torch.arange(self.width, device=device)
        sizes = torch.tensor([len(edge.primitives) for edge in self.edges], device=device)
        return columns < sizes[:, None]

    def columns(self, primitives: Iterable[str]) -> Tensor:
        """Return a bool tensor (edges, ops) that is True for columns of these primitives."""
        import torch

        wanted = set(primitives)
        rows = [
            [k < len(edge.primitives) and edge.primitives[k] in wanted for k in range(self.width)]
            for edge in self.edges
        ]
        return torch.tensor(rows, dtype=torch.bool).reshape(len(self.edges), self.width)

    def nodes(self) -> dict[int, list[int]]:
        """Return target node -> indices of the edges that lead to it, in the order of the edges."""
        incoming: dict[int, list[int]] = {}
        for index, edge in enumerate(self.edges):
            incoming.setdefault(edge.target, []).append(index)
        return incoming


Groups = dict[str, EdgeGroup]
"""Group name -> group, in the order of the space."""
Primitives = dict[str, tuple[tuple[str, ...], ...]]
"""Group name -> the primitives of each edge, the argument of ``Space.resized(primitives=...)``."""


def groups_of(edge_groups: Iterable[EdgeGroup]) -> Groups:
    """Return edge groups by their names, in the given order."""
    return {group.name: group for group in edge_groups}
