"""The places of nodes and links in a picture of a cell, as numbers without any drawing.

Nodes stand in a row. A link leaves its source upwards or downwards, follows a lane and enters its
target. Short links take inner lanes, so two links cross only if their spans overlap partly. A
node's inputs alternate between the two sides, in the way with the fewest crossings.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, product

from archgrad.arch.links import CellGenotype, Link
from archgrad.arch.nasbench201 import CELL

FREE = 8  # number of nodes whose sides are chosen by trying all 256 ways
Sided = tuple[Link, int]  # a link and its side: 1 above the row of nodes, -1 below


@dataclass(frozen=True)
class Route:
    """The line of one link.

    Attributes:
        link: The link.
        side: 1 above the row of nodes, -1 below it.
        lane: Number of the lane; 1 is next to the nodes.
        leave: Where the line leaves its source, from -1 (left) to 1 (right) of the node's radius.
        enter: Where the line enters its target, on the same scale.
        middle: Place of the label, in nodes: 2.5 is between nodes 2 and 3.
    """

    link: Link
    side: int
    lane: int
    leave: float
    enter: float
    middle: float


@dataclass(frozen=True)
class Placement:
    """The places of a cell's links. Of its nodes, 0 to ``nodes - 1``, the first are ``inputs``."""

    cell: CellGenotype
    nodes: int
    inputs: int
    routes: tuple[Route, ...]

    @property
    def concatenates(self) -> bool:
        """Return whether the output is a concatenation, not just the last node."""
        return self.cell.concat != (self.nodes - 1,)

    def count_lanes(self, side: int) -> int:
        """Return the number of lanes on one side of the row of nodes (1 above, -1 below)."""
        return max((route.lane for route in self.routes if route.side == side), default=0)


def placement(cell: CellGenotype) -> Placement:
    """Return the places of a cell's nodes and links."""
    inputs = inputs_of(cell)
    nodes = 1 + max((inputs, *cell.concat, *(link.target for link in cell.links)))
    best = min(_sidings(cell), key=_crossings)
    sides = [(side, _lanes([link for link, at in best if at == side])) for side in (1, -1)]
    return Placement(
        cell,
        nodes,
        inputs,
        tuple(_route(side, laned, i) for side, laned in sides for i in range(len(laned))),
    )


def inputs_of(cell: CellGenotype) -> int:
    """Return the number of a cell's inputs: two, or one if a link leads to its node 1."""
    return 1 if cell.group == CELL or any(link.target == 1 for link in cell.links) else 2


def _sidings(cell: CellGenotype) -> list[list[Sided]]:
    """Return the ways to put links on two sides so that the inputs of each node alternate.

    With more than FREE nodes only the sides of the first FREE ones vary.
    """
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
    """Return the number of crossings and the number of lanes, by which two ways are compared."""
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
    """Give each link a lane: short links first, each on the lowest lane above its overlaps."""
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
    """Return where a line meets a node, so that no two lines cross there.

    Outer lines leave nearer to their target and enter nearer to their source. The lines share the
    half of the node that faces their other end, or its whole width if no line has its other end on
    the other side.
    """
    node = getattr(laned[index][0], end)
    outermost_first = sorted(
        (-lane, i) for i, (link, lane) in enumerate(laned) if getattr(link, end) == node
    )
    rank, last = outermost_first.index((-laned[index][1], index)), len(outermost_first) - 1
    if any(getattr(link, other_end) == node for link, _ in laned):
        return 0.22 + rank * min(0.38, 0.62 / max(last, 1))
    return (rank - last / 2) * min(0.46, 1.4 / max(last, 1))
