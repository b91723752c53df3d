"""What a network costs, as a value: for any genotype a number, for a mixture an expectation that alphas can follow.

    cost of a genotype  =  base + sum over its links of what each adds

That is exact for parameters and multiply-adds of a network that has all its nodes, and a model of anything else (latency, energy).
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
from archgrad.errors import unknown

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Added = Mapping[str, Mapping[tuple[int, int, str], float]]
"""Group name -> (source, target, primitive) -> what that op adds, in all cells of the group together."""
NOTHING = "none"


@dataclass(frozen=True, eq=False)  # by identity, so that what follows from one is worked out once
class Cost:
    """What a network of a space costs: ``base``, and what each op adds; ``exact`` where a genotype's own number is known.

    ``unit``: "" for counts. ``r2``: where ``ops`` are fitted, the R2 of `added` on architectures that the fit has not seen.
    """

    name: str  # "macs", "params", "latency", "pixel3", or the user's
    unit: str
    base: float  # what every derived network has: stem, preprocessing, head
    ops: Added
    exact: Callable[[Genotype], float] | None = None
    r2: float | None = None

    def of(self, genotype: Genotype) -> float:
        """The number of a genotype: the exact one where it is known, else `added`."""
        return self.added(genotype) if self.exact is None else self.exact(genotype)

    def added(self, genotype: Genotype) -> float:
        """``base`` and what each link adds. ValueError names an op this cost does not know."""
        return self.base + math.fsum(
            self._op(cell.group, *link) for cell in genotype.cells for link in cell.links
        )

    def on(self, groups: Groups) -> dict[str, Tensor]:
        """Group -> float64 (edges, ops) on the host, 0 for padding; ``groups`` may be pruned. ValueError names an op not known."""
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
            raise unknown(f"cell for the cost {self.name!r}", group, self.ops)
        known = self.ops[group]
        if (source, target, primitive) in known:
            return known[source, target, primitive]
        if primitive == NOTHING:
            return 0.0
        here = [name for begin, end, name in known if (begin, end) == (source, target)]
        if here:
            raise unknown(
                f"primitive of {group}, edge {source} -> {target}, for the cost {self.name!r}",
                primitive,
                here,
            )
        raise ValueError(
            f"the cost {self.name!r} knows no edge {source} -> {target} of {group}: it is of another space"
        )


def expected(cost: Cost, mixture: Mixture, groups: Groups) -> Tensor:
    """The expectation of `Cost.added`, a scalar that is differentiable in the mixture's weights:

        base + sum over edges of  share[edge] * sum over k of  p[edge, k] * cost[edge, k]

    ``p`` are the weights of the ops that can be selected (hidden ones never are), made to sum to 1 on each edge (where all are 0 they stay
    so). ``share`` is 1 where all edges are kept; where a node keeps some of its n edges, each
    is taken as equally likely, ``keep / n``. Where an edge keeps several ops, each counts as often. Cells that differ are averaged, as
    selection does; unsearched columns do not count. Each term is FBNet's expected latency (arXiv 1812.03443, equation 7).
    """
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


def _expected(cost: Cost, group: EdgeGroup, weights: Tensor) -> Tensor:
    import torch

    weights = weights.to(torch.promote_types(weights.dtype, torch.float32))
    selectable, factors, table = _terms(cost, group, weights.device, weights.dtype)
    weights = weights * selectable
    total = weights.sum(1)
    total = torch.where(total == 0, 1, total)
    return (factors / total * (weights * table).sum(1)).sum()


@lru_cache(maxsize=256)
def _terms(
    cost: Cost, group: EdgeGroup, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """What stays the same from step to step: 1 for the ops that count (edges, ops), the factor of each edge, what each op adds."""
    import torch

    selectable = group.mask() & ~group.columns(group.hidden)
    selectable = torch.where(
        selectable.any(1, keepdim=True), selectable, group.mask()
    )  # an edge of hidden ops alone keeps one of them
    factors = shares(group) * selectable.sum(1).clamp(max=group.pick)
    selectable, factors, table = (
        part.to(device, dtype)
        for part in (selectable, factors, cost.on({group.name: group})[group.name])
    )
    return selectable, factors, table


def shares(group: EdgeGroup) -> Tensor:
    """float64 (edges,): how likely each edge is kept if all of its node are equally likely; removed edges are not kept."""
    import torch

    share = torch.zeros(len(group.edges), dtype=torch.float64)
    for incoming in group.nodes().values():
        there = [edge for edge in incoming if group.edges[edge].primitives]
        share[there] = 1.0 if group.keep is None else min(1.0, group.keep / max(1, len(there)))
    return share


def _zero(mixture: Mixture) -> Tensor:
    import torch

    like = next(iter(mixture.weights.values()))
    return like.new_zeros((), dtype=torch.promote_types(like.dtype, torch.float32))


def by_primitive(
    name: str, groups: Groups, primitives: Mapping[str, float], base: float = 0.0, unit: str = ""
) -> Cost:
    """A cost by primitive, the same on every edge and for all cells of a group together. ValueError where ``primitives`` lacks one of
    the space's, or has one that it does not have; `none` adds nothing unless it is named."""
    there = sorted(
        {
            primitive
            for group in groups.values()
            for edge in group.edges
            for primitive in edge.primitives
        }
    )
    for primitive in primitives:
        if primitive not in there:
            raise unknown(f"primitive in the cost {name!r}", primitive, there)
    if missing := [
        primitive for primitive in there if primitive not in primitives and primitive != NOTHING
    ]:
        raise ValueError(f"the cost {name!r} says nothing of {', '.join(missing)}")
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
    """The cost of any ``function`` of a genotype: that function is ``exact``, ``ops`` are its least squares on random architectures.

    ``draw(groups, *place)`` draws one (`archgrad.components.select.uniform`). A quarter more than ``samples`` are drawn, which ``r2`` is of. Where the
    fit leaves a freedom (every node has two links, so ``base`` and all of its ops may move against each other) it takes the solution of
    least norm: sums are what is fitted. ValueError for fewer samples than ops, or a number that is not finite.
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
    """``values`` float64 (n,) of ``genotypes``, fitted as in `fitted`; the last ``held_out`` of them are what ``r2`` is of (0: all)."""
    import torch

    places = {(group.name, *op): i for i, (group, op) in enumerate(_ops(groups), 1)}
    seen = len(genotypes) - held_out
    if seen <= len(places):
        raise ValueError(
            f"the cost {name!r} needs more than {len(places)} samples, one for each op; there are {seen}"
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
    """The share of the values' variance that a prediction explains; 1 where both are constant and equal."""
    residual, spread = (
        float((values - predicted).square().sum()),
        float((values - values.mean()).square().sum()),
    )
    return 1 - residual / spread if spread > 0 else float(residual == 0)


def _ops(groups: Groups) -> list[tuple[EdgeGroup, tuple[int, int, str]]]:
    """Every op that adds something."""
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


def spelled(bounds: Mapping[str, float]) -> str:
    """``macs=300M, params=2M``: bounds of counts, as a budget is typed."""
    return ", ".join(f"{name}={written(bound, '')}" for name, bound in bounds.items())


def written(value: float, unit: str) -> str:
    """``12.3M``, ``4.56k``, ``7.89ms``: four digits, and so that a budget can be typed from it."""
    if unit:
        return f"{value:.4g}{unit}"
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{letter}"
    return f"{value:.4g}"
