"""Cost against accuracy: the networks a search saw, and which of them nothing beats in both (the Pareto front)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from archgrad.arch import Genotype
from archgrad.cost import Cost
from archgrad.diagnostics.accuracy import accuracy
from archgrad.limits import Limit, cheapest, dearest
from archgrad.loop import Row
from archgrad.search_method import Method
from archgrad.state import Data, State


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
            found.append(Point(row["genotype"], cost.of(Genotype.parse(row["genotype"])), reached, f"epoch {row['epoch'] + 1}"))
    return found


def of_budgets(method: Method, state: State, data: Data, cost: Cost, count: int, images: int) -> list[Point]:
    """What the last alphas say under ``count`` budgets spread evenly from the smallest network to the largest that the other limits allow,
    each judged on at most ``images`` validation images under batch statistics."""
    groups, others = state.space.groups, tuple(limit for limit in method.limits if limit.cost.name != cost.name)
    least = cheapest(cost, groups, others)
    assert least is not None  # the search kept to its limits
    low, high = cost.added(least), cost.added(dearest(cost, groups))
    mixture, found = method.readout(state), {}
    for k in range(count):
        bound = low + (high - low) * k / max(count - 1, 1)
        genotype = method.select(mixture, groups, (*others, Limit(cost, bound + 1e-9 * abs(bound))))
        found[genotype] = cost.of(genotype)

    def judged(genotype: Genotype) -> float:
        batches = data.evaluation("val", limit=images)
        return accuracy(state.nets["search"], genotype.one_hot(groups), batches, state.seed, "front", batch_statistics=True)[0]

    return [Point(str(genotype), spent, judged(genotype), "end") for genotype, spent in found.items()]


def front(points: Sequence[Point]) -> list[Point]:
    """Those that no other is both cheaper and better than, by rising cost; of equals the first."""
    found: list[Point] = []
    for point in sorted(points, key=lambda one: (one.cost, -one.accuracy)):
        if not found or point.accuracy > found[-1].accuracy:
            found.append(point)
    return found
