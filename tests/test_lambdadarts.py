"""Lambda-DARTS: the alignment and its gradient against the authors' formulas, cells with a copy of the mixture each, and off at strength 0."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from archgrad.arch.mixture import Mixture
from archgrad.components.gradients import gradients
from archgrad.methods import method
from archgrad.methods.lambdadarts import mean_similarity
from archgrad.searching.method import Method
from archgrad.searching.steps import weight_loss
from archgrad.spaces import space
from fakes import Noise
from searching import Record, content, same
from searching import run as searched

SMALL = {"channels": 2, "cells": 1, "classes": 4}
DOUBLE = Noise(dtype=torch.double)
MEASURES = ("cosine", "sign")


def lambdadarts(
    space_name: str = "nasbench201", name: str = "lambdadarts", small: dict = SMALL, **options
) -> Method:
    return method(name, space(space_name, **small), lambdadarts=options)


def started(m: Method, epoch: int = 3):
    """A state in float64 in the last of four epochs, where the strength is whole, and alphas apart."""
    state = m.start(seed=1, epochs=4, steps=3)
    state.nets["search"].double()
    rng = torch.Generator().manual_seed(3)
    state.alphas = {
        name: torch.randn(a.shape, dtype=torch.double, generator=rng).requires_grad_()
        for name, a in state.alphas.items()
    }
    state.epoch = epoch
    return state


def by_hand(g: Tensor, h: Tensor, measure: str) -> Tensor:
    return (
        F.cosine_similarity(g, h, dim=0) if measure == "cosine" else (g @ h) / (g.abs() @ h.abs())
    )


@pytest.mark.parametrize("measure", MEASURES)
def test_alignment_is_the_mean_over_pairs(measure):
    g = torch.randn(5, 12, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    expected = torch.stack(
        [by_hand(g[i], g[j], measure) for i, j in combinations(range(5), 2)]
    ).mean()
    assert mean_similarity(g, measure).item() == pytest.approx(expected.item(), abs=1e-12)
    assert mean_similarity(g[:1].repeat(4, 1), measure).item() == pytest.approx(
        1
    ) and mean_similarity(torch.stack([g[0], -g[0]]), measure).item() == pytest.approx(-1)


@pytest.mark.parametrize("measure", MEASURES)
def test_alignment_without_a_gradient_is_finite(measure):
    g = torch.zeros(3, 4).requires_grad_()
    (found,) = torch.autograd.grad(mean_similarity(torch.cat([g, torch.ones(1, 4)]), measure), g)
    assert torch.isfinite(found).all() and mean_similarity(g, measure) == 0


@pytest.mark.parametrize("measure", MEASURES)
def test_the_weights_gradient_is_the_papers(measure):
    """d/dw [L - strength * mean over pairs of cos(dL/dp_i, dL/dp_j)], every cell written out, in float64."""
    m = lambdadarts(strength=0.7, measure=measure)
    state, train = started(m), next(DOUBLE.batches("train", 0))
    (name, a), net = next(iter(state.alphas.items())), state.nets["search"]
    weights = dict(net.named_parameters())
    found = gradients(weight_loss(m, state, train, {name: a.detach()}, None)[0], weights)

    p = [a.detach().softmax(-1).requires_grad_() for _ in range(3)]
    loss = F.cross_entropy(net(train.images, Mixture({name: torch.stack(p)})).logits, train.labels)
    of_cells = [g.flatten() for g in torch.autograd.grad(loss, p, create_graph=True)]
    pairs = [by_hand(of_cells[i], of_cells[j], measure) for i, j in ((0, 1), (0, 2), (1, 2))]
    plain = gradients(loss, weights, create_graph=True)
    expected = gradients(loss - 0.7 * sum(pairs) / 3, weights)
    reached = [key for key in weights if expected[key] is not None]
    assert all((found[key] - expected[key]).abs().max() < 1e-10 for key in reached)
    assert max((found[key] - plain[key]).abs().max() for key in reached) > 1e-3


def test_it_is_the_authors_finite_difference():
    """Their code: (dL/dw at p - eps u  minus  dL/dw at p + eps u) / (2 eps), u the gradient of the alignment by the cells' gradients."""
    m = lambdadarts(strength=1.0)
    state, train = started(m), next(DOUBLE.batches("train", 0))
    (name, a), net = next(iter(state.alphas.items())), state.nets["search"]
    weights = dict(net.named_parameters())
    found = gradients(weight_loss(m, state, train, {name: a.detach()}, None)[0], weights)

    p = a.detach().softmax(-1).expand(3, *a.shape).clone().requires_grad_()

    def loss(q: Tensor) -> Tensor:
        return F.cross_entropy(net(train.images, Mixture({name: q})).logits, train.labels)

    (g,) = torch.autograd.grad(loss(p), p)
    unit = [row / row.norm() for row in g.flatten(1)]
    u = torch.stack(
        [(sum(unit) - row * (row @ sum(unit))) / g[i].norm() / 3 for i, row in enumerate(unit)]
    ).reshape(p.shape)
    eps = 1e-6 / u.norm()
    ahead, behind, here = (
        gradients(loss(q.detach()), weights) for q in (p - eps * u, p + eps * u, p)
    )
    for key in weights:
        if here[key] is not None:
            expected = here[key] + (ahead[key] - behind[key]) / (2 * eps)
            assert (found[key] - expected).abs().max() < 1e-5 * max(1, expected.abs().max())


def test_only_weights_learn_from_it_and_only_where_cells_are_enough():
    """Of the DARTS cells the two reductions are left alone, as the authors do; the alphas' pass is DARTS's."""
    m = lambdadarts(
        "darts", small={"channels": 2, "cells": 5, "nodes": 2, "classes": 4}, strength=1.0
    )
    state = started(m)
    mixture = m.mixture(state.alphas, m.context(state, "weight"))
    assert {name: w.dim() for name, w in mixture.weights.items()} == {
        "normal": 3,
        "reduce": 2,
    } and len(mixture.weights["normal"]) == 3
    for phase in ("alpha", "readout"):
        assert all(
            w.dim() == 2 for w in m.mixture(state.alphas, m.context(state, phase)).weights.values()
        )


def test_nothing_to_align():
    """Two normal and no reduction cells enough: DARTS to the last bit, whatever the strength."""
    small = {"channels": 2, "cells": 3, "nodes": 2, "classes": 4}
    m, plain = (
        lambdadarts("darts", small=small, strength=5.0),
        method("darts", space("darts", **small)),
    )
    assert same(*(content(one, searched(one, epochs=2).state) for one in (m, plain)))


def test_strength_zero_is_darts_bit_for_bit():
    m, plain = (
        lambdadarts(strength=0, alpha_lr=3e-4),
        method("darts", space("nasbench201", **SMALL), alphas={"lr": 3e-4}),
    )
    assert same(*(content(one, searched(one).state) for one in (m, plain)))


def test_the_term_aligns_the_gradients_of_the_cells():
    """After the same steps, the cells' gradients on an unseen batch agree more than DARTS's."""

    def alignment(strength: float) -> float:
        m = method(
            "lambdadarts", space("nasbench201", **SMALL), strength=strength, alphas={"lr": 1e-4}
        )
        state = searched(m, epochs=8).state
        net, batch = state.nets["search"], next(Noise(seed=7).batches("train", 99))
        ((name, a),) = state.alphas.items()
        p = a.detach().softmax(-1).expand(3, *a.shape).clone().requires_grad_()
        (g,) = torch.autograd.grad(
            F.cross_entropy(net(batch.images, Mixture({name: p})).logits, batch.labels), p
        )
        return mean_similarity(g.flatten(1), "cosine").item()

    assert alignment(3.0) > alignment(0.0) + 0.1


def test_the_authors_rate_of_the_alphas_and_the_column():
    m = lambdadarts()
    assert m.alphas.lr == 1e-4 and lambdadarts("darts").alphas.lr == 3e-4
    record = Record()
    searched(m, [record])
    assert [row["lambda"] for row in record.rows] == pytest.approx([0, 0.25 / 3, 0.5 / 3, 0.25])
