"""Beta-DARTS: its term against the formula, padding apart, and off at strength 0."""

from __future__ import annotations

import pytest
import torch

from archgrad.arch.edges import Edge, EdgeGroup
from archgrad.components.context import Context, Forward, Progress
from archgrad.components.losses import logsumexp
from archgrad.methods import method
from archgrad.searching.finite import Trace
from archgrad.searching.steps import forward, total_loss
from archgrad.spaces import space
from fakes import Noise
from searching import Record, content, same
from searching import run as searched

SMALL = {"channels": 2, "cells": 1, "classes": 4}


def betadarts(
    name: str = "nasbench201",
    settings: dict | None = None,
    method_name: str = "betadarts",
    **options,
):
    return method(method_name, space(name, **SMALL), betadarts=options, **(settings or {}))


@pytest.mark.parametrize(
    ("name", "epochs", "expected"),
    [("nasbench201", 100, 0.5), ("nasbench201", 10, 5), ("darts", 50, 0.1), ("s1", 10, 0.5)],
)
def test_the_strength_is_a_share_of_the_search(name, epochs, expected):
    """The authors' code: 50 * epoch / 100 over 100 epochs of NAS-Bench-201; the paper: up to 5 over 50 of the DARTS space."""
    (rule,) = betadarts(name).patch.scalars.values()
    strengths = [
        rule(Context({}, Progress(epoch, 0, epochs, 3, 0, epochs), "alpha", {}, 0))
        for epoch in range(epochs)
    ]
    assert strengths == pytest.approx([expected * epoch for epoch in range(epochs)])


def test_the_alpha_gradient_is_the_papers():
    """dL/da = dL_val/da + strength * softmax(a) / edges, in float64; and it is the first order's own for L_val."""
    m = betadarts(start=3.0, end=3.0)
    state = m.start(seed=1, epochs=4, steps=3)
    state.nets["search"].double()
    state.alphas = {name: torch.randn(a.shape, dtype=torch.double, generator=torch.Generator().manual_seed(2)).requires_grad_()
                    for name, a in state.alphas.items()}  # fmt: skip
    batch = next(Noise(dtype=torch.double).batches("val", 0))
    passed = forward(m, state, "search", "alpha", batch, state.alphas)
    (a,) = state.alphas.values()
    losses = total_loss(m.alpha_terms, passed, Trace()), m.alpha_terms[0](passed)
    found, plain = (torch.autograd.grad(loss, a, retain_graph=True)[0] for loss in losses)
    exponents = a.detach().exp()
    expected = plain + 3.0 * exponents / exponents.sum(1, keepdim=True) / len(a)
    assert (found - expected).abs().max() < 1e-10


def test_padding_and_removed_edges_count_for_nothing():
    """Of three edges with 3, 2 and 0 ops in two groups, the mean is over the two with ops."""
    groups = {
        "one": EdgeGroup("one", (Edge(0, 1, ("a", "b", "c")), Edge(0, 2, ("a", "b")))),
        "two": EdgeGroup("two", (Edge(0, 1, ()), Edge(0, 2, ("a", "b", "c")))),
    }
    rows = {"one": [[1.0, 2.0, 3.0], [0.5, -0.5, 0.0]], "two": [[0.0, 0.0, 0.0], [4.0, 0.0, -4.0]]}
    alphas = {
        name: torch.tensor(values, dtype=torch.double, requires_grad=True)
        for name, values in rows.items()
    }
    context = Context(groups, Progress(1, 0, 4, 3, 0, 4), "alpha", {}, 0)
    value = logsumexp(Forward(alphas, None, None, None, None, context, None))
    edges = [[1.0, 2.0, 3.0], [0.5, -0.5], [4.0, 0.0, -4.0]]
    assert value.item() == pytest.approx(
        sum(torch.tensor(e, dtype=torch.double).exp().sum().log().item() for e in edges) / 3,
        abs=1e-12,
    )
    value.backward()
    assert alphas["one"].grad[1, 2] == 0 and not alphas["two"].grad[0].any()
    for (name, e), ops in {("one", 0): 3, ("one", 1): 2, ("two", 1): 3}.items():
        assert torch.allclose(
            alphas[name].grad[e, :ops], alphas[name].detach()[e, :ops].softmax(0) / 3
        )


def test_strength_zero_is_darts_without_decay_bit_for_bit():
    off = betadarts(start=0, end=0, settings={"alphas": {"lr": 3e-4}})
    plain = method("darts", space("nasbench201", **SMALL), alphas={"lr": 3e-4, "decay": 0.0})
    assert off.alphas == plain.alphas
    a, b = (content(m, searched(m).state) for m in (off, plain))
    assert same(a, b)


def test_the_regulariser_keeps_the_alphas_closer():
    """The test compares the spread of the alphas within an edge after the same few steps at a high learning rate."""

    def spread(m):
        return torch.cat([a.std(1) for a in searched(m).state.alphas.values()]).mean().item()

    fast = {"alphas": {"lr": 0.1}}
    assert spread(betadarts(settings=fast, start=50, end=50)) < 0.5 * spread(
        betadarts(settings=fast, end=0)
    )


def test_cdarts_adds_the_regulariser_to_its_joint_loss():
    record = Record()
    m = method(
        "cdarts+betadarts",
        space("nasbench201", **SMALL),
        betadarts={"start": 1.0, "end": 5.0},
        alphas={"lr": 3e-4},
    )
    searched(m, [record])
    assert [row["beta_decay"] for row in record.rows] == [1.0, 2.0, 3.0, 4.0]
    assert all(row["regulariser"] > 1 for row in record.rows if "regulariser" in row)
