"""SNAS: a concrete draw in each half, one level, and the gradient of the paper."""

from __future__ import annotations

import pytest
import torch

from archgrad.arch.edges import Edge, EdgeGroup
from archgrad.components.context import Context, Progress
from archgrad.methods import method
from archgrad.methods.snas import snas
from archgrad.searching.steps import forward
from archgrad.seeds import generator
from archgrad.spaces import space
from fakes import Noise

SMALL = {"channels": 2, "cells": 1, "classes": 4}
GROUP = EdgeGroup(
    "cell",
    (Edge(0, 1, ("a", "b", "c")), Edge(0, 1, ("a", "b")), Edge(0, 1, ("a",)), Edge(0, 1, ())),
    concat=(1,),
)


def context(phase="alpha", epoch=0, step=0) -> Context:
    return Context({"cell": GROUP}, Progress(epoch, step, 4, 10, 0, 4), phase, {}, 0)


def rows() -> torch.Tensor:
    return (
        torch.randn(4, 3, dtype=torch.double, generator=generator("rows")) * GROUP.mask()
    ).requires_grad_()


def test_the_alpha_gradient_is_the_papers():
    """Z = softmax((log softmax(a) + g) / T), g Gumbel noise; dL/da_k = sum_j dL/dZ_j Z_j ([j = k] - Z_k) / T."""
    a, here, t, slope = (
        rows(),
        context(epoch=1),
        1 - 0.97 / 3,
        torch.randn(4, 3, dtype=torch.double, generator=generator("slope")),
    )
    z = snas().relax({"cell": a}, here).weights["cell"]
    (found,) = torch.autograd.grad((slope * z).sum(), a)
    noise = -torch.empty_like(a).exponential_(generator=here.rng("concrete/cell")).log()
    for e, edge in enumerate(GROUP.edges):
        k = len(edge.primitives)
        expected = ((a[e, :k].detach().log_softmax(0) + noise[e, :k]) / t).softmax(0)
        assert torch.allclose(z[e, :k], expected, atol=1e-10) and (z[e, k:] == 0).all()
        for i in range(k):
            by_hand = sum(
                slope[e, j] * expected[j] * (float(i == j) - expected[i]) / t for j in range(k)
            )
            assert abs(found[e, i] - by_hand) < 1e-10
    assert (found[0] != 0).all() and (found[2:] == 0).all()


def test_the_draw_grows_to_one_hot_of_the_same_noise():
    """Close to one-hot at the coldest, and then an op is as frequent as its softmax says."""
    a = torch.tensor([[1.0, 0.0, -1.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    relax, draws = snas(cold=0.001).relax, 2000
    cold = torch.stack(
        [
            relax({"cell": a}, context(epoch=3, step=step)).weights["cell"][0]
            for step in range(draws)
        ]
    )
    assert (cold.max(1)[0] > 0.99).float().mean() > 0.97
    assert torch.allclose(cold.round().mean(0), a[0].softmax(0), atol=0.06)
    warm = relax({"cell": a}, context(epoch=0)).weights["cell"][0]
    assert warm.max() < 0.99 and warm.sum() == pytest.approx(1)


def test_each_half_draws_its_own_and_the_readout_is_the_softmax():
    m = method("snas", space("nasbench201", **SMALL))
    a = {"cell": rows()}
    relax = snas().relax
    assert torch.equal(relax(a, context()).weights["cell"], relax(a, context()).weights["cell"])
    others = [
        relax(a, context(phase, step=step)).weights["cell"][0, 0].item()
        for phase in ("weight", "alpha")
        for step in (0, 1)
    ]
    assert len(set(others)) == 4
    state = m.start(seed=0, epochs=4, steps=3)
    assert torch.allclose(m.readout(state).weights["cell"], state.alphas["cell"].softmax(1))


def test_both_halves_of_a_step_learn_from_the_training_batch():
    """Both halves learn from the training batch: the validation batch changes nothing."""
    m, data = method("snas", space("nasbench201", **SMALL)), Noise()
    ends = []
    for other in (1, 2):
        state = m.start(seed=0, epochs=4, steps=3)
        train, val = next(data.batches("train", 0)), next(data.batches("val", other))
        before = state.alphas["cell"].clone()
        values = m.step(state, train, val)
        ends.append(state.alphas["cell"].detach())
        assert not torch.equal(ends[-1], before) and not any(
            key.startswith("val") for key in values
        )
    assert torch.equal(*ends)
    state = m.start(seed=0, epochs=4, steps=3)
    passed = forward(m, state, "search", "alpha", train, state.alphas)
    assert passed.mixture.active is None


def test_the_temperature_falls_linearly():
    (t,) = snas().scalars.values()
    assert [t(context(epoch=epoch)) for epoch in range(4)] == pytest.approx(
        [1, 1 - 0.97 / 3, 1 - 2 * 0.97 / 3, 0.03]
    )
