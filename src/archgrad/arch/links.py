"""The parts of a derived architecture: its ops, cell by cell."""

from __future__ import annotations

from typing import NamedTuple


class Link(NamedTuple):
    """One op of a derived cell: node ``target`` adds ``primitive`` of node ``source``."""

    source: int
    target: int
    primitive: str


class CellGenotype(NamedTuple):
    """What was selected for one group. Any number of links per node; ``concat`` as in `EdgeGroup`."""

    group: str
    links: tuple[Link, ...]
    concat: tuple[int, ...]


Cells = tuple[CellGenotype, ...]
"""All of an architecture: what a `Genotype` wraps, and what the notations read and write."""
