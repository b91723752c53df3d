"""Limits on the cost of an architecture, and the best selection within them.

    maximise  sum of score[link]   subject to   base + sum of cost[link] <= bound   for each limit

The maximum is over the genotypes of a space: an edge takes ``pick`` ops, and a node keeps all its
edges or ``keep`` of them. This is a multiple-choice knapsack with a few hundred binary variables.
The branch and bound of HiGHS (`scipy.optimize.milp`) finds its optimum. A limit on a maximum (peak
memory) excludes each op above its bound.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from archgrad.arch.edges import Groups
from archgrad.arch.genotype import Genotype
from archgrad.arch.links import CellGenotype, Link
from archgrad.cost.cost import Cost, cost_text

if TYPE_CHECKING:
    from torch import Tensor

Scores = Mapping[str, "Tensor"]
"""Group -> (edges, ops), the score of each link."""

HIDDEN_SCORE = -1e6
"""Score of a hidden op: so low that it is selected only if an edge has no other op."""


SMALL = 20_000
"""The most genotypes of a space in which `best` tries all of them."""
TOLERANCE = 4e-6
"""How far HiGHS (tolerance 1e-6) may exceed a bound, as a share of the largest cost of an op."""


@dataclass(frozen=True)
class Limit:
    """An upper bound on a cost."""

    cost: Cost
    bound: float

    def allows(self, genotype: Genotype) -> bool:
        """Return whether a genotype is within the bound."""
        return self.cost_of(genotype) <= self.bound

    def cost_of(self, genotype: Genotype) -> float:
        """Return the cost that is compared with the bound.

        It is the sum over ops, which is never below the cost of the derived network. If the ops are
        only fitted, it is the exact cost.
        """
        return (self.cost.sum_over_ops if self.cost.r2 is None else self.cost.value_of)(genotype)

    def __str__(self) -> str:
        """Return the limit in the form of a budget option, such as ``macs=300M``."""
        return f"{self.cost.name}={cost_text(self.bound, self.cost.unit)}"


Limits = tuple[Limit, ...]


def is_within(genotype: Genotype, limits: Iterable[Limit]) -> bool:
    """Return whether a genotype is within all limits."""
    return all(limit.allows(genotype) for limit in limits)


class _Variables(NamedTuple):
    """The binary variables: one for each selectable op, then one for each removable edge."""

    columns: list[tuple[str, int, int]]  # (group, edge, column)
    edges: list[tuple[str, int]]

    def row(self) -> NDArray[np.float64]:
        """Return a row of zeros, one for each variable."""
        return np.zeros(len(self.columns) + len(self.edges))


def best(scores: Scores, groups: Groups, limits: Iterable[Limit] = ()) -> Genotype | None:
    """Return the genotype of the highest total score within limits.

    The result is the optimum if costs are sums over ops, or if the space has at most `SMALL`
    genotypes. For fitted costs in larger spaces, the bounds of the fit are lowered until the exact
    cost is within its bound, which may miss a better genotype.

    Args:
        scores: Score of each link.
        groups: The edge groups of the space.
        limits: The limits.

    Returns:
        The genotype; None if none is within the limits.
    """
    limits = list(limits)
    if (
        any(limit.cost.r2 is not None for limit in limits)
        and (sizes := _choices(groups))
        and math.prod(sizes) <= SMALL
    ):
        return _first(scores, groups, limits, sizes)
    bounds = [limit.bound for limit in limits]
    for _ in range(100):
        found = _solved(
            scores, groups, [replace(limit, bound=bound) for limit, bound in zip(limits, bounds)]
        )
        over = [
            k for k, limit in enumerate(limits) if found is not None and not limit.allows(found)
        ]
        if found is None or not over:
            return found
        for k in over:
            cost = limits[k].cost
            excess = max(
                limits[k].cost_of(found) - limits[k].bound, TOLERANCE * _scale(cost, groups)
            )
            bounds[k] = cost.sum_over_ops(found) - excess
    return None


def _choices(groups: Groups) -> list[int]:
    """Return the number of choices of each edge; an empty list if nodes choose among edges."""
    if any(group.keep is not None or group.pick != 1 for group in groups.values()):
        return []
    return [len(columns) for columns in _by_edge(_variables(groups)).values()]


def _first(
    scores: Scores, groups: Groups, limits: Sequence[Limit], sizes: Sequence[int]
) -> Genotype | None:
    """Return the first genotype within the limits, among all genotypes by falling score."""
    variables = _variables(groups)
    edges = [
        [variables.columns[index] for index in places] for places in _by_edge(variables).values()
    ]
    worth = [
        np.array([float(scores[name][edge, column]) for name, edge, column in places])
        for places in edges
    ]
    total = np.zeros(())
    for own in worth:
        total = np.add.outer(total, own)
    for place in np.argsort(-total, axis=None, kind="stable"):
        found = _genotype(
            groups, [places[k] for places, k in zip(edges, np.unravel_index(place, sizes))]
        )
        if is_within(found, limits):
            return found
    return None


def _solved(scores: Scores, groups: Groups, limits: Sequence[Limit]) -> Genotype | None:
    """Return the optimum of the integer program; None if it has no solution."""
    from scipy.optimize import LinearConstraint, milp

    variables = _variables(groups)
    worth = variables.row()
    rows = {name: scores[name].detach().double().cpu() for name in groups}
    for index, (name, edge, column) in enumerate(variables.columns):
        hidden = groups[name].edges[edge].primitives[column] in groups[name].hidden
        worth[index] = HIDDEN_SCORE if hidden else float(rows[name][edge, column])
    constraints = _structure(groups, variables)
    for limit in limits:
        if limit.cost.is_maximum and limit.cost.base > limit.bound:
            return None
        constraints.append(_constraint(limit, groups, variables))
    if not variables.columns:
        return Genotype(
            tuple(CellGenotype(name, (), group.concat) for name, group in groups.items())
        )
    matrix, low, high = (np.array(part) for part in zip(*constraints, strict=True))
    found = milp(
        -worth,
        constraints=LinearConstraint(matrix, low, high),
        integrality=np.ones_like(worth),
        bounds=(0, 1),
        options={"mip_rel_gap": 0.0},
    )
    if found.x is None:
        return None
    chosen = [place for place, value in zip(variables.columns, found.x) if value > 0.5]
    return _genotype(groups, chosen)


def _constraint(
    limit: Limit, groups: Groups, variables: _Variables
) -> tuple[NDArray[np.float64], float, float]:
    """Return the constraint (row, lower bound, upper bound) of a limit."""
    costs = limit.cost.op_costs(groups)
    row = variables.row()
    row[: len(variables.columns)] = [
        float(costs[name][edge, column]) for name, edge, column in variables.columns
    ]
    if limit.cost.is_maximum:  # no op above the bound can be taken
        return (row > limit.bound).astype(np.float64), -math.inf, 0.0
    scale = _scale(limit.cost, groups)  # the solver's tolerances fit rows of size 1
    return row / scale, -math.inf, (limit.bound - limit.cost.base) / scale


def _variables(groups: Groups) -> _Variables:
    columns, edges = [], []
    for name, group in groups.items():
        for edge, (_, _, primitives) in enumerate(group.edges):
            visible = [k for k, primitive in enumerate(primitives) if primitive not in group.hidden]
            columns += [(name, edge, column) for column in visible or range(len(primitives))]
            edges += [(name, edge)] if group.keep is not None and primitives else []
    return _Variables(columns, edges)


def _by_edge(variables: _Variables) -> dict[tuple[str, int], list[int]]:
    found: dict[tuple[str, int], list[int]] = {}
    for index, (name, edge, _) in enumerate(variables.columns):
        found.setdefault((name, edge), []).append(index)
    return found


def _structure(
    groups: Groups, variables: _Variables
) -> list[tuple[NDArray[np.float64], float, float]]:
    """Return the constraints (row, lower bound, upper bound) of a genotype.

    A kept edge takes ``pick`` ops, or all it has; a node keeps ``keep`` edges, or all it has.
    """
    constraints = []
    at = {place: len(variables.columns) + index for index, place in enumerate(variables.edges)}
    for (name, edge), places in _by_edge(variables).items():
        row, takes = variables.row(), min(groups[name].pick, len(places))
        row[places] = 1
        if (name, edge) in at:
            row[at[name, edge]] = -takes
        constraints.append(
            (row, 0.0 if (name, edge) in at else takes, 0.0 if (name, edge) in at else takes)
        )
    for name, group in groups.items():
        for incoming in group.nodes().values():
            places = [at[name, edge] for edge in incoming if (name, edge) in at]
            if places and group.keep is not None:
                row, keeps = variables.row(), min(group.keep, len(places))
                row[places] = 1
                constraints.append((row, keeps, keeps))
    return constraints


def _genotype(groups: Groups, chosen: Sequence[tuple[str, int, int]]) -> Genotype:
    """Return the genotype of chosen ops, with links in the order of `select.strongest_genotype`."""
    taken: dict[tuple[str, int], list[int]] = {}
    for name, edge, column in chosen:
        taken.setdefault((name, edge), []).append(column)
    cells = []
    for name, group in groups.items():
        order = [edge for incoming in group.nodes().values() for edge in incoming]
        links = [
            Link(*group.edges[e][:2], group.edges[e].primitives[c])
            for e in order
            for c in taken.get((name, e), [])
        ]
        cells.append(CellGenotype(name, tuple(links), group.concat))
    return Genotype(tuple(cells))


def cheapest(cost: Cost, groups: Groups, limits: Iterable[Limit] = ()) -> Genotype | None:
    """Return the genotype of the lowest cost within limits; None if none is within them."""
    if cost.is_maximum:
        limits = list(limits)
        if _any_within(groups, limits) is None:
            return None
        levels = _levels(cost, groups)
        low = bisect_left(
            levels,
            True,
            key=lambda level: _any_within(groups, [*limits, Limit(cost, level)]) is not None,
        )
        return _any_within(groups, [*limits, Limit(cost, levels[low])])
    scale = _scale(cost, groups)
    return best(
        {name: -rows / scale for name, rows in cost.op_costs(groups).items()}, groups, limits
    )


def most_expensive(cost: Cost, groups: Groups, limits: Iterable[Limit] = ()) -> Genotype | None:
    """Return the genotype of the highest cost within limits; None if none is within them."""
    if cost.is_maximum:
        limits = list(limits)
        for level in reversed(_levels(cost, groups)):
            reaches = {
                name: (rows >= level).double() for name, rows in cost.op_costs(groups).items()
            }
            found = best(reaches, groups, limits)
            if found is None or cost.sum_over_ops(found) >= level:
                return found
    scale = _scale(cost, groups)
    return best(
        {name: rows / scale for name, rows in cost.op_costs(groups).items()}, groups, limits
    )


def _levels(cost: Cost, groups: Groups) -> list[float]:
    """Return the values that a maximum can have, in rising order."""
    rows = cost.op_costs(groups).values()
    return sorted(
        {cost.base, *(max(cost.base, float(x)) for table in rows for x in table.flatten())}
    )


def _any_within(groups: Groups, limits: Iterable[Limit]) -> Genotype | None:
    """Return a genotype within limits; None if none is within them."""
    import torch

    return best(
        {name: torch.zeros(len(g.edges), g.width) for name, g in groups.items()}, groups, limits
    )


def _scale(cost: Cost, groups: Groups) -> float:
    """Return the largest cost of an op, or 1 if all are 0."""
    return (
        max(
            (float(rows.abs().max()) for rows in cost.op_costs(groups).values() if rows.numel()),
            default=1.0,
        )
        or 1.0
    )


def is_feasible(groups: Groups, limits: Limits) -> bool:
    """Return whether any genotype is within all limits."""
    return not limits or _any_within(groups, limits) is not None


def check_feasible(groups: Groups, limits: Limits) -> None:
    """Check that some network is within all limits.

    Args:
        groups: The edge groups of the space.
        limits: The limits.

    Raises:
        ValueError: No network is. The message names the smallest network, or the limits that
            exclude each other.
    """
    for limit in limits:
        if not is_feasible(groups, (limit,)):
            least = cheapest(limit.cost, groups)
            assert least is not None  # without limits there always is one
            has = cost_text(limit.cost_of(least), limit.cost.unit)
            raise ValueError(
                f"budget {limit} is below the smallest network, which has {has}: {least}"
            )
    if not is_feasible(groups, limits):
        first, *others = limits
        least = cheapest(first.cost, groups, others)
        reach = (
            f", where the least is {cost_text(first.cost_of(least), first.cost.unit)}"
            if least
            else ""
        )
        raise ValueError(
            "budgets exclude each other: "
            f"no network has {first} under {' and '.join(map(str, others))}{reach}"
        )
