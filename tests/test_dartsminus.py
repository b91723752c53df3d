"""DARTS-: its auxiliary skip where it runs, what it weighs, and what it leaves alone."""

import pytest
import torch

from archgrad.arch.edges import Edge, EdgeGroup
from archgrad.arch.mixture import Mixture
from archgrad.components.context import Context, Progress
from archgrad.components.relax import softmax
from archgrad.components.schedules import constant
from archgrad.methods import method
from archgrad.methods.dartsminus import auxiliary_skip
from archgrad.searching import checkpoint
from archgrad.spaces import space
from archgrad.spaces.cells import Cell
from archgrad.spaces.primitives import FactorizedReduce, Style, primitive
from searching import DATA, run, same

SMALL = {"channels": 4, "cells": 3, "nodes": 2, "classes": 4}
NAMES = ("max_pool_3x3", "sep_conv_3x3", "skip_connect")


def at(groups, epoch=0, epochs=50):
    return Context(groups, Progress(epoch, 0, epochs, 3, 0, epochs), "alpha", {}, 0)


@pytest.mark.parametrize("stride", [1, 2])
def test_gradient_of_the_alphas_is_the_papers(stride):
    """L = |node|^2 / 2 with node = beta x + sum p_k o_k(x): dL/da_k = p_k (<node, o_k> - sum_j p_j <node, o_j>)."""
    torch.manual_seed(0)
    group = EdgeGroup("one", (Edge(0, 1, NAMES),), (1,), extras=("skip_connect",))
    cell = Cell(group, [torch.nn.Identity()], 4, stride, Style()).double()
    x, a = torch.randn(3, 4, 8, 8).double(), {"one": torch.randn(1, 3).double().requires_grad_()}
    mixture = auxiliary_skip(constant(0.7))(softmax(a, at({"one": group})), a, at({"one": group}))
    loss = cell([x], mixture.cell("one", 0)).square().sum() / 2
    (found,) = torch.autograd.grad(loss, a["one"])

    with torch.no_grad():
        ops = [
            cell.ops(0, name)(x.relu() if primitive(name, stride).rectified else x)
            for name in NAMES
        ]
        auxiliary = x if stride == 1 else cell.edges["0_1"]["extra_skip_connect"](x.relu())
        p = a["one"][0].softmax(0)
        node = 0.7 * auxiliary + sum(p_k * o for p_k, o in zip(p, ops))
        slopes = torch.stack([(node * o).sum() for o in ops])
        expected = p * (slopes - (p * slopes).sum())
    torch.testing.assert_close(found[0], expected, rtol=1e-10, atol=1e-10)


def test_at_a_reduction_edge_it_is_a_factorized_reduction_of_its_own():
    """Not the searched skip's, and it learns. Everywhere else it is the identity, which has no module of its own."""
    made = method("dartsminus", space("darts", **SMALL))
    start = made.start(seed=1, epochs=4, steps=3).nets["search"]
    edges = {
        (kind, place): ops
        for kind, cell in zip(start.kinds, start.cells)
        for place, ops in cell.edges.items()
    }
    own = {where: ops for where, ops in edges.items() if "extra_skip_connect" in ops}
    assert set(own) == {("reduce", place) for place in ("0_2", "1_2", "0_3", "1_3")}
    for ops in own.values():
        assert type(ops["extra_skip_connect"]) is FactorizedReduce
        assert not torch.equal(
            ops["extra_skip_connect"].conv1.weight, ops["skip_connect"].conv1.weight
        )
    after = dict(run(made).state.nets["search"].named_parameters())
    assert all(
        not torch.equal(after[name], value)
        for name, value in start.named_parameters()
        if "extra" in name
    )


def test_it_runs_on_edges_without_a_searched_skip_and_not_on_removed_ones():
    group = EdgeGroup(
        "one", (Edge(0, 1, ("sep_conv_3x3",)), Edge(0, 2, ())), (1, 2), extras=("skip_connect",)
    )
    cell, x = Cell(group, [torch.nn.Identity()], 4, 1, Style()), torch.randn(2, 4, 8, 8)
    none = Mixture({"one": torch.zeros(2, 1)})
    mixture = auxiliary_skip(constant(0.5))(none, {"one": torch.zeros(2, 1)}, at({"one": group}))
    first, second = cell([x], mixture.cell("one", 0)).split(4, 1)
    assert torch.equal(first, 0.5 * x) and not second.any()
    for runs in (
        True,
        False,
    ):  # beside GDAS, which draws an op of every edge; and where DARTS-PT has removed the edge
        sampled = Mixture({"one": torch.zeros(2, 1)}, {"one": torch.tensor([[runs], [False]])})
        mixture = auxiliary_skip(constant(0.5))(
            sampled, {"one": torch.zeros(2, 1)}, at({"one": group})
        )
        assert torch.equal(cell([x], mixture.cell("one", 0)).split(4, 1)[0], 0.5 * runs * x)


@pytest.mark.parametrize(
    ("decay", "expected"),
    [
        ("linear", {0: 1.0, 25: 0.5, 49: 0.02, 50: 0.0}),
        ("cosine", {0: 1.0, 25: 0.5, 40: 0.0954915}),
        ("constant", {0: 1.0, 49: 1.0}),
    ],
)
def test_beta_falls_over_the_search(decay, expected):
    beta = method("dartsminus", space("darts"), decay=decay).patch.scalars["auxiliary_skip"]
    for epoch, value in expected.items():
        assert beta(at({}, epoch)) == pytest.approx(value)
        assert beta(at({}, 2 * epoch, epochs=100)) == pytest.approx(value)


def test_the_selection_ignores_the_auxiliary_skip():
    made = method("dartsminus", space("darts", **SMALL), beta=100.0)
    state = made.start(seed=0, epochs=4, steps=3)
    plain = method("darts", space("darts", **SMALL)).start(seed=0, epochs=4, steps=3)
    assert made.genotype(state) == method("darts", space("darts", **SMALL)).genotype(plain)
    assert all(torch.equal(a, b) for a, b in zip(state.alphas.values(), plain.alphas.values()))
    assert made.readout(state).cell("normal", None).weights.shape[1] == 8
    assert made.readout(state).cell("normal", 0).weights.shape[1] == 9


def test_beta_0_is_darts_bit_for_bit():
    zero, darts = (
        method(name, space("darts", **SMALL), **options)
        for name, options in (("dartsminus", {"beta": 0.0}), ("darts", {}))
    )
    a, b = (checkpoint.pack(one, run(one).state) for one in (zero, darts))
    net, plain = (
        {key: value for key, value in one["nets"]["search"].items() if "extra" not in key}
        for one in (a, b)
    )
    assert same(net, plain) and same(a["alphas"], b["alphas"])
    assert len(a["nets"]["search"]) > len(net)  # they are there, and rest


def test_derived_networks_have_no_auxiliary_skip():
    made = method("dartsminus", space("darts", **SMALL))
    net = made.base.derive(
        made.genotype(made.start(seed=0, epochs=4, steps=3)), channels=4, cells=3
    )
    assert not [name for name in net.state_dict() if "extra" in name] and net(
        next(DATA.evaluation("val")).images
    ).shape == (8, 4)
