"""PC-DARTS: what the softmax over a node's inputs does to mixture and selection, frozen first epochs, an alpha gradient by hand."""

import pytest
import torch
import torch.nn.functional as F

from archgrad.arch.edges import Edge, EdgeGroup
from archgrad.components.context import Context, Progress
from archgrad.components.select import strongest_genotype
from archgrad.methods import method
from archgrad.methods.pcdarts import edge_softmax
from archgrad.searching.loop import initial_state
from archgrad.searching.steps import alpha_step
from archgrad.spaces import space
from fakes import Noise
from searching import Watch, content, run, same

SMALL = {
    "nasbench201": {"channels": 4, "cells": 1, "classes": 4},
    "darts": {"channels": 4, "cells": 3, "nodes": 2, "classes": 4},
}


def made(space_name="nasbench201", **options):
    return method("pcdarts", space(space_name, **SMALL[space_name]), **options)


def readout(group):
    return Context({group.name: group}, Progress(0, 0, 1, 1, 0, 1), "readout", {}, 0)


def test_shares_of_a_nodes_inputs():
    two = ("skip_connect", "sep_conv_3x3")
    group = EdgeGroup(
        "one",
        (
            Edge(0, 1, two),
            Edge(0, 2, two),
            Edge(1, 2, two),
            Edge(0, 3, ()),
            Edge(1, 3, two),
            Edge(0, 4, ()),
        ),
    )
    logits = torch.tensor([5.0, 1.0, 2.0, 9.0, -3.0, 1.0], requires_grad=True)
    shares = edge_softmax(logits, group)
    expected = torch.cat(
        [torch.ones(1), torch.tensor([1.0, 2.0]).softmax(0), torch.tensor([0.0, 1.0, 0.0])]
    )
    assert torch.allclose(
        shares, expected
    )  # one input: 1, whatever its logit; a removed edge takes nothing
    (slope,) = torch.autograd.grad(
        (shares * torch.randn(6, generator=torch.Generator().manual_seed(0))).sum(), logits
    )
    assert (slope != 0).tolist() == [False, True, True, False, False, False]


def test_selection_is_on_alpha_times_edge():
    """The edge with the strongest op alone loses to the one its node reads more."""
    two = ("max_pool_3x3", "sep_conv_3x3")
    group = EdgeGroup(
        "one", tuple(Edge(source, 3, two) for source in range(3)), concat=(3,), keep=2
    )
    alphas = {
        "one": torch.tensor([[3.0, 0.0], [0.0, 1.0], [1.0, 0.0]]),
        "one/edge": torch.tensor([-2.0, 1.0, 1.0]),
    }
    m = method("pcdarts", space("nasbench201"), partial=1)
    chosen = {}
    for edges in (True, False):
        mixture = m.relax(alphas, readout(group))
        for reshape in m.patch.reshape if edges else ():
            mixture = reshape(mixture, alphas, readout(group))
        chosen[edges] = [
            (link.source, link.primitive)
            for link in strongest_genotype(mixture, {"one": group}).cells[0].links
        ]
    assert chosen == {
        True: [(1, "sep_conv_3x3"), (2, "max_pool_3x3")],
        False: [(0, "max_pool_3x3"), (1, "sep_conv_3x3")],
    }


@pytest.mark.parametrize(
    ("frozen", "epochs", "first"), [(0.3, 50, 15), (0.3, 4, 1), (2, 4, 2), (0, 4, 0)]
)
def test_alphas_rest_in_the_first_epochs(frozen, epochs, first):
    m = made(frozen=frozen)
    assert m.alpha_from(epochs) == first
    if epochs > 4:
        return
    start = initial_state(m, Noise(), epochs, seed=1)
    moved = []

    def look(method, state, done):
        moved.append(
            (
                state.epoch,
                [
                    not torch.equal(state.alphas[name], start.alphas[name])
                    for name in ("cell", "cell/edge")
                ],
            )
        )

    run(m, [Watch(look)], epochs=epochs)
    assert all(all(both) == any(both) == (epoch >= first) for epoch, both in moved)


def test_too_late_is_refused():
    with pytest.raises(
        ValueError, match=r"pcdarts.frozen is 4, but the search has 4 epochs: choose at most 3"
    ):
        initial_state(made(frozen=4), Noise(), 4)
    with pytest.raises(
        ValueError,
        match="pcdarts does not fit space 'nasbench201': channels is 4, which is no multiple of partial_channels 3",
    ):
        initial_state(made(partial=3), Noise(), 4)


@pytest.mark.parametrize("space_name", SMALL)
def test_without_its_parts_it_is_darts_bit_for_bit(space_name):
    as_darts = {"weights": {"lr": 0.025, "lr_end": 0.001}, "alphas": {"lr": 3e-4}}
    plain = method("darts", space(space_name, **SMALL[space_name]), alphas={"lr": 3e-4})
    ours = made(space_name, pcdarts={"partial": 1, "edges": False, "frozen": 0}, **as_darts)
    a, b = (content(m, run(m, epochs=2).state) for m in (plain, ours))
    assert same(a, b)


@pytest.mark.parametrize("space_name", SMALL)
def test_alpha_gradients_are_the_papers(space_name):
    """Float64. With p = softmax(a), q = softmax over a node's inputs and the edge's weights p q: dL/da = q J(p) g and dL/db = J(q) h, where
    g = dL/d(p q) and h = the sum over ops of p g."""
    m = made(space_name, frozen=0, partial=2)
    state = initial_state(m, Noise(), 4, seed=3)
    state.nets["search"].double()
    rng = torch.Generator().manual_seed(0)
    state.alphas = {
        name: torch.randn(a.shape, dtype=torch.double, generator=rng).requires_grad_()
        for name, a in state.alphas.items()
    }
    state.optimizers = m.stepper.optimizers(m, state)
    train, val = (next(Noise(dtype=torch.double).batches(split, 0)) for split in ("train", "val"))
    before = {name: a.detach().clone() for name, a in state.alphas.items()}
    mixture = m.mixture(before, m.context(state, "alpha")).map(lambda w: w.requires_grad_())
    loss = F.cross_entropy(state.nets["search"](val.images, mixture).logits, val.labels)
    slopes = dict(zip(mixture.weights, torch.autograd.grad(loss, list(mixture.weights.values()))))
    alpha_step(m, state, train, val)
    for name, group in state.space.groups.items():
        p, q = before[name].softmax(1), torch.zeros(len(group.edges), dtype=torch.double)
        by_edge = torch.zeros_like(q)
        for edges in group.nodes().values():
            q[edges] = before[f"{name}/edge"][edges].softmax(0)
        g = slopes[name] * q[:, None]
        wanted = p * (g - (p * g).sum(1, keepdim=True))
        h = (p * slopes[name]).sum(1)
        for edges in group.nodes().values():
            by_edge[edges] = q[edges] * (h[edges] - (q[edges] * h[edges]).sum())
        for key, gradient in ((name, wanted), (f"{name}/edge", by_edge)):
            # Adam's first moment after one step is (1 - beta1) times the gradient with its decay.
            seen = (
                state.optimizers["alphas"].state[state.alphas[key]]["exp_avg"]
                / (1 - m.alphas.beta1)
                - m.alphas.decay * before[key]
            )
            assert torch.allclose(seen, gradient, atol=1e-10) and gradient.abs().max() > 1e-6
