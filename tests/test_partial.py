"""Partial channels: the shuffle, the cell against a mixed op per edge written plainly, what is derived, what is refused."""

import json

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from archgrad.arch.edges import Edge, EdgeGroup
from archgrad.arch.mixture import Mixture
from archgrad.components.select import uniform_genotype
from archgrad.methods import method
from archgrad.spaces import SPACES, space
from archgrad.spaces.cells import Cell
from archgrad.spaces.partial_channels import rest, shuffle
from archgrad.spaces.primitives import Style, primitive
from fakes import Noise

DARTS = ("none", "max_pool_3x3", "skip_connect", "sep_conv_3x3", "dil_conv_3x3")


def shuffled(x, groups):
    """As its paper says: (groups, C / groups) transposed."""
    batch, channels, height, width = x.shape
    return (
        x.reshape(batch, groups, channels // groups, height, width)
        .transpose(1, 2)
        .reshape(batch, channels, height, width)
    )


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("channels", "k"), [(12, 4), (12, 6), (4, 4), (6, 1)])
def test_a_shuffle_and_its_inverse(channels, k, layout):
    torch.manual_seed(0)
    x = torch.randn(2, channels, 3, 5).contiguous(memory_format=layout)
    assert torch.equal(shuffle(x, k), shuffled(x, k))
    assert torch.equal(shuffle(shuffle(x, k), channels // k), x)
    # The next part has a channel of every group, in turn.
    assert torch.equal(
        shuffle(torch.arange(channels).view(1, -1, 1, 1), k).flatten()[:k],
        torch.arange(k) * (channels // k),
    )


def test_the_rest_is_pooled_as_the_ops_round():
    x = torch.arange(25.0).view(1, 1, 5, 5).repeat(1, 2, 1, 1)
    assert torch.equal(rest(x, 2, 2)[0, 0], torch.tensor([[6.0, 8, 9], [16, 18, 19], [21, 23, 24]]))
    assert torch.equal(rest(x[..., :4, :4], 2, 2), F.max_pool2d(x[:, 1:, :4, :4], 2, 2))
    assert torch.equal(rest(x, 2, 1), x[:, 1:])


def mixed(cell, group, index, x, row, factor, k):
    """The mixed op of one edge as in its authors' code, the edge factor over all of it."""
    edge = group.edges[index]
    stride = cell.stride if edge.source < len(cell.preprocess) else 1
    chosen, others = x[:, : x.shape[1] // k], x[:, x.shape[1] // k :]
    made = 0
    for weight, name in zip(row, edge.primitives):
        module = cell.ops(index, name)
        rectified = primitive(name, stride).rectified
        made = made + weight * (
            0 * module(chosen)
            if name == "none"
            else module(F.relu(chosen) if rectified else chosen)
        )
    if stride == 2:
        others = F.max_pool2d(others, 2, 2, ceil_mode=True)
    return factor * shuffled(torch.cat([made, others], 1), k)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [8, 7])
def test_a_cell_is_its_edges_mixed_ops(stride, size):
    torch.manual_seed(0)
    k = 4
    edges = (
        Edge(0, 2, DARTS),
        Edge(1, 2, DARTS[:3]),
        Edge(0, 3, DARTS[2:4]),
        Edge(1, 3, ()),
        Edge(2, 3, DARTS),
    )
    group = EdgeGroup("one", edges, (2, 3))
    cell = (
        Cell(group, [nn.Identity(), nn.Identity()], 8, stride, Style(), k)
        .double()
        .to(memory_format=torch.channels_last)
    )
    inputs = [
        torch.randn(3, 8, size, size + 1, dtype=torch.double, requires_grad=True) for _ in range(2)
    ]
    logits = torch.randn(5, 5, dtype=torch.double, requires_grad=True)
    factors = torch.rand(5, dtype=torch.double, requires_grad=True)
    rows = logits.masked_fill(~group.mask(), -1e300).softmax(1) * group.mask()
    padded = (
        rows * factors[:, None] + 99 * ~group.mask()
    )  # padding is nobody's, and removed edges let nothing by

    found = cell(
        [x.contiguous(memory_format=torch.channels_last) for x in inputs],
        Mixture({"one": padded}).cell("one", 0),
    )
    states = list(inputs)
    for incoming in ((0, 1), (2, 4)):
        states.append(
            sum(
                mixed(cell, group, e, states[edges[e].source], rows[e], factors[e], k)
                for e in incoming
            )
        )
    wanted = torch.cat(states[2:], 1)
    assert found.shape == (3, 16, -(-size // stride), -(-(size + 1) // stride))
    assert torch.allclose(found, wanted, atol=1e-12)

    learned = [*inputs, logits, factors, *cell.parameters()]
    cotangent = torch.randn_like(found)
    ours, theirs = (
        torch.autograd.grad(out, learned, cotangent, allow_unused=True, retain_graph=True)
        for out in (found, wanted)
    )
    for one, other in zip(ours, theirs, strict=True):
        assert (one is None) == (other is None)
        assert one is None or torch.allclose(one, other, atol=1e-10)


def test_unit_weights_and_nodes_without_inputs():
    torch.manual_seed(0)
    group = EdgeGroup(
        "one",
        (Edge(0, 1, ("skip_connect", "avg_pool_3x3")), Edge(0, 2, ()), Edge(1, 2, ())),
        (1, 2),
    )
    cell, x = Cell(group, [nn.Identity()], 4, 1, Style(), 2), torch.randn(2, 4, 6, 6)
    unit = cell([x])
    assert torch.equal(unit, cell([x], Mixture({"one": torch.ones(3, 2)}).cell("one", 0)))
    first, second = unit.split(4, 1)
    assert torch.equal(shuffle(first, 2)[:, 2:], 2 * x[:, 2:]) and not second.any()


def shallow(name):
    """Few cells, where depth is not searched."""
    return {"cells": 1 if name == "nasbench201" else 3} if "cells" in space(name).spec() else {}


@pytest.mark.parametrize("name", SPACES)
def test_it_is_an_option_of_every_space(name):
    base = space(name, channels=8, classes=4, **shallow(name))
    part = base.resized(partial_channels=4)
    assert base.resized(**json.loads(json.dumps(part.spec()))) == part
    counts = [sum(p.numel() for p in made.supernet().parameters()) for made in (part, base)]
    assert counts[0] < counts[1]
    net, images = part.supernet(), next(Noise(size=9).evaluation("val")).images
    mixture = Mixture(
        {
            g: torch.full((len(group.edges), group.width), 1 / group.width)
            for g, group in part.groups.items()
        }
    )
    output = net(images, mixture)
    assert (
        output.logits.isfinite().all() and net.feature_channels == base.supernet().feature_channels
    )
    assert [f.shape for f in output.features] == [
        f.shape for f in base.supernet()(images, mixture).features
    ]
    assert set(net.state_dict()) == set(base.supernet().state_dict())


@pytest.mark.parametrize("name", SPACES)
def test_a_derived_network_has_no_partial_channels(name):
    base = space(name)
    genotype = uniform_genotype(base.groups, 3)
    depth = {"cells": 1} if "cells" in base.spec() else {}
    derived = [
        made.derive(genotype, channels=8, **depth)
        for made in (base, base.resized(partial_channels=4))
    ]
    assert derived[0].space == derived[1].space and derived[1].space.spec()["partial_channels"] == 1
    assert [p.shape for p in derived[0].parameters()] == [p.shape for p in derived[1].parameters()]


@pytest.mark.parametrize("name", ["darts", "nasbench201"])
def test_channels_that_the_divisor_does_not_divide_are_refused(name):
    with pytest.raises(
        ValueError,
        match="channels is 16, which is no multiple of partial_channels 6: change one of them",
    ):
        space(name, partial_channels=6)
    with pytest.raises(
        ValueError, match="partial_channels must be a whole number of at least 1, not 0"
    ):
        space(name, partial_channels=0)


def test_the_evaluation_network_of_cdarts_has_no_partial_channels():
    base = space("nasbench201", channels=4, cells=1, classes=4)
    nets = method("cdarts", base).stepper.nets(base.resized(partial_channels=4))
    sizes = {
        name: nets[name].cells[0].edges["0_1"]["nor_conv_3x3"].conv.weight.shape[0]
        for name in ("search", "evaluation")
    }
    assert sizes == {"search": 1, "evaluation": 4}
