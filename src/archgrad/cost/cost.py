"""The cost of a genotype as a number, and of a mixture as a differentiable expectation.

    cost of a genotype = base + sum over its links of the cost of each link

The sum is exact for the parameters and multiply-adds of a network that has all its nodes. It is a
model of other costs (latency, energy). The peak memory of a genotype is the largest of these
numbers and not their sum.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from archgrad.arch.edges import EdgeGroup, Groups
from archgrad.arch.genotype import Genotype
from archgrad.arch.mixture import Mixture
from archgrad.cost.maximum import expected_excess, expected_maximum
from archgrad.errors import unknown_name

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Added = Mapping[str, Mapping[tuple[int, int, str], float]]
"""Group name -> (source, target, primitive) -> cost of that op in all cells of the group."""
NOTHING = "none"


@dataclass(frozen=True, eq=False)  # compared by identity, so that results for a cost are cached
class Cost:
    """The cost of the networks of a space.

    Attributes:
        name: Name of the cost, such as "macs", "params", "latency", "pixel3" or a user's own.
        unit: Unit of the numbers; "" for counts.
        base: Cost of the parts that every derived network has (stem, preprocessing, head).
        ops: Cost of each op.
        exact: Returns the exact cost of a genotype; None if only the sum is known.
        r2: If ``ops`` are fitted, the R2 of `sum_over_ops` on architectures outside the fit.
        is_maximum: Whether the cost is the largest number among ``base`` and the ops of a genotype,
            and not their sum.
    """

    name: str
    unit: str
    base: float
    ops: Added
    exact: Callable[[Genotype], float] | None = None
    r2: float | None = None
    is_maximum: bool = False

    def value_of(self, genotype: Genotype) -> float:
        """Return the cost of a genotype: the exact one if it is known, else `sum_over_ops`."""
        return self.sum_over_ops(genotype) if self.exact is None else self.exact(genotype)

    def sum_over_ops(self, genotype: Genotype) -> float:
        """Return ``base`` plus the cost of each link, or the largest of them if `is_maximum`.

        Raises:
            ValueError: The cost has no number for an op.
        """
        links = [self._op(cell.group, *link) for cell in genotype.cells for link in cell.links]
        if self.is_maximum:
            return max([self.base, *links])
        return self.base + math.fsum(links)

    def op_costs(self, groups: Groups) -> dict[str, Tensor]:
        """Return the cost of each op as tensors.

        Args:
            groups: The edge groups of the space, or of a later stage with fewer ops.

        Returns:
            Group -> float64 (edges, ops) on the CPU, 0 for padding.

        Raises:
            ValueError: The cost has no number for an op.
        """
        return {name: self._table(group) for name, group in groups.items()}

    def _table(self, group: EdgeGroup) -> Tensor:
        import torch

        table = torch.zeros(len(group.edges), group.width, dtype=torch.float64)
        for row, (source, target, primitives) in zip(table, group.edges):
            for column, primitive in enumerate(primitives):
                row[column] = self._op(group.name, source, target, primitive)
        return table

    def _op(self, group: str, source: int, target: int, primitive: str) -> float:
        if group not in self.ops:
            raise unknown_name(f"cell for the cost {self.name!r}", group, self.ops)
        known = self.ops[group]
        if (source, target, primitive) in known:
            return known[source, target, primitive]
        if primitive == NOTHING:
            return 0.0
        here = [name for begin, end, name in known if (begin, end) == (source, target)]
        if here:
            raise unknown_name(
                f"primitive of {group}, edge {source} -> {target}, for the cost {self.name!r}",
                primitive,
                here,
            )
        raise ValueError(
            f"the cost {self.name!r} has no edge {source} -> {target} of {group}: "
            "it belongs to another space"
        )


def expected(cost: Cost, mixture: Mixture, groups: Groups) -> Tensor:
    """Return the expectation of `Cost.sum_over_ops` under a mixture.

        base + sum over edges of  share[edge] * sum over k of  p[edge, k] * cost[edge, k]

    ``p`` are the weights of the ops that can be selected (hidden ones cannot), normalised to sum to
    1 on each edge; weights that are all 0 stay 0. ``share`` is 1 if all edges are kept. If a node
    keeps some of its n edges, each edge has the same probability ``keep / n``. An edge that keeps
    several ops counts that many times. Weights that differ between cells are averaged, as in
    selection; unsearched columns do not count. Each term is the expected latency of FBNet (arXiv
    1812.03443, equation 7).

    The expectation of a maximum takes the edges as independent (`maximum.expected_maximum`).

    Args:
        cost: The cost.
        mixture: The mixture.
        groups: The edge groups of the mixture.

    Returns:
        A scalar in the unit of the cost, differentiable in the weights of the mixture.
    """
    if cost.is_maximum:
        return expected_maximum(cost.base, _odds(cost, mixture, groups))
    return (
        sum(
            (
                _expected(cost, group, mixture.cell(name, None).weights)
                for name, group in groups.items()
            ),
            _zero(mixture),
        )
        + cost.base
    )


def pressure(cost: Cost, bound: float, mixture: Mixture, groups: Groups) -> Tensor:
    """Return the number by which a penalty moves a mixture below a bound, in units of the bound.

    It is `expected`. For a maximum it is the expected excess of each edge, summed over the edges
    (`maximum.expected_excess`). The expected maximum would not do: while two edges exceed the
    bound, neither lowers it alone, so its gradient vanishes.

    Args:
        cost: The cost.
        bound: The bound, above 0.
        mixture: The mixture.
        groups: The edge groups of the mixture.

    Returns:
        A scalar, differentiable in the weights of the mixture.
    """
    if cost.is_maximum:
        return expected_excess(bound, _odds(cost, mixture, groups)) / bound
    return expected(cost, mixture, groups) / bound


def _odds(cost: Cost, mixture: Mixture, groups: Groups) -> list[tuple[Tensor, Tensor]]:
    """Return the probability and the cost of each op; hidden ops have the probability 0."""
    found = []
    for name, group in groups.items():
        weights, total, _, table = _normalisable(cost, group, mixture.cell(name, None).weights)
        found.append((weights / total[:, None], table))
    return found


def _expected(cost: Cost, group: EdgeGroup, weights: Tensor) -> Tensor:
    weights, total, factors, table = _normalisable(cost, group, weights)
    return (factors / total * (weights * table).sum(1)).sum()


def _normalisable(
    cost: Cost, group: EdgeGroup, weights: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the weights of selectable ops, their sum on each edge, factors and costs."""
    import torch

    weights = weights.to(torch.promote_types(weights.dtype, torch.float32))
    selectable, factors, table = _terms(cost, group, weights.device, weights.dtype)
    weights = weights * selectable
    total = weights.sum(1)
    total = torch.where(total == 0, 1, total)
    return weights, total, factors, table


@lru_cache(maxsize=256)
def _terms(
    cost: Cost, group: EdgeGroup, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the parts of `expected` that stay the same in all steps.

    They are 1 for selectable ops (edges, ops), the factor of each edge, and the cost of each op.
    """
    import torch

    selectable = group.mask() & ~group.columns(group.hidden)
    # An edge that has only hidden ops keeps one of them.
    selectable = torch.where(selectable.any(1, keepdim=True), selectable, group.mask())
    factors = shares(group) * selectable.sum(1).clamp(max=group.pick)
    selectable, factors, table = (
        part.to(device, dtype)
        for part in (selectable, factors, cost.op_costs({group.name: group})[group.name])
    )
    return selectable, factors, table


def shares(group: EdgeGroup) -> Tensor:
    """Return the probability that selection keeps each edge, if all edges of a node are equal.

    Args:
        group: The edge group.

    Returns:
        float64 (edges,); 0 for removed edges.
    """
    import torch

    share = torch.zeros(len(group.edges), dtype=torch.float64)
    for incoming in group.nodes().values():
        present = [edge for edge in incoming if group.edges[edge].primitives]
        share[present] = 1.0 if group.keep is None else min(1.0, group.keep / max(1, len(present)))
    return share


def _zero(mixture: Mixture) -> Tensor:
    import torch

    like = next(iter(mixture.weights.values()))
    return like.new_zeros((), dtype=torch.promote_types(like.dtype, torch.float32))


def by_primitive(
    name: str, groups: Groups, primitives: Mapping[str, float], base: float = 0.0, unit: str = ""
) -> Cost:
    """Return a cost with one number for each primitive, the same on every edge.

    Args:
        name: Name of the cost.
        groups: The edge groups of the space.
        primitives: Primitive -> its cost in all cells of a group together. A missing `none` is 0.
        base: Cost of the parts that every network has.
        unit: Unit of the numbers.

    Returns:
        The cost.

    Raises:
        ValueError: A primitive of the space is missing, or the space does not have one of them.
    """
    present = sorted(
        {
            primitive
            for group in groups.values()
            for edge in group.edges
            for primitive in edge.primitives
        }
    )
    for primitive in primitives:
        if primitive not in present:
            raise unknown_name(f"primitive in the cost {name!r}", primitive, present)
    if missing := [
        primitive for primitive in present if primitive not in primitives and primitive != NOTHING
    ]:
        raise ValueError(f"the cost {name!r} has no number for {', '.join(missing)}")
    known = dict(primitives)
    ops = {
        group.name: {
            (source, target, k): known.get(k, 0.0)
            for source, target, names in group.edges
            for k in names
        }
        for group in groups.values()
    }
    return Cost(name, unit, base, ops)


def fitted(
    name: str,
    unit: str,
    groups: Groups,
    function: Callable[[Genotype], float],
    *,
    draw: Callable[..., Genotype],
    samples: int = 512,
    seed: int = 0,
) -> Cost:
    """Return a cost from any function of a genotype, with ``ops`` fitted to random architectures.

    The fit has no unique solution if every node has two links, because a constant can move between
    ``base`` and the ops of a node. It then takes the solution of least norm, which has the same
    sums.

    Args:
        name: Name of the cost.
        unit: Unit of the numbers.
        groups: The edge groups of the space.
        function: Returns the cost of a genotype; it becomes ``exact``.
        draw: ``draw(groups, *place)`` returns a random genotype, such as
            `archgrad.components.select.uniform_genotype`.
        samples: Number of architectures in the fit. A quarter more are drawn for ``r2``.
        seed: Seed of the draw.

    Returns:
        The cost.

    Raises:
        ValueError: There are fewer samples than ops, or a cost is not finite.
    """
    import torch

    drawn = [draw(groups, seed, "cost/fitted", i) for i in range(samples + max(2, samples // 4))]
    values = torch.tensor(
        [_number(name, function(genotype), genotype) for genotype in drawn], dtype=torch.float64
    )
    return least_squares(
        name, unit, groups, drawn, values, held_out=len(drawn) - samples, exact=function
    )


def least_squares(
    name: str,
    unit: str,
    groups: Groups,
    genotypes: list[Genotype],
    values: Tensor,
    *,
    held_out: int = 0,
    exact: Callable[[Genotype], float] | None = None,
) -> Cost:
    """Return a cost whose ``ops`` are fitted to the costs of genotypes, as in `fitted`.

    Args:
        name: Name of the cost.
        unit: Unit of the numbers.
        groups: The edge groups of the space.
        genotypes: n genotypes.
        values: float64 (n,), their costs.
        held_out: Number of genotypes at the end that only ``r2`` is computed on; 0 fits all of
            them, and ``r2`` is computed on all.
        exact: Returns the exact cost of a genotype.

    Returns:
        The cost.

    Raises:
        ValueError: There are fewer samples than ops.
    """
    import torch

    places = {(group.name, *op): i for i, (group, op) in enumerate(_ops(groups), 1)}
    seen = len(genotypes) - held_out
    if seen <= len(places):
        raise ValueError(
            f"the cost {name!r} needs more than {len(places)} samples, one for each op; "
            f"there are {seen}"
        )
    used = [
        (row, places[cell.group, *link])
        for row, genotype in enumerate(genotypes)
        for cell in genotype.cells
        for link in cell.links
        if link.primitive != NOTHING
    ]
    design = torch.zeros(len(genotypes), len(places) + 1, dtype=torch.float64)
    design[:, 0] = 1
    design.index_put_(
        tuple(torch.tensor(used).T), torch.ones((), dtype=torch.float64), accumulate=True
    )
    solution = torch.linalg.lstsq(design[:seen], values[:seen], driver="gelsd").solution
    test = slice(seen, None) if held_out else slice(None)
    found = solution.tolist()
    ops: dict[str, dict[tuple[int, int, str], float]] = {group: {} for group in groups}
    for (group, *op), i in places.items():
        ops[group][tuple(op)] = found[i]  # type: ignore[index]
    return Cost(name, unit, found[0], ops, exact, r_squared(values[test], design[test] @ solution))


def r_squared(values: Tensor, predicted: Tensor) -> float:
    """Return the share of the variance of values that a prediction explains.

    Args:
        values: (n,) values.
        predicted: (n,) predictions.

    Returns:
        R2; 1 if both are constant and equal, 0 if only the values are constant.
    """
    residual, spread = (
        float((values - predicted).square().sum()),
        float((values - values.mean()).square().sum()),
    )
    return 1 - residual / spread if spread > 0 else float(residual == 0)


def _ops(groups: Groups) -> list[tuple[EdgeGroup, tuple[int, int, str]]]:
    """Return all ops except `none`."""
    return [
        (group, (source, target, primitive))
        for group in groups.values()
        for source, target, primitives in group.edges
        for primitive in primitives
        if primitive != NOTHING
    ]


def _number(name: str, value: float, genotype: Genotype) -> float:
    if not math.isfinite(value):
        raise ValueError(
            f"the cost {name!r} is {value!r} for {genotype}: a finite number is needed"
        )
    return float(value)


def bounds_text(bounds: Mapping[str, float]) -> str:
    """Return bounds of counts in the form of a budget option, such as ``macs=300M, params=2M``."""
    return ", ".join(f"{name}={cost_text(bound, '')}" for name, bound in bounds.items())


def cost_text(value: float, unit: str) -> str:
    """Return a cost in the form of a budget option, with four digits.

    Args:
        value: The cost.
        unit: Its unit; "" for a count.

    Returns:
        The text.

    >>> cost_text(12_345_678, ""), cost_text(7.89, "ms")
    ('12.35M', '7.89ms')
    """
    if unit:
        return f"{value:.4g}{unit}"
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{letter}"
    return f"{value:.4g}"
