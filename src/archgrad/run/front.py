"""The Pareto front of cost and accuracy over the networks that a search saw.

No other network of these is both cheaper and better than one of the front.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from archgrad.arch.edges import Groups
from archgrad.arch.genotype import Genotype
from archgrad.cost.cost import Cost
from archgrad.cost.limits import Limit, cheapest, is_feasible, most_expensive
from archgrad.diagnostics.accuracy import accuracy
from archgrad.searching.types import Method, SearchData, State
from archgrad.storage.records import Row


class Point(NamedTuple):
    """A network that a search saw.

    Attributes:
        genotype: The genotype as text.
        cost: Its cost.
        accuracy: The share in [0, 1] of validation images on which the genotype is right, alone in
            the supernet and with the supernet's weights.
        seen: ``epoch 5``, or ``end`` if the last alphas select it under a budget.
    """

    genotype: str
    cost: float
    accuracy: float
    seen: str


def of_epochs(rows: Iterable[Row], cost: Cost) -> list[Point]:
    """Return the selected networks of the epochs whose gap was measured.

    In a random search these are the draws of the epochs.
    """
    found = []
    for row in rows:
        reached = row.get("draw_accuracy", row.get("discrete_accuracy"))
        if reached is not None:
            found.append(
                Point(
                    row["genotype"],
                    cost.value_of(Genotype.parse(row["genotype"])),
                    reached,
                    f"epoch {row['epoch'] + 1}",
                )
            )
    return found


def of_end(
    method: Method,
    state: State,
    data: SearchData,
    found: Genotype,
    cost: Cost,
    count: int,
    images: int,
) -> list[Point]:
    """Return the result of a search, and the networks that its last alphas select under budgets.

    The budgets are spread evenly from the smallest to the largest network that the other limits
    allow. If decisions after the epochs selected the result, it stands alone.

    Args:
        method: The method of the search.
        state: Its last state.
        data: Its images.
        found: Its result.
        cost: The cost of the front.
        count: The number of budgets.
        images: The largest number of validation images on which each network is evaluated, with
            the batch statistics of BatchNorm.
    """
    groups, others = (
        state.space.groups,
        tuple(limit for limit in method.limits if limit.cost.name != cost.name),
    )
    genotypes = {found: None}  # a dict, because it keeps the order and each network once
    if not state.decisions:
        for bound in spread(
            cheapest(cost, groups, others), most_expensive(cost, groups, others), cost, count
        ):
            limits = (*others, Limit(cost, bound))
            if is_feasible(groups, limits):
                genotypes[method.selected_genotype(state, limits)] = None

    def measured(genotype: Genotype) -> float:
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
        Point(str(one), cost.value_of(one), measured(one), "end")
        for one in genotypes
        if fits(one, groups)
    ]


def spread(least: Genotype | None, most: Genotype | None, cost: Cost, count: int) -> list[float]:
    """Return ``count`` bounds from the cost of one network to that of the other.

    There are none if one of the networks is None.
    """
    if least is None or most is None:
        return []
    low, high = cost.value_of(least), cost.value_of(most)
    return [(low + (high - low) * k / max(count - 1, 1)) * (1 + 1e-9) for k in range(count)]


def fits(genotype: Genotype, groups: Groups) -> bool:
    """Return whether the last supernet contains a network.

    A random search ends with the supernet of its last draw, and a search in stages with a smaller
    one.
    """
    try:
        genotype.check(groups)
    except ValueError:
        return False
    return True


def front(points: Sequence[Point]) -> list[Point]:
    """Return the points of the Pareto front by rising cost. Of equal points the first one stays."""
    found: list[Point] = []
    for point in sorted(points, key=lambda one: (one.cost, -one.accuracy)):
        if not found or point.accuracy > found[-1].accuracy:
            found.append(point)
    return found
