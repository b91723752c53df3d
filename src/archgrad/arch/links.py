"""The parts of a derived architecture: the ops of each cell."""

from __future__ import annotations

from typing import NamedTuple


class Link(NamedTuple):
    """One op of a derived cell: node ``target`` adds ``primitive`` of node ``source``."""

    source: int
    target: int
    primitive: str


class CellGenotype(NamedTuple):
    """The selected links of one edge group, any number for each node.

    ``concat`` has the nodes whose concatenation the cell returns, as in `EdgeGroup`.
    """

    group: str
    links: tuple[Link, ...]
    concat: tuple[int, ...]


Cells = tuple[CellGenotype, ...]
"""All cells of an architecture: the content of a `Genotype`, which the notations read and write."""
