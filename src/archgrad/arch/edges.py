"""Places where a choice is made: edges, and the groups of edges that are decided together.

Shape letters: ``edges`` and ``ops`` are those of one group, ``cells`` the cells that share it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Alphas = dict[str, "Tensor"]
"""Group name -> (edges, ops) logits, float32; further logits under ``group/name``. Padding (edges with fewer ops) is 0."""


class Edge(NamedTuple):
    """One place where a choice is made. ``primitives`` may differ from edge to edge (S1); ``()`` is a removed edge."""

    source: int
    target: int
    primitives: tuple[str, ...]


@dataclass(frozen=True)
class EdgeGroup:
    """Edges that are decided together and shared by ``cells`` cells: a cell type, or one layer of a chain."""

    name: str
    edges: tuple[Edge, ...]
    concat: tuple[int, ...] = ()  # nodes whose concatenation the cell returns
    keep: int | None = None  # edges kept per node (DARTS: 2); None keeps all
    least: int = 0  # fewest inputs a node of a genotype may have
    pick: int = 1  # ops kept per edge
    hidden: tuple[str, ...] = ("none",)  # in the mixture, never selected
    free: tuple[str, ...] = ()  # primitives without weights
    extras: tuple[
        str, ...
    ] = ()  # unsearched columns behind the searched ones (DARTS-'s auxiliary skip)
    cells: int = 1

    @property
    def width(self) -> int:
        """Columns of this group's alphas: the most primitives any edge has."""
        return max((len(edge.primitives) for edge in self.edges), default=0)

    def mask(self, device: torch.device | str | None = None) -> Tensor:
        """Bool (edges, ops): True where an edge has that column; the rest is padding."""
        import torch

        columns = torch.arange(self.width, device=device)
        sizes = torch.tensor([len(edge.primitives) for edge in self.edges], device=device)
        return columns < sizes[:, None]

    def columns(self, primitives: Iterable[str]) -> Tensor:
        """Bool (edges, ops): True where a column is one of ``primitives``."""
        import torch

        wanted = set(primitives)
        rows = [
            [k < len(edge.primitives) and edge.primitives[k] in wanted for k in range(self.width)]
            for edge in self.edges
        ]
        return torch.tensor(rows, dtype=torch.bool).reshape(len(self.edges), self.width)

    def nodes(self) -> dict[int, list[int]]:
        """Target node -> indices of the edges that lead to it, both in order."""
        incoming: dict[int, list[int]] = {}
        for index, edge in enumerate(self.edges):
            incoming.setdefault(edge.target, []).append(index)
        return incoming


Groups = dict[str, EdgeGroup]
Primitives = dict[str, tuple[tuple[str, ...], ...]]
"""Group name -> the primitives of each of its edges: what ``Space.resized(primitives=...)`` takes."""


def groups_of(edge_groups: Iterable[EdgeGroup]) -> Groups:
    return {group.name: group for group in edge_groups}
