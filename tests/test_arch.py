from __future__ import annotations

import pytest
import torch

from archgrad.arch.edges import Edge, EdgeGroup
from archgrad.arch.genotype import Genotype
from archgrad.arch.links import CellGenotype, Link
from archgrad.arch.mixture import Mixture
from archgrad.components.context import Context, Progress
from archgrad.components.relax import softmax
from archgrad.components.schedules import (
    cosine,
    epoch_at_share,
    exact_epoch,
    geometric,
    linear,
    never,
)
from archgrad.diagnostics.entropy import mean_entropy
from archgrad.seeds import place_seed, seeded

GROUP = EdgeGroup(
    "g",
    (Edge(0, 1, ("a", "b", "c")), Edge(0, 2, ("a",)), Edge(1, 2, ())),
    concat=(2,),
    keep=1,
    least=1,
)
GROUPS = {"g": GROUP}


def genotype(*links, concat=(2,)):
    return Genotype((CellGenotype("g", tuple(Link(*link) for link in links), concat),))


def context(t=None, groups=GROUPS, phase="alpha"):
    return Context(groups, t, phase, {}, 3)


def test_group_knows_its_shape():
    assert GROUP.width == 3 and GROUP.nodes() == {1: [0], 2: [1, 2]}
    assert GROUP.mask().tolist() == [
        [True, True, True],
        [True, False, False],
        [False, False, False],
    ]


def test_softmax_of_ragged_edges_has_no_nan_in_value_or_gradient():
    a = torch.tensor([[1.0, 2.0, 3.0], [5.0, 7.0, 9.0], [1.0, 1.0, 1.0]], requires_grad=True)
    p = softmax({"g": a}, context()).weights["g"]
    torch.testing.assert_close(p[0], a[0].softmax(0))
    assert p[1].tolist() == [1, 0, 0] and p[2].tolist() == [0, 0, 0]
    (p * torch.arange(9.0).view(3, 3)).sum().backward()
    assert (
        torch.isfinite(a.grad).all()
        and a.grad[2].abs().sum() == 0
        and a.grad[1, 1:].abs().sum() == 0
    )


def test_entropy_of_uniform_is_ln_n_and_of_one_op_is_zero():
    mixture = softmax({"g": torch.zeros(3, 3)}, context())
    assert mean_entropy(mixture, GROUPS) == pytest.approx(
        torch.log(torch.tensor(3.0)).item() / 2, abs=1e-6
    )
    assert mean_entropy(Mixture({"g": torch.zeros(3, 3)}), GROUPS) == 0.0


def test_cell_is_the_only_place_that_knows_shapes():
    weights = torch.arange(18.0).view(2, 3, 3)
    mixture = Mixture({"g": weights}, {"g": torch.eye(3, dtype=torch.bool)})
    assert torch.equal(mixture.cell("g", 1).weights, weights[1]) and mixture.cell("g", 1).active[
        0
    ] == [True, False, False]
    assert torch.equal(mixture.cell("g", None).weights, weights.mean(0))
    assert not mixture.map(lambda w: w + 1).detach().weights["g"].requires_grad


def test_one_hot_and_primitives():
    g = genotype((0, 1, "b"), (0, 2, "a"))
    mixture = g.one_hot(GROUPS)
    assert (
        mixture.weights["g"].tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 0]]
        and mixture.active["g"].dtype == torch.bool
    )
    assert g.primitives(GROUPS) == {"g": (("b",), ("a",), ())}
    assert Genotype.from_json(g.to_json()) == g and hash(g) == hash(Genotype.from_json(g.to_json()))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (genotype((0, 1, "d"), (0, 2, "a")), "edge 0 -> 1 has no primitive 'd'"),
        (
            genotype((0, 1, "b"), (1, 2, "a")),
            r"edge 1 -> 2 has no primitive 'a' in this space \(it has nothing\)",
        ),
        (genotype((0, 1, "b"), (2, 1, "a")), "no edge 2 -> 1"),
        (genotype((0, 1, "b"), (0, 1, "a"), (0, 2, "a")), "has 2 ops, the space allows 1"),
        (genotype((0, 1, "b")), "node 2 has 0 inputs, the space allows 1 to 1"),
        (genotype((0, 1, "b"), (0, 2, "a"), concat=(7,)), r"concat names the nodes \[7\]"),
        (
            Genotype((CellGenotype("h", (), ()),)),
            r"the genotype has the cells \['h'\], the space has \['g'\]",
        ),
    ],
)
def test_a_genotype_of_another_space_is_refused_with_the_difference(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong.one_hot(GROUPS)


def test_schedules():
    def at(epoch, step=0, born=0, dies=10):
        return context(Progress(epoch, step, 10, 4, born, dies))

    assert [linear(1, 0)(at(e)) for e in (0, 9)] == [1, 0]
    assert geometric(1, 0.25)(at(5)) == pytest.approx(0.5)
    assert cosine(0.1, 0.0)(at(5)) == pytest.approx(0.05) and cosine(0.1, 0.0)(
        at(5, 3)
    ) == pytest.approx(0.05)
    assert cosine(0.1, 0.0, per="step")(at(5, 2)) < 0.05
    assert cosine(0.1, 0.0)(at(5, born=5)) == 0.1, "a stage restarts the learning rate"
    assert (
        at(2, 1).progress.fraction == pytest.approx(0.225)
        and at(7, 2, born=5).progress.age == 2.5
        and at(7, born=5).progress.life == 5
    )
    assert (
        epoch_at_share(15, of=50)(50),
        epoch_at_share(15, of=50)(10),
        epoch_at_share(1, of=50)(3),
        epoch_at_share(0, of=4)(8),
        never(8),
    ) == (15, 3, 1, 0, 8)
    with pytest.raises(
        ValueError, match="warm-up is 9, but the search has 5 epochs: choose at most 4"
    ):
        exact_epoch(9, "warm-up")(5)


def test_a_seed_is_a_function_of_the_place_and_the_same_in_every_process():
    assert place_seed(1, "order/train", 3) == 2708619516438946445
    assert place_seed(1, "order/train", 3) != place_seed(11, "order/train", "3")
    torch.manual_seed(7)
    first = torch.rand(3)
    torch.manual_seed(7)
    with seeded(0, "x"):
        inside = torch.rand(3)
    assert torch.equal(torch.rand(3), first) and not torch.equal(inside, first)
    c = context(Progress(1, 2, 10, 4, 0, 10))
    assert (
        torch.rand(1, generator=c.rng("a"))
        == torch.rand(1, generator=c.rng("a"))
        != torch.rand(1, generator=c.rng("b"))
    )
    assert torch.rand(1, generator=c.rng("a")) != torch.rand(
        1, generator=c._replace(phase="weight").rng("a")
    )
