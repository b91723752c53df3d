"""The best selection within limits, against brute force over whole spaces."""

from __future__ import annotations

from itertools import product
from zlib import crc32

import pytest
import torch

from archgrad.arch.edges import Edge, EdgeGroup
from archgrad.arch.genotype import Genotype
from archgrad.arch.links import CellGenotype, Link
from archgrad.arch.mixture import Mixture
from archgrad.components.select import score, strongest_genotype, uniform_genotype
from archgrad.cost.cost import Cost, cost_text
from archgrad.cost.limits import Limit, cheapest, check_feasible, is_feasible, most_expensive

OPS = ("none", "skip_connect", "sep_conv_3x3", "sep_conv_5x5")
CHAIN = {f"layer{k}": EdgeGroup(f"layer{k}", (Edge(0, 1, OPS),), (1,), hidden=()) for k in range(4)}
CELL = {
    "normal": EdgeGroup(
        "normal",
        tuple(Edge(s, t, OPS[: 4 - (s == 0)]) for t in (2, 3, 4) for s in range(t)),
        (2, 3, 4),
        keep=2,
    )
}


def cost(groups, name="macs", seed=0, base=7.0, scale=1.0):
    rng = torch.Generator().manual_seed(seed)
    ops = {
        n: {
            (*e[:2], p): scale * float(torch.rand((), generator=rng))
            for e in g.edges
            for p in e.primitives
        }
        for n, g in groups.items()
    }
    return Cost(name, "", scale * base, ops)


def random_mixture(groups, seed):
    rng = torch.Generator().manual_seed(seed)
    return Mixture(
        {
            n: torch.randn(len(g.edges), g.width, generator=rng)
            .masked_fill(~g.mask(), -99)
            .softmax(1)
            for n, g in groups.items()
        }
    )


def every(groups):
    """All genotypes, written out without the code under test."""
    per_group = []
    for name, group in groups.items():
        per_node = []
        for edges in group.nodes().values():
            takes = len(edges) if group.keep is None else group.keep
            choices = []
            for which in product((False, True), repeat=len(edges)):
                if sum(which) == takes:
                    kept = [group.edges[e] for e, yes in zip(edges, which) if yes]
                    choices += list(
                        product(
                            *(
                                [
                                    Link(e.source, e.target, p)
                                    for p in e.primitives
                                    if p not in group.hidden
                                ]
                                for e in kept
                            )
                        )
                    )
            per_node.append(choices)
        per_group.append(
            [
                CellGenotype(name, tuple(link for node in nodes for link in node), group.concat)
                for nodes in product(*per_node)
            ]
        )
    return [Genotype(cells) for cells in product(*per_group)]


def between(values, share):
    return min(values) + share * (max(values) - min(values))


@pytest.mark.parametrize(("groups", "count"), [(CHAIN, 4**4), (CELL, 6 * 21 * 45)])
@pytest.mark.parametrize("scale", [1.0, 1e8])
def test_the_best_within_limits_is_that_of_brute_force(groups, count, scale):
    everything = every(groups)
    assert len(everything) == count
    one, other = cost(groups, scale=scale), cost(groups, "params", seed=1, scale=scale)
    mixture = random_mixture(groups, 3)
    values = {
        name: [c.sum_over_ops(g) for g in everything]
        for name, c in (("macs", one), ("params", other))
    }
    scores = [score(g, mixture, groups) for g in everything]
    last = -float("inf")
    for share in (0.05, 0.3, 0.6, 1.0):
        limits = (
            Limit(one, between(values["macs"], share)),
            Limit(other, between(values["params"], max(share, 0.4))),
        )
        within = [
            s
            for g, s in zip(everything, scores)
            if all(limit.cost.sum_over_ops(g) <= limit.bound for limit in limits)
        ]
        assert is_feasible(groups, limits) == bool(within)
        if not within:
            continue
        found = strongest_genotype(mixture, groups, limits)
        assert all(limit.allows(found) for limit in limits)
        assert score(found, mixture, groups) == pytest.approx(max(within), abs=1e-9)
        assert (
            score(found, mixture, groups) >= last - 1e-9
        )  # a larger budget never has a smaller score
        last = score(found, mixture, groups)
    assert strongest_genotype(mixture, groups, limits) == strongest_genotype(mixture, groups)
    assert one.sum_over_ops(cheapest(one, groups)) == pytest.approx(min(values["macs"]))
    assert one.sum_over_ops(most_expensive(one, groups)) == pytest.approx(max(values["macs"]))


def test_a_fitted_cost_is_held_by_its_exact_number():
    guide = cost(CHAIN)
    exact = Cost(
        "energy",
        "mJ",
        guide.base,
        guide.ops,
        exact=lambda g: guide.sum_over_ops(g) + 0.3 * (crc32(str(g).encode()) % 7 == 0),
        r2=0.9,
    )
    mixture = random_mixture(CHAIN, 5)
    limit = Limit(exact, guide.sum_over_ops(strongest_genotype(mixture, CHAIN)) - 0.2)
    assert exact.value_of(strongest_genotype(mixture, CHAIN, (limit,))) <= limit.bound


def test_draws_keep_to_limits():
    c = cost(CHAIN)
    numbers = sorted(c.sum_over_ops(g) for g in every(CHAIN))
    loose, tight = Limit(c, numbers[len(numbers) // 2]), Limit(c, numbers[0])
    draws = [uniform_genotype(CHAIN, seed, limits=(loose,)) for seed in range(40)]
    assert all(loose.allows(g) for g in draws) and len({str(g) for g in draws}) > 20
    assert uniform_genotype(CHAIN, 1, limits=(Limit(c, numbers[-1]),)) == uniform_genotype(
        CHAIN, 1
    )  # a limit that excludes nothing changes no draw
    assert c.sum_over_ops(uniform_genotype(CHAIN, 1, limits=(tight,))) == pytest.approx(numbers[0])


def test_impossible_budgets_are_refused():
    c, other = cost(CHAIN), cost(CHAIN, "params", seed=1)
    least = cheapest(c, CHAIN)
    with pytest.raises(
        ValueError,
        match=rf"budget macs=1 is below the smallest network, which has {cost_text(c.sum_over_ops(least), '')}: ",
    ):
        check_feasible(CHAIN, (Limit(c, 1.0),))
    both = (
        Limit(c, c.sum_over_ops(least) + 1e-6),
        Limit(other, other.sum_over_ops(cheapest(other, CHAIN)) + 1e-6),
    )
    with pytest.raises(
        ValueError,
        match=r"budgets exclude each other: no network has macs=.* under params=.*, where the least is",
    ):
        check_feasible(CHAIN, both)
    check_feasible(CHAIN, both[:1])
    with pytest.raises(ValueError, match="no network that can still be selected keeps to macs=1"):
        strongest_genotype(random_mixture(CHAIN, 0), CHAIN, (Limit(c, 1.0),))


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (3e8, "", "300M"),
        (1.2341e4, "", "12.34k"),
        (15.0, "ms", "15ms"),
        (12, "", "12"),
        (4e9, "", "4G"),
    ],
)
def test_costs_are_written_as_a_budget_option_is_typed(value, unit, text):
    assert cost_text(value, unit) == text
