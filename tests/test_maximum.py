"""A cost that is a maximum: its expectation, its penalty, and selection within it, against brute force."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from archgrad.arch.edges import Edge, EdgeGroup
from archgrad.arch.genotype import Genotype
from archgrad.arch.links import CellGenotype, Link
from archgrad.arch.mixture import Mixture
from archgrad.components.select import score, strongest_genotype, uniform_genotype
from archgrad.cost.cost import Cost, expected, pressure
from archgrad.cost.limits import Limit, cheapest, check_feasible, is_feasible, most_expensive
from archgrad.cost.target import Target, limit

OPS = ("a", "b", "c")
GROUPS = {f"l{k}": EdgeGroup(f"l{k}", (Edge(0, 1, OPS),), (1,), hidden=()) for k in range(4)}


def cost(seed, *, is_maximum=True, base=3.0):
    rng = torch.Generator().manual_seed(seed)
    ops = {
        name: {(0, 1, op): float(torch.randint(1, 12, (), generator=rng)) for op in OPS}
        for name in GROUPS
    }
    return Cost("ram" if is_maximum else "macs", "", base, ops, is_maximum=is_maximum)


def mixture(seed):
    rng = torch.Generator().manual_seed(seed)
    return Mixture({name: torch.randn(1, 3, generator=rng).softmax(1) for name in GROUPS})


EVERY = [
    Genotype(tuple(CellGenotype(name, (Link(0, 1, op),), (1,)) for name, op in zip(GROUPS, ops)))
    for ops in product(OPS, repeat=4)
]


def chance(found, mix):
    return torch.stack(
        [
            mix.weights[cell.group][0, OPS.index(link.primitive)]
            for cell in found.cells
            for link in cell.links
        ]
    ).prod()


@pytest.mark.parametrize("seed", range(5))
def test_the_expectation_is_the_mean_over_all_networks(seed):
    one, mix = cost(seed), mixture(seed)
    mean = sum(float(chance(g, mix)) * one.sum_over_ops(g) for g in EVERY)
    assert float(expected(one, mix, GROUPS)) == pytest.approx(mean, rel=1e-5)


def test_the_expectation_of_a_one_hot_mixture_is_the_peak():
    one = cost(0)
    for found in EVERY[::7]:
        assert float(expected(one, found.one_hot(GROUPS), GROUPS)) == one.sum_over_ops(found)


def test_the_expectation_without_any_weight_is_the_base():
    assert float(expected(cost(0), Mixture({n: torch.zeros(1, 3) for n in GROUPS}), GROUPS)) == 3.0


def test_the_pressure_is_the_excess_of_each_edge_and_moves_each_of_them():
    ops = {name: {(0, 1, "a"): 10.0, (0, 1, "b"): 5.0, (0, 1, "c"): 2.0} for name in GROUPS}
    one = Cost("ram", "", 1.0, ops, is_maximum=True)
    rows = {name: torch.full((1, 3), 1 / 3, requires_grad=True) for name in GROUPS}
    value = pressure(one, 4.0, Mixture(rows), GROUPS)
    assert value.item() == pytest.approx(4 * ((10 - 4) + (5 - 4)) / 3 / 4)
    value.backward()
    for row in rows.values():
        assert row.grad[0, 0] > row.grad[0, 1] > row.grad[0, 2]
    # Within the bound nothing is asked.
    assert float(pressure(one, 10.0, Mixture(rows), GROUPS)) == 0


def test_the_pressure_of_a_sum_is_its_expectation_over_the_bound():
    one, mix = cost(1, is_maximum=False), mixture(1)
    assert torch.equal(pressure(one, 7.0, mix, GROUPS), expected(one, mix, GROUPS) / 7.0)


def test_the_pressure_has_a_right_gradient():
    one = cost(2)

    def of(*rows):
        return pressure(one, 5.0, Mixture(dict(zip(GROUPS, rows))), GROUPS)

    rows = [w.double().requires_grad_() for w in mixture(2).weights.values()]
    assert torch.autograd.gradcheck(of, rows)


@pytest.mark.parametrize("seed", range(6))
def test_selection_under_a_maximum_and_a_sum_is_the_best_of_all(seed):
    ram, macs, mix = cost(seed), cost(seed + 50, is_maximum=False), mixture(seed)
    for share, other in product((0.5, 0.7, 1.0), (0.5, 0.8)):
        limits = (
            Limit(ram, share * max(map(ram.sum_over_ops, EVERY))),
            Limit(macs, other * max(map(macs.sum_over_ops, EVERY))),
        )
        fitting = [g for g in EVERY if all(one.allows(g) for one in limits)]
        assert is_feasible(GROUPS, limits) == bool(fitting)
        if fitting:
            found = strongest_genotype(mix, GROUPS, limits)
            best = max(score(g, mix, GROUPS) for g in fitting)
            assert all(one.allows(found) for one in limits)
            assert score(found, mix, GROUPS) == pytest.approx(best)
            for pick, choose in ((cheapest, min), (most_expensive, max)):
                assert ram.sum_over_ops(pick(ram, GROUPS, limits)) == choose(
                    map(ram.sum_over_ops, fitting)
                )
        else:
            assert cheapest(ram, GROUPS, limits) is most_expensive(ram, GROUPS, limits) is None


def test_a_draw_keeps_to_the_bound():
    one = cost(3)
    bound = Limit(one, cheapest_peak(one))
    for seed in range(20):
        assert bound.allows(uniform_genotype(GROUPS, seed, limits=(bound,)))


def cheapest_peak(one):
    return min(map(one.sum_over_ops, EVERY))


def test_a_budget_reads_bytes_and_shares():
    one = cost(4)
    assert limit(Target.parse("ram=0.25k"), one, GROUPS).bound == 250
    assert (
        limit(Target.parse("ram=50%"), one, GROUPS).bound == max(map(one.sum_over_ops, EVERY)) / 2
    )


def test_a_budget_below_the_smallest_network_or_the_fixed_part_is_refused():
    one = cost(5)
    low = cheapest_peak(one)
    with pytest.raises(
        ValueError,
        match=rf"budget ram={low / 2:g} is below the smallest network, which has {low:g}",
    ):
        check_feasible(GROUPS, (Limit(one, low / 2),))
    heavy = cost(5, base=100.0)
    with pytest.raises(
        ValueError, match="budget ram=99 is below the smallest network, which has 100"
    ):
        check_feasible(GROUPS, (Limit(heavy, 99.0),))
    check_feasible(GROUPS, (Limit(heavy, 100.0),))
