"""ReinMax: its estimate against its formula, and of second order in expectation, where straight-through is not."""

from __future__ import annotations

from itertools import product

import pytest
import torch
import torch.nn.functional as F

from archgrad.arch.edges import Edge, EdgeGroup
from archgrad.components.context import Context, Progress
from archgrad.components.relax import Draw, masked_softmax
from archgrad.methods import METHODS, method
from archgrad.methods.reinmax import heun, reinmax
from archgrad.seeds import generator
from archgrad.spaces import space

FIVE = ("a", "b", "c", "d", "e")
# The whole choice, a smaller one (padded), none to make, a removed edge.
GROUP = EdgeGroup(
    "cell",
    (Edge(0, 1, FIVE), Edge(0, 1, FIVE[:3]), Edge(0, 1, FIVE[:1]), Edge(0, 1, ())),
    concat=(1,),
)
HERE = Context({"cell": GROUP}, Progress(1, 2, 4, 10, 0, 4), "alpha", {}, 0)


def normal(*shape: int, name: str = "rows") -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.double, generator=generator(name))


def rows() -> torch.Tensor:
    return (normal(4, 5) * GROUP.mask()).requires_grad_()


@pytest.mark.parametrize("tau", [1.0, 1.3])
@pytest.mark.parametrize("idle", ["scalar", "nothing", "run"])
def test_the_alpha_gradient_is_the_papers(tau, idle):
    """dL/da = 2 J(p1) g - J(p0) g / 2 with g = dL/dD, p0 = softmax(a), p1 = (D + softmax(a / tau)) / 2 and J(p) = diag(p) - p p^T."""
    a, slope = rows(), normal(4, 5, name="slope")
    weights = reinmax(tau=tau, idle=idle).relax({"cell": a}, HERE).weights["cell"]
    (found,) = torch.autograd.grad((slope * weights).sum(), a)
    drawn = weights.detach()
    expected = torch.zeros_like(a)
    for e, edge in enumerate(GROUP.edges):
        k = len(edge.primitives)
        p0, p1 = (
            a[e, :k].detach().softmax(0),
            (drawn[e, :k] + (a[e, :k].detach() / tau).softmax(0)) / 2,
        )
        g = slope[e, :k]
        expected[e, :k] = 2 * p1 * (g - p1 @ g) - p0 * (g - p0 @ g) / 2
    assert (found - expected).abs().max() < 1e-10
    assert (found[:2].abs().sum(1) > 0).all() and (found[2:] == 0).all()


def estimates(surrogate, a, loss):
    """Every architecture of the two edges with a choice: (probability, loss, the estimate of d loss / d a), by autograd through the draw."""
    p = masked_softmax(a, GROUP)
    for first, second in product(range(5), range(3)):
        chosen = (
            torch.stack([F.one_hot(torch.tensor(k), 5).double() for k in (first, second, 0, 0)])
            * GROUP.mask()
        )
        soft = surrogate(Draw(a, torch.zeros_like(a), chosen), GROUP, HERE)
        value = loss(chosen + (soft - soft.detach()))
        yield p[0, first] * p[1, second], value, torch.autograd.grad(value, a)[0]


@pytest.mark.parametrize(
    ("name", "surrogate", "exact"),
    [
        ("reinmax", heun(1.0), True),
        ("warm", heun(1.5), False),
        ("straight-through", lambda draw, group, _: masked_softmax(draw.alphas, group), False),
    ],
)
def test_the_estimator_is_of_second_order_in_expectation(name, surrogate, exact):
    """Exact for a quadratic function of both draws together, its probabilities enumerated: sum p(D) estimate(D) = d/da sum p(D) f(D)."""
    curvature, slope, a = normal(20, 20, name="curvature"), normal(20, name="slope"), rows()
    quadratic = lambda d: d.flatten() @ curvature @ d.flatten() + slope @ d.flatten()  # noqa: E731
    every = list(estimates(surrogate, a, quadratic))
    assert sum(p.item() for p, _, _ in every) == pytest.approx(1)
    (truth,) = torch.autograd.grad(sum(p * value.detach() for p, value, _ in every), a)
    error = (sum(p.detach() * estimate for p, _, estimate in every) - truth).abs().max()
    assert error < 1e-10 if exact else error > 1e-3


def test_both_are_exact_for_a_linear_function():
    """Where the first order is enough straight-through has it too: what the test above sees is the curvature."""
    slope, a = normal(4, 5, name="slope"), rows()
    for surrogate in (heun(1.0), lambda draw, group, _: masked_softmax(draw.alphas, group)):
        every = list(estimates(surrogate, a, lambda d: (slope * d).sum()))
        (truth,) = torch.autograd.grad(sum(p * value.detach() for p, value, _ in every), a)
        assert (sum(p.detach() * estimate for p, _, estimate in every) - truth).abs().max() < 1e-10


def test_the_draw_is_that_of_gdas():
    """One op an edge, exactly; the same one, of one seed: the two differ in the gradient alone."""
    small = space("nasbench201", channels=2, cells=1)
    mixtures = []
    for name in ("reinmax", "gdas"):
        m = method(name, small)
        state = m.start(seed=3, epochs=4, steps=3)
        mixtures.append(m.mixture(state.alphas, m.context(state, "alpha")))
    ours, theirs = mixtures
    assert torch.equal(ours.weights["cell"], theirs.weights["cell"]) and torch.equal(
        ours.active["cell"], theirs.active["cell"]
    )
    assert torch.equal(ours.weights["cell"], ours.active["cell"].float())
    assert METHODS["reinmax"].presets is METHODS["gdas"].presets


def test_run_is_of_the_alpha_step_alone():
    relax = reinmax(idle="run").relax
    assert relax({"cell": rows()}, HERE).active is None
    assert relax({"cell": rows()}, HERE._replace(phase="weight")).active is not None


def test_tau_is_at_least_1():
    with pytest.raises(ValueError, match=r"reinmax.tau: .*greater than or equal to 1, not 0.5"):
        method("reinmax", space("nasbench201"), tau=0.5)
