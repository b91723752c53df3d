"""Costs by hand, by brute force over a small space, and by finite differences in float64."""

from __future__ import annotations

from itertools import combinations, product

import pytest
import torch

from archgrad import spaces
from archgrad.arch.edges import Edge, EdgeGroup, groups_of
from archgrad.arch.genotype import Genotype
from archgrad.arch.links import CellGenotype, Link
from archgrad.arch.mixture import Mixture
from archgrad.components.select import uniform_genotype
from archgrad.cost.cost import Cost, by_primitive, expected, fitted, shares

NAMES = ("none", "skip_connect", "sep_conv_3x3")
SMALL = groups_of(
    [
        EdgeGroup(
            "normal", tuple(Edge(s, t, NAMES) for t in (2, 3) for s in range(t)), (2, 3), keep=2
        )
    ]
)
"""Node 2 reads 0 and 1, node 3 reads two of 0, 1 and 2."""
RANDOM = torch.rand(5, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
ADDED = {
    (s, t, k): float(RANDOM[e, i])
    for e, (s, t, _) in enumerate(SMALL["normal"].edges)
    for i, k in enumerate(NAMES)
}
COST = Cost("energy", "mJ", 7.0, {"normal": ADDED})


def genotypes() -> list[Genotype]:
    """All 2 * 2 * (3 * 2 * 2) of the small space."""
    pairs = [(s, k) for s in range(3) for k in NAMES[1:]]
    third = [pair for pair in combinations(pairs, 2) if pair[0][0] != pair[1][0]]
    return [
        Genotype(
            (
                CellGenotype(
                    "normal",
                    (Link(0, 2, a), Link(1, 2, b), *(Link(s, 3, k) for s, k in rest)),
                    (2, 3),
                ),
            )
        )
        for a, b, rest in product(NAMES[1:], NAMES[1:], third)
    ]


def softmax(seed: int) -> Mixture:
    draw = torch.randn(5, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return Mixture({"normal": draw.softmax(1)})


def test_a_genotype_costs_its_base_and_its_links():
    genotype = Genotype(
        (CellGenotype("normal", (Link(0, 2, "skip_connect"), Link(2, 3, "sep_conv_3x3")), (2, 3)),)
    )
    assert (
        COST.value_of(genotype)
        == COST.sum_over_ops(genotype)
        == pytest.approx(7.0 + float(RANDOM[0, 1] + RANDOM[4, 2]))
    )
    assert Cost("energy", "mJ", 7.0, COST.ops, exact=lambda one: 3.5).value_of(genotype) == 3.5


def test_uniform_weights_expect_the_mean_over_all_genotypes():
    everywhere = Mixture({"normal": torch.full((5, 3), 1 / 3, dtype=torch.float64)})
    every = [COST.sum_over_ops(genotype) for genotype in genotypes()]
    assert len(every) == 48
    assert float(expected(COST, everywhere, SMALL)) == pytest.approx(
        sum(every) / len(every), rel=1e-12
    )


def test_any_weights_expect_the_mean_over_draws_from_them():
    mixture = softmax(3)
    chances = mixture.weights["normal"][:, 1:] / mixture.weights["normal"][:, 1:].sum(
        1, keepdim=True
    )
    at = {(edge.source, edge.target): e for e, edge in enumerate(SMALL["normal"].edges)}
    mean = 0.0
    for genotype in genotypes():
        chance = 1 / 3  # of the pair of edges into node 3
        for source, target, primitive in genotype.cells[0].links:
            chance *= float(chances[at[source, target], NAMES.index(primitive) - 1])
        mean += chance * COST.sum_over_ops(genotype)
    assert float(expected(COST, mixture, SMALL)) == pytest.approx(mean, rel=1e-12)


def test_the_expected_cost_of_a_pruned_space_is_its_only_genotypes():
    for genotype in genotypes()[::5]:
        edges = tuple(
            Edge(edge.source, edge.target, names)
            for edge, names in zip(SMALL["normal"].edges, genotype.primitives(SMALL)["normal"])
        )
        groups = groups_of([EdgeGroup("normal", edges, (2, 3), keep=2)])
        one = Mixture({"normal": torch.ones(5, 1, dtype=torch.float64)})
        assert float(expected(COST, one, groups)) == pytest.approx(
            COST.sum_over_ops(genotype), rel=1e-12
        )


def test_the_gradient_equals_finite_differences():
    per_cell = torch.stack([softmax(seed).weights["normal"] for seed in (1, 2)])
    for weights in (softmax(5).weights["normal"], per_cell):
        assert torch.autograd.gradcheck(
            lambda w: expected(COST, Mixture({"normal": w}), SMALL), weights.requires_grad_()
        )


def test_cells_that_differ_are_averaged_and_unsearched_columns_do_not_count():
    one, two = softmax(1).weights["normal"], softmax(2).weights["normal"]
    mean = expected(COST, Mixture({"normal": (one + two) / 2}), SMALL)
    mixture = Mixture(
        {"normal": torch.stack([one, two])}, extras={"normal": torch.full((5, 1), 9.0)}
    )
    assert float(expected(COST, mixture, SMALL)) == pytest.approx(float(mean), rel=1e-12)


def test_weights_of_zero_on_all_that_can_be_selected_cost_nothing_and_keep_a_finite_gradient():
    weights = torch.tensor([[1.0, 0.0, 0.0]] * 5, requires_grad=True)
    value = expected(COST, Mixture({"normal": weights}), SMALL)
    value.backward()
    assert value.item() == 7.0 and weights.grad.isfinite().all()


def test_an_edge_of_hidden_ops_alone_counts_as_one_of_them():
    groups = groups_of(
        [EdgeGroup("normal", (Edge(0, 2, ("none",)), Edge(1, 2, NAMES), Edge(1, 3, ())), keep=1)]
    )
    assert shares(groups["normal"]).tolist() == [0.5, 0.5, 0.0]
    cost = by_primitive("t", groups, {"none": 4.0, "skip_connect": 2.0, "sep_conv_3x3": 2.0})
    assert float(expected(cost, Mixture({"normal": torch.ones(3, 3)}), groups)) == pytest.approx(
        0.5 * 4 + 0.5 * 2
    )


def test_edges_that_keep_several_ops_count_them_all():
    groups = groups_of([EdgeGroup("normal", (Edge(0, 2, NAMES),), pick=2)])
    cost = by_primitive("t", groups, {"skip_connect": 2.0, "sep_conv_3x3": 5.0}, base=1.0)
    assert float(expected(cost, Mixture({"normal": torch.ones(1, 3)}), groups)) == 8.0


def test_what_a_cost_does_not_know_is_refused_by_name():
    with pytest.raises(
        ValueError,
        match="edge 0 -> 2, for the cost 'energy' 'sep_conv_5x5': did you mean 'sep_conv_3x3'",
    ):
        COST.op_costs(groups_of([EdgeGroup("normal", (Edge(0, 2, ("sep_conv_5x5",)),))]))
    with pytest.raises(ValueError, match="has no edge 0 -> 4 of normal"):
        COST.op_costs(groups_of([EdgeGroup("normal", (Edge(0, 4, ("skip_connect",)),))]))
    with pytest.raises(ValueError, match="unknown cell for the cost 'energy' 'reduce'"):
        COST.op_costs(groups_of([EdgeGroup("reduce", (Edge(0, 2, NAMES),))]))
    with pytest.raises(ValueError, match="has no number for sep_conv_3x3"):
        by_primitive("t", SMALL, {"skip_connect": 0.0})
    with pytest.raises(
        ValueError,
        match="unknown primitive in the cost 't' 'skip_conect': did you mean 'skip_connect'",
    ):
        by_primitive("t", SMALL, {"skip_conect": 0.0, "sep_conv_3x3": 1.0})


def test_a_fit_of_an_additive_function_is_that_function():
    groups = spaces.space("nasbench201").groups
    truth = by_primitive(
        "t",
        groups,
        {"skip_connect": 1.0, "nor_conv_1x1": 3.0, "nor_conv_3x3": 9.0, "avg_pool_3x3": 2.0},
        base=5.0,
    )
    found = fitted("f", "", groups, truth.sum_over_ops, draw=uniform_genotype, samples=100)
    assert found.base == pytest.approx(5.0) and found.r2 == pytest.approx(1.0)
    assert torch.allclose(found.op_costs(groups)["cell"], truth.op_costs(groups)["cell"])


def test_a_fit_keeps_the_function_and_says_how_far_its_sums_are_from_it():
    groups = spaces.space("nasbench201").groups
    size = by_primitive(
        "t",
        groups,
        {"skip_connect": 0.0, "nor_conv_1x1": 1.0, "nor_conv_3x3": 9.0, "avg_pool_3x3": 0.0},
    )
    found = fitted(
        "square",
        "",
        groups,
        lambda genotype: size.sum_over_ops(genotype) ** 2,
        draw=uniform_genotype,
        samples=200,
    )
    assert 0.8 < found.r2 < 0.99
    genotype = uniform_genotype(groups, 9)
    assert (
        found.value_of(genotype) == size.sum_over_ops(genotype) ** 2 != found.sum_over_ops(genotype)
    )


def test_a_fit_of_darts_cells_predicts_though_its_sums_have_a_freedom():
    truth = Cost("energy", "", 7.0, COST.ops)
    found = fitted("f", "", SMALL, truth.sum_over_ops, draw=uniform_genotype, samples=100)
    for genotype in genotypes():
        assert found.sum_over_ops(genotype) == pytest.approx(truth.sum_over_ops(genotype))
    assert float(expected(found, softmax(1), SMALL)) == pytest.approx(
        float(expected(truth, softmax(1), SMALL))
    )


def test_too_few_samples_and_numbers_that_are_none_are_refused():
    groups = spaces.space("nasbench201").groups
    with pytest.raises(
        ValueError, match="needs more than 24 samples, one for each op; there are 24"
    ):
        fitted("f", "", groups, lambda genotype: 1.0, draw=uniform_genotype, samples=24)
    with pytest.raises(ValueError, match="the cost 'f' is nan for"):
        fitted("f", "", groups, lambda genotype: float("nan"), draw=uniform_genotype)
