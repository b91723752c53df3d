"""Cost against accuracy: the networks a search saw, and which of them nothing beats in both (the Pareto front)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from archgrad.arch.edges import Groups
from archgrad.arch.genotype import Genotype
from archgrad.cost.cost import Cost
from archgrad.cost.limits import Limit, cheapest, dearest, fit
from archgrad.diagnostics.accuracy import accuracy
from archgrad.searching.types import Data, Method, State
from archgrad.storage.records import Row


class Point(NamedTuple):
    """``accuracy``: share in [0, 1] of validation images, of the genotype alone in the supernet, its weights as they are there."""

    genotype: str
    cost: float
    accuracy: float
    seen: str  # "epoch 5", or "end": selected from the last alphas under a budget


def of_epochs(rows: Iterable[Row], cost: Cost) -> list[Point]:
    """What was selected at each epoch whose gap was measured (or what was drawn there: random search)."""
    found = []
    for row in rows:
        reached = row.get("draw_accuracy", row.get("discrete_accuracy"))
        if reached is not None:
            found.append(
                Point(
                    row["genotype"],
                    cost.of(Genotype.parse(row["genotype"])),
                    reached,
                    f"epoch {row['epoch'] + 1}",
                )
            )
    return found


def of_end(
    method: Method, state: State, data: Data, found: Genotype, cost: Cost, count: int, images: int
) -> list[Point]:
    """What the search ended with, and what its last alphas say under ``count`` budgets spread evenly from the smallest network to the largest
    that its other limits allow, each judged on at most ``images`` validation images under batch statistics.

    Where something else than the alphas decided (a finalisation), what was found stands alone.
    """
    groups, others = (
        state.space.groups,
        tuple(limit for limit in method.limits if limit.cost.name != cost.name),
    )
    genotypes = {found: None}
    if not state.decisions:
        for bound in spread(
            cheapest(cost, groups, others), dearest(cost, groups, others), cost, count
        ):
            limits = (*others, Limit(cost, bound))
            if fit(groups, limits):
                genotypes[method.selected(state, limits)] = None

    def judged(genotype: Genotype) -> float:
        batches = data.evaluation("val", limit=images)
        return accuracy(
            state.nets["search"],
            genotype.one_hot(groups),
            batches,
            state.seed,
            "front",
            batch_statistics=True,
        )[0]

    return [
        Point(str(one), cost.of(one), judged(one), "end") for one in genotypes if fits(one, groups)
    ]


def spread(least: Genotype | None, most: Genotype | None, cost: Cost, count: int) -> list[float]:
    """``count`` bounds from the cost of one to that of the other, none where there is neither."""
    if least is None or most is None:
        return []
    low, high = cost.of(least), cost.of(most)
    return [(low + (high - low) * k / max(count - 1, 1)) * (1 + 1e-9) for k in range(count)]


def fits(genotype: Genotype, groups: Groups) -> bool:
    """Whether the last supernet has it: a random search ends with that of its last draw, a search in stages with what they left."""
    try:
        genotype.check(groups)
    except ValueError:
        return False
    return True


def front(points: Sequence[Point]) -> list[Point]:
    """Those that no other is both cheaper and better than, by rising cost; of equals the first."""
    found: list[Point] = []
    for point in sorted(points, key=lambda one: (one.cost, -one.accuracy)):
        if not found or point.accuracy > found[-1].accuracy:
            found.append(point)
    return found
