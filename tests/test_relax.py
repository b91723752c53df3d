"""Relaxations against closed forms in float64, and at the ends of float32."""

from __future__ import annotations

import math

import pytest
import torch

from archgrad.arch.edges import Edge, EdgeGroup
from archgrad.components.context import Context, Progress
from archgrad.components.relax import (
    gaussian,
    gumbel,
    softmax,
    sparse_noisy_softmax,
    sparse_softmax,
)
from archgrad.components.schedules import constant
from archgrad.seeds import generator

RAGGED = EdgeGroup(
    "cell",
    (Edge(0, 2, ("a", "b", "c")), Edge(1, 2, ("a",)), Edge(0, 3, ("a", "b")), Edge(1, 3, ())),
)


def context(
    phase: str = "alpha", group: EdgeGroup = RAGGED, *, seed: int = 0, epoch: int = 2, step: int = 1
) -> Context:
    return Context({group.name: group}, Progress(epoch, step, 50, 10, 0, 50), phase, {}, seed)


def logits(dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(4, 3, generator=generator("relax"), dtype=dtype)


def closed(a: torch.Tensor, t: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Of one edge: softmax(a / t), and its Jacobian J(p) = diag(p) - p p^T, which d p / d a is 1 / t of."""
    e = [math.exp(x / t) for x in a.tolist()]
    p = torch.tensor([x / sum(e) for x in e], dtype=torch.float64)
    return p, torch.diag(p) - torch.outer(p, p)


@pytest.mark.parametrize("t", [0.3, 0.05, 1.0, 2.0])
@pytest.mark.parametrize("phase", ["alpha", "weight", "readout"])
def test_value_and_gradient_of_sn_softmax(phase, t):
    """(1/T) J(softmax(a/T))^T g + J(softmax(a))^T g in the alpha phase; the second term only there, and only where T is not 1."""
    a, g = (
        logits().requires_grad_(),
        torch.randn(4, 3, generator=generator("upstream"), dtype=torch.float64),
    )
    value = sparse_noisy_softmax(constant(t))({"cell": a}, context(phase)).weights["cell"]
    slope = torch.autograd.grad((value * g).sum(), a)[0]
    for e, edge in enumerate(RAGGED.edges):
        n = len(edge.primitives)
        if n:
            (p, jacobian), (_, smooth) = (
                closed(a[e, :n].detach(), t),
                closed(a[e, :n].detach(), 1.0),
            )
            expected = jacobian.T @ g[e, :n] / t + (
                smooth.T @ g[e, :n] if phase == "alpha" and t != 1 else 0
            )
            torch.testing.assert_close(value[e, :n].detach(), p, rtol=1e-13, atol=1e-15)
            torch.testing.assert_close(slope[e, :n], expected, rtol=1e-11, atol=1e-13)
        assert not value[e, n:].any() and not slope[e, n:].any()


def test_the_second_term_leaves_the_value_to_the_last_bit():
    group = EdgeGroup("cell", (Edge(0, 1, ("a", "b", "c")),) * 1000)
    a = torch.randn(1000, 3, generator=generator("many"))
    sparse, noisy = (
        relax(constant(0.3))({"cell": a}, context(group=group)).weights["cell"]
        for relax in (sparse_softmax, sparse_noisy_softmax)
    )
    assert torch.equal(sparse, noisy)


def test_a_temperature_of_one_is_darts_to_the_last_bit():
    a, found = logits(torch.float32).requires_grad_(), []
    for relax in (softmax, sparse_softmax(constant(1.0)), sparse_noisy_softmax(constant(1.0))):
        value = relax({"cell": a}, context()).weights["cell"]
        found.append(
            (value, torch.autograd.grad((value * torch.arange(12).view(4, 3)).sum(), a)[0])
        )
    for value, slope in found[1:]:
        assert torch.equal(value, found[0][0]) and torch.equal(slope, found[0][1])


@pytest.mark.parametrize("noise", [gaussian(0.02), gumbel], ids=["gaussian", "gumbel"])
def test_noise_is_of_the_alpha_phase_and_a_function_of_place(noise):
    a, t = logits(), 0.1
    relax, plain = sparse_softmax(constant(t), noise), sparse_softmax(constant(t))

    def at(*arguments, **place):
        return relax({"cell": a}, context(*arguments, **place)).weights["cell"]

    for phase in ("weight", "readout"):
        assert torch.equal(at(phase), plain({"cell": a}, context(phase)).weights["cell"])
    assert torch.equal(at(), at())
    for place in ({"seed": 1}, {"epoch": 3}, {"step": 2}):
        assert not torch.allclose(at(), at(**place), rtol=1e-3)
    drawn = a + noise(a, generator(0, "sparse_softmax/cell", "alpha", 2, 1))
    torch.testing.assert_close(at()[0], closed(drawn[0], t)[0], rtol=1e-12, atol=1e-300)

    renamed = EdgeGroup("other", RAGGED.edges)
    assert not torch.allclose(
        relax({"other": a}, context(group=renamed)).weights["other"], at(), rtol=1e-3
    )


def test_noise_has_its_distribution():
    a, rng = torch.zeros(200_000), generator("distribution")
    drawn = gaussian(0.02)(a, rng)
    assert abs(drawn.mean()) < 3e-4 and drawn.std().item() == pytest.approx(0.02, rel=0.01)
    drawn = gumbel(a, rng)
    assert drawn.mean().item() == pytest.approx(
        0.5772, abs=0.015
    ) and drawn.var().item() == pytest.approx(math.pi**2 / 6, rel=0.03)
    assert (drawn < 0).float().mean().item() == pytest.approx(
        math.exp(-1), abs=0.006
    )  # P(G < 0) = exp(-exp(0))


@pytest.mark.parametrize("t", [1e-4, 2.5e-4, 1.0])
@pytest.mark.parametrize("relaxation", ["gradient", "none", "gaussian", "gumbel"])
def test_extreme_logits_stay_finite(relaxation, t):
    noise = {"gaussian": gaussian(1e-3), "gumbel": gumbel}.get(relaxation)
    relax = (
        sparse_noisy_softmax(constant(t))
        if relaxation == "gradient"
        else sparse_softmax(constant(t), noise)
    )
    big = 3e38
    rows = [
        [1e30, -1e30, 0],
        [-1e30, -1e30, -1e30],
        [big, -big, 0],
        [1e30, 1e30, 1e30],
        [1e-3, -1e-3, 0],
        [0, 0, 0],
    ]
    edges = tuple(Edge(0, 1, ops) for ops in [("a", "b", "c")] * 6 + [("a", "b"), ("a",), ()])
    group = EdgeGroup("cell", edges)
    a = torch.tensor(
        [*rows, *[[-1e30, 1.0, big]] * 3], requires_grad=True
    )  # what stands in the padding does not matter
    for phase in ("alpha", "weight", "readout"):
        value = relax({"cell": a}, context(phase, group)).weights["cell"]
        slope = torch.autograd.grad((value * torch.randn(9, 3, generator=generator("g"))).sum(), a)[
            0
        ]
        assert torch.isfinite(value).all() and torch.isfinite(slope).all(), phase
        torch.testing.assert_close(value.sum(1), torch.tensor([1.0] * 8 + [0.0]))
        mask = group.mask()
        assert not value[~mask].any() and not slope[~mask].any()
        if relaxation in ("gradient", "none"):
            torch.testing.assert_close(value[[1, 3, 5]], torch.full((3, 3), 1 / 3))
        assert value[0, 0] == value[2, 0] == value[6, 1] == value[7, 0] == 1


def test_a_cold_softmax_alone_has_no_gradient_left():
    """The reason for the second term of sn-softmax: alphas that are 3e-2 apart at T = 2.5e-4."""
    a, g = torch.tensor([[0.03, 0.0, -0.03]], requires_grad=True), torch.tensor([[0.0, 1.0, 2.0]])
    group = EdgeGroup("cell", (Edge(0, 1, ("a", "b", "c")),))
    sparse, noisy = (
        torch.autograd.grad(
            (relax(constant(2.5e-4))({"cell": a}, context(group=group)).weights["cell"] * g).sum(),
            a,
        )[0]
        for relax in (sparse_softmax, sparse_noisy_softmax)
    )
    assert sparse.abs().max() < 1e-40 and noisy.abs().min() > 1e-3
