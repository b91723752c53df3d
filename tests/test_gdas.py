"""GDAS: one op an edge, exactly; whose gradient is the paper's, for ops that ran and ops that did not."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from archgrad.arch.edges import Edge, EdgeGroup
from archgrad.components.context import Context, Progress
from archgrad.cost.cost import by_primitive, expected
from archgrad.methods import method
from archgrad.methods.gdas import gdas
from archgrad.seeds import generator
from archgrad.spaces import space
from archgrad.spaces.cells import Cell
from archgrad.spaces.primitives import Style, primitive

FIVE = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
# Four inputs of one node: the whole choice, a smaller one (padded), none to make, a removed edge.
GROUP = EdgeGroup(
    "cell",
    (Edge(0, 4, FIVE), Edge(1, 4, FIVE[2:]), Edge(2, 4, ("skip_connect",)), Edge(3, 4, ())),
    concat=(4,),
)


def context(phase="alpha", epoch=0, step=0, groups=None, seed=0) -> Context:
    return Context(
        groups or {"cell": GROUP}, Progress(epoch, step, 4, 100_000, 0, 4), phase, {}, seed
    )


def rows(seed=0) -> torch.Tensor:
    values = torch.randn(4, 5, dtype=torch.double, generator=generator(seed, "rows"))
    return (values * GROUP.mask()).requires_grad_()


@pytest.mark.parametrize("phase", ["weight", "alpha"])
@pytest.mark.parametrize("idle", ["scalar", "nothing", "run"])
def test_exactly_one_op_an_edge(phase, idle):
    """Value 1 to the last bit at the op that runs, 0 elsewhere: in float32, at the coldest temperature and far from zero."""
    relax = gdas(idle=idle).relax
    for step in range(20):
        a = (1000 * rows(step).float()).detach().requires_grad_()
        mixture = relax({"cell": a}, context(phase, epoch=3, step=step))
        weights = mixture.weights["cell"]
        assert torch.equal(weights.sum(1), torch.tensor([1.0, 1.0, 1.0, 0.0]))
        assert torch.equal(
            weights.sort(1, descending=True)[0][:, 0], torch.tensor([1.0, 1.0, 1.0, 0.0])
        )
        if idle == "run" and phase == "alpha":
            assert mixture.active is None
        else:
            active = mixture.active["cell"]
            assert active.device.type == "cpu" and torch.equal(active, weights.detach() == 1)
        assert weights.requires_grad


def test_ops_are_drawn_by_the_softmax_of_the_alphas():
    group = EdgeGroup("cell", (Edge(0, 1, ("a", "b", "c")), Edge(0, 1, ("a", "b"))), concat=(1,))
    a = torch.tensor([[1.0, 0.0, -1.0], [-0.5, 0.5, 0.0]])
    relax, draws = gdas().relax, 4000
    counts = sum(
        relax({"cell": a}, context(step=step, groups={"cell": group})).weights["cell"]
        for step in range(draws)
    )
    expected = torch.stack([a[0].softmax(0), F.pad(a[1, :2].softmax(0), (0, 1))])
    assert torch.allclose(
        counts / draws, expected, atol=5 * 0.5 / draws**0.5
    )  # five standard deviations of the widest


def test_each_half_of_a_step_draws_its_own():
    relax, a = gdas().relax, {"cell": rows()}
    one, again = (relax(a, context("alpha", step=3)).active["cell"] for _ in range(2))
    assert torch.equal(one, again)
    others = [
        relax(a, context(phase, step=step)).active["cell"]
        for phase in ("weight", "alpha")
        for step in range(3)
    ]
    assert len({str(other.tolist()) for other in others}) > 1
    halves = [
        [str(relax(a, context(phase, step=s)).active["cell"].tolist()) for s in range(9)]
        for phase in ("weight", "alpha")
    ]
    assert halves[0] != halves[1]


@pytest.mark.parametrize("idle", ["scalar", "nothing", "run"])
@pytest.mark.parametrize("step", range(6))
def test_the_alpha_gradient_is_the_papers(idle, step):
    """Float64, by hand. With L = <R, node>: the drawn op has dL/dh = <R, op(x)>; an op that idles stands as the scalar h = 0, so dL/dh =
    sum(R), or nothing, or ran all the same; and dL/da = J(p) dL/dh / T with p = softmax((log softmax(a) + g) / T)."""
    torch.manual_seed(step)
    cell = Cell(GROUP, [torch.nn.Identity() for _ in range(4)], 3, 1, Style(pool_bn=False)).double()
    inputs, slope = (
        torch.randn(4, 4, 3, 5, 5, dtype=torch.double),
        torch.randn(4, 3, 5, 5, dtype=torch.double),
    )
    a, here, t = rows(step), context("alpha", epoch=1, step=step), 10 - 9.9 / 3
    mixture = gdas(idle=idle).relax({"cell": a}, here)
    drawn = mixture.weights["cell"].detach()
    loss = (slope * cell(inputs, mixture.cell("cell", 0))).sum()
    assert loss.item() == pytest.approx((slope * node(cell, inputs, drawn)).sum().item(), abs=1e-10)
    (found,) = torch.autograd.grad(loss, a)

    expected = torch.zeros_like(a)
    noise = -torch.empty_like(a).exponential_(generator=here.rng("one_path/cell")).log()
    for e, edge in enumerate(GROUP.edges):
        k = len(edge.primitives)
        p = ((a[e, :k].detach().log_softmax(0) + noise[e, :k]) / t).softmax(0)
        h = torch.zeros(k, dtype=torch.double)
        for i, name in enumerate(edge.primitives):
            own = (slope * run(cell, e, name, inputs[edge.source])).sum().detach()
            h[i] = own if drawn[e, i] else {"scalar": slope.sum(), "nothing": 0.0, "run": own}[idle]
        expected[e, :k] = (torch.diag(p) - p[:, None] * p) @ h / t
    assert (found - expected).abs().max() < 1e-10
    assert found[0].abs().sum() > 0 or (
        idle == "nothing" and drawn[0, 0]
    )  # `none` gives nothing either


def run(cell, edge, name, x):
    return (
        0 * x
        if name == "none"
        else cell.ops(edge, name)(x.relu() if primitive(name, 1).rectified else x)
    )


def node(cell, inputs, weights):
    outs = [
        weights[e, i] * run(cell, e, name, inputs[edge.source])
        for e, edge in enumerate(GROUP.edges)
        for i, name in enumerate(edge.primitives)
    ]
    return torch.stack(outs).sum(0)


def test_only_what_was_drawn_is_run():
    m = method("gdas", space("nasbench201", channels=2, cells=1, classes=4))
    state = m.start(seed=0, epochs=4, steps=3)
    net, group, mixture = (
        state.nets["search"],
        m.space.groups["cell"],
        m.mixture(state.alphas, m.context(state, "weight")),
    )
    convolutions, ran = group.columns(("nor_conv_1x1", "nor_conv_3x3")), []
    for edge, k in convolutions.nonzero().tolist():
        first, *_ = net.ops("cell", edge, group.edges[edge].primitives[k])
        first.register_forward_hook(lambda *_, place=[edge, k]: ran.append(place))
    net(torch.randn(2, 3, 8, 8, generator=generator("images")), mixture)
    assert ran and sorted(ran) == (mixture.active["cell"] & convolutions).nonzero().tolist()


def test_the_temperature_falls_linearly_and_the_readout_is_the_softmax():
    m = method("gdas", space("nasbench201", channels=2, cells=1))
    (t,) = m.patch.scalars.values()
    assert [t(context(epoch=epoch)) for epoch in range(4)] == pytest.approx([10, 6.7, 3.4, 0.1])
    state = m.start(seed=0, epochs=4, steps=3)
    a = state.alphas["cell"]
    assert (
        torch.allclose(m.readout(state).weights["cell"], a.softmax(1))
        and m.readout(state).active is None
    )


def test_in_the_space_of_darts_idle_ops_give_nothing():
    """As the authors' code for each space."""
    for name, zeros in (("darts", True), ("nasbench201", False)):
        m = method("gdas", space(name, channels=2, cells=1 if name == "nasbench201" else 3))
        state = m.start(seed=0, epochs=4, steps=3)
        mixture = m.mixture(state.alphas, m.context(state, "alpha"))
        group = next(iter(mixture.weights))
        weights = mixture.weights[group].detach().requires_grad_()
        logits = state.nets["search"](
            torch.randn(4, 3, 8, 8), replace(mixture, weights=mixture.weights | {group: weights})
        ).logits
        (found,) = torch.autograd.grad(logits.square().sum(), weights)
        idle = ~mixture.active[group] & m.space.groups[group].mask()
        assert (found[idle] == 0).all() == zeros and found[mixture.active[group]].any()


@pytest.mark.parametrize("name", ["gdas", "reinmax"])
@pytest.mark.parametrize("idle", ["scalar", "nothing", "run"])
def test_a_budget_reaches_all_alphas(name, idle):
    """Whatever idle ops tell of the loss, the expected cost of a draw has the gradient of its surrogate."""
    m = method(name, space("nasbench201"), idle=idle)
    state = m.start(seed=0, epochs=4, steps=3)
    mixture = m.mixture(state.alphas, m.context(state, "alpha"))
    cost = by_primitive(
        "macs",
        m.space.groups,
        {"skip_connect": 1.0, "nor_conv_1x1": 4.0, "nor_conv_3x3": 9.0, "avg_pool_3x3": 2.0},
    )
    (found,) = torch.autograd.grad(expected(cost, mixture, m.space.groups), state.alphas["cell"])
    assert (found.abs() > 1e-4).any(1).all()


@pytest.mark.parametrize("option", [{"hot": 0}, {"cold": -1}, {"idle": "all"}])
def test_bad_options(option):
    with pytest.raises(ValueError, match=f"gdas.{next(iter(option))}: "):
        method("gdas", space("nasbench201"), **option)
