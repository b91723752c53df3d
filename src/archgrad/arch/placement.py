"""Where everything in a picture of a cell stands, as on a metro map: numbers only, no drawing.

Nodes stand in a row. A link leaves its source upwards or downwards, runs along a lane of its own and drops into its target.
Short links take inner lanes, so links only cross where their spans interleave; a node's inputs alternate between the two sides,
in the way that crosses least.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, product

from archgrad.arch.links import CellGenotype, Link
from archgrad.arch.nasbench201 import CELL

FREE = 8  # nodes whose sides are chosen by trying all: 256 ways
Sided = tuple[Link, int]  # a link and its side: 1 above the row of nodes, -1 below


@dataclass(frozen=True)
class Route:
    """The way of one link. Ports say how far beside a node's middle a line meets it, as a share of the node's radius."""

    link: Link
    side: int
    lane: int  # 1 is next to the nodes
    leave: float
    enter: float
    middle: float  # where its label stands, in nodes: 2.5 is between nodes 2 and 3


@dataclass(frozen=True)
class Plan:
    """A cell laid out: nodes 0 to ``nodes - 1``, of which the first ``inputs`` are the cell's inputs."""

    cell: CellGenotype
    nodes: int
    inputs: int
    routes: tuple[Route, ...]

    @property
    def concatenates(self) -> bool:
        """False where the output simply is the last node."""
        return self.cell.concat != (self.nodes - 1,)

    def lanes(self, side: int) -> int:
        return max((route.lane for route in self.routes if route.side == side), default=0)


def plan(cell: CellGenotype) -> Plan:
    """Lay a cell out."""
    inputs = inputs_of(cell)
    nodes = 1 + max((inputs, *cell.concat, *(link.target for link in cell.links)))
    best = min(_sidings(cell), key=_crossings)
    sides = [(side, _lanes([link for link, at in best if at == side])) for side in (1, -1)]
    return Plan(
        cell,
        nodes,
        inputs,
        tuple(_route(side, laned, i) for side, laned in sides for i in range(len(laned))),
    )


def inputs_of(cell: CellGenotype) -> int:
    """How many inputs a cell has: two, the two cells before it, unless something leads to its node 1."""
    return 1 if cell.group == CELL or any(link.target == 1 for link in cell.links) else 2


def _sidings(cell: CellGenotype) -> list[list[Sided]]:
    """The ways to put the links on two sides such that each node's inputs alternate (all ways up to FREE nodes)."""
    incoming: dict[int, list[Link]] = {}
    for link in sorted(cell.links):
        incoming.setdefault(link.target, []).append(link)
    free = min(len(incoming), FREE)
    starts = [(*sides, *[1] * (len(incoming) - free)) for sides in product((1, -1), repeat=free)]
    return [
        [
            (link, side * (-1) ** i)
            for side, links in zip(sides, incoming.values())
            for i, link in enumerate(links)
        ]
        for sides in starts
    ]


def _crossings(sided: list[Sided]) -> tuple[int, int]:
    """Crossings of a siding, then the lanes it takes."""
    pairs = [(a, b) for (a, one), (b, other) in combinations(sided, 2) if one == other]
    crossed = sum(
        a.source < b.source < a.target < b.target or b.source < a.source < b.target < a.target
        for a, b in pairs
    )
    lanes = [
        lane for side in (1, -1) for _, lane in _lanes([link for link, at in sided if at == side])
    ]
    return crossed, max(lanes, default=0)


def _lanes(links: list[Link]) -> list[tuple[Link, int]]:
    """Short links first, each on the lowest lane above all that it overlaps."""
    placed: list[tuple[Link, int]] = []
    for link in sorted(links, key=lambda link: (link.target - link.source, link)):
        below = [
            lane
            for other, lane in placed
            if other.source < link.target and link.source < other.target
        ]
        placed.append((link, 1 + max(below, default=0)))
    return placed


def _route(side: int, laned: list[tuple[Link, int]], index: int) -> Route:
    link, lane = laned[index]
    leave = _port(laned, index, "source", "target")
    enter = -_port(laned, index, "target", "source")
    middle = (link.source + link.target) / 2
    crossed = any(middle in (other.source, other.target) and at > lane for other, at in laned)
    return Route(link, side, lane, leave, enter, middle + 0.5 if crossed else middle)


def _port(laned: list[tuple[Link, int]], index: int, end: str, other_end: str) -> float:
    """Outer lines stand nearer to their target when they leave (to their source when they enter), so that no two cross at a node.

    They share the half of the node that faces their way, or its whole width where nothing comes from the other way.
    """
    node = getattr(laned[index][0], end)
    outermost_first = sorted(
        (-lane, i) for i, (link, lane) in enumerate(laned) if getattr(link, end) == node
    )
    rank, last = outermost_first.index((-laned[index][1], index)), len(outermost_first) - 1
    if any(getattr(link, other_end) == node for link, _ in laned):
        return 0.22 + rank * min(0.38, 0.62 / max(last, 1))
    return (rank - last / 2) * min(0.46, 1.4 / max(last, 1))
