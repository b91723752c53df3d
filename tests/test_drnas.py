"""DrNAS: the distribution that is drawn from, its pathwise gradient, what is excluded, the two anchors."""

import json

import pytest
import torch
import torch.nn.functional as F
from scipy import special
from torch.distributions import Dirichlet, kl_divergence

from archgrad import run as run_module
from archgrad.arch.edges import Edge, EdgeGroup
from archgrad.components.context import Context, Progress
from archgrad.components.relax import (
    LEAST_CONCENTRATION,
    concentration,
    dirichlet,
    dirichlet_mean,
    softmax,
)
from archgrad.methods import method
from archgrad.methods.drnas import drnas
from archgrad.run import config
from archgrad.run.folder import RunFolder
from archgrad.searching import checkpoint
from archgrad.searching.loop import initial_state
from archgrad.searching.steps import alpha_step
from archgrad.seeds import generator
from archgrad.spaces import space
from fakes import Noise
from searching import DATA, run

FIVE = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
# Inputs of one node: all ops, fewer (padded), two, none to choose, a removed edge.
GROUP = EdgeGroup(
    "cell",
    (
        Edge(0, 5, FIVE),
        Edge(1, 5, FIVE[2:]),
        Edge(2, 5, FIVE[:2]),
        Edge(3, 5, FIVE[1:2]),
        Edge(4, 5, ()),
    ),
    concat=(5,),
)
BASE = {"channels": 4, "cells": 1, "classes": 4}


def context(phase="alpha", epoch=0, step=0, group=GROUP):
    return Context({group.name: group}, Progress(epoch, step, 4, 100_000, 0, 4), phase, {}, 0)


def logits(group=GROUP, scale=1.0, dtype=torch.double):
    rows = scale * torch.randn(
        len(group.edges), group.width, dtype=torch.double, generator=generator(0, "rows")
    )
    return (rows * group.mask()).to(dtype).requires_grad_()


def repeated(times):
    """The edges again and again: each is drawn for itself."""
    edges = [edge.primitives for _ in range(times) for edge in GROUP.edges]
    last = len(edges)
    return EdgeGroup(
        "cell",
        tuple(Edge(source, last, primitives) for source, primitives in enumerate(edges)),
        concat=(last,),
    )


def test_concentrations_are_elu_plus_one():
    a = torch.linspace(-6, 6, 25, dtype=torch.double, requires_grad=True)
    c = concentration(a)
    assert torch.allclose(c, F.elu(a) + 1, atol=1e-15)
    ours, theirs = (torch.autograd.grad(out.sum(), a)[0] for out in (c, F.elu(a) + 1))
    assert torch.allclose(ours, theirs, atol=1e-15)
    assert (
        concentration(torch.tensor([-30.0, -1e4])).tolist()
        == [pytest.approx(LEAST_CONCENTRATION)] * 2
    )


@pytest.mark.parametrize("phase", ["weight", "alpha"])
def test_draws_have_the_mean_that_selection_reads(phase):
    a, copies, steps = {"cell": logits(dtype=torch.float32).detach()}, 100, 40
    draws = copies * steps
    mean = dirichlet_mean(a, context("readout")).weights["cell"]
    many, rows = repeated(copies), {"cell": a["cell"].repeat(copies, 1)}
    seen = torch.cat(
        [
            dirichlet(rows, context(phase, step=step, group=many))
            .weights["cell"]
            .view(copies, *a["cell"].shape)
            for step in range(steps)
        ]
    )
    assert torch.allclose(
        seen.mean(0), mean, atol=5 * 0.5 / draws**0.5
    )  # five standard deviations of the widest
    c = concentration(a["cell"]) * GROUP.mask()
    total = c.sum(1, keepdim=True)
    variance = (mean * (1 - mean) / (total + 1))[:3]
    assert torch.allclose(seen[:, :3].var(0), variance, atol=0.02)


def test_what_an_edge_does_not_have_is_excluded_exactly():
    for scale in (1.0, 20.0):
        mixture = dirichlet({"cell": logits(scale=scale, dtype=torch.float32)}, context()).weights[
            "cell"
        ]
        assert torch.equal(mixture[~GROUP.mask()], torch.zeros(int((~GROUP.mask()).sum())))
        assert torch.allclose(mixture.sum(1), torch.tensor([1.0, 1.0, 1.0, 1.0, 0.0]))
        assert mixture[3, 0] == 1 and torch.isfinite(mixture).all()
    a = logits()
    cotangent = torch.randn(5, 5, dtype=torch.double, generator=generator(1, "cotangent"))
    for relax in (dirichlet, dirichlet_mean):
        (slope,) = torch.autograd.grad(
            (relax({"cell": a}, context()).weights["cell"] * cotangent).sum(), a
        )
        assert (
            not slope[~GROUP.mask()].any()
            and not slope[3:].any()
            and slope[:3][GROUP.mask()[:3]].all()
        )


def test_each_half_of_a_step_draws_its_own_and_the_global_generator_stays():
    a = {"cell": logits().detach()}
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    one, again, other, later = (
        dirichlet(a, context(phase, step=step)).weights["cell"]
        for phase, step in (("alpha", 1), ("alpha", 1), ("weight", 1), ("alpha", 2))
    )
    assert torch.equal(one, again) and not torch.equal(one, other) and not torch.equal(one, later)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_gradient_of_two_ops_is_that_of_a_beta_variable():
    """``dx/dc = -(dF/dc)(x; c) / density(x; c)``, the derivative of the quantile at a fixed probability."""
    group = EdgeGroup("cell", tuple(Edge(source, 9, FIVE[:2]) for source in range(8)), concat=(9,))
    a = logits(group)
    x = dirichlet({"cell": a}, context(group=group)).weights["cell"]
    (slope,) = torch.autograd.grad(x[:, 0].sum(), a)
    c, at, step = concentration(a).detach(), x[:, 0].detach().numpy(), 1e-6
    (p, q), (up, down) = c.T.numpy(), (step, -step)
    density = at ** (p - 1) * (1 - at) ** (q - 1) / special.beta(p, q)
    by_p = (
        -(special.betainc(p + up, q, at) - special.betainc(p + down, q, at)) / (2 * step) / density
    )
    by_q = (
        -(special.betainc(p, q + up, at) - special.betainc(p, q + down, at)) / (2 * step) / density
    )
    by_c = torch.stack([torch.as_tensor(by_p), torch.as_tensor(by_q)], 1)
    assert torch.allclose(
        slope, by_c * torch.where(a > 0, 1.0, a.exp()).detach(), rtol=2e-3
    )  # torch approximates it


@pytest.mark.parametrize("anchor", ["l2", "kl"])
def test_the_alpha_gradient_is_the_papers(anchor):
    """Float64. With g = dL/dp at the drawn p and D the pathwise derivative of each p[k] by its own concentration:
    ``dL/dc = D (g - sum over ops of p g)``, ``dc/da = exp(a)`` below 0 and 1 above; then the anchor's."""
    strength = 0.1
    m = method("drnas", space("nasbench201", **BASE), anchor=anchor, strength=strength)
    state = initial_state(m, DATA, 4, seed=3)
    state.nets["search"].double()
    a = torch.randn(6, 5, dtype=torch.double, generator=generator(2, "alphas"))
    state.alphas = {"cell": a.clone().requires_grad_()}
    state.optimizers = m.stepper.optimizers(m, state)
    train, val = (next(Noise(dtype=torch.double).batches(split, 0)) for split in ("train", "val"))
    mixture = m.mixture({"cell": a}, m.context(state, "alpha")).map(lambda w: w.requires_grad_())
    loss = F.cross_entropy(state.nets["search"](val.images, mixture).logits, val.labels)
    (g,) = torch.autograd.grad(loss, mixture.weights["cell"])
    alpha_step(m, state, train, val)
    p, c = mixture.weights["cell"].detach(), F.elu(a) + 1
    pathwise = torch._dirichlet_grad(p, c, c.sum(1, keepdim=True).expand_as(c))
    wanted = pathwise * (g - (p * g).sum(1, keepdim=True)) * torch.where(a > 0, 1.0, a.exp())
    assert wanted.abs().max() > 1e-6
    if anchor == "l2":
        assert m.alphas.decay == strength
        wanted = wanted + strength * a
    else:
        assert m.alphas.decay == 0
        free = a.clone().requires_grad_()
        divergence = kl_divergence(
            Dirichlet(F.elu(free) + 1), Dirichlet(torch.ones_like(free))
        ).sum()
        wanted = wanted + strength * torch.autograd.grad(divergence, free)[0]
    seen = state.optimizers["alphas"].state[state.alphas["cell"]]["exp_avg"] / (1 - m.alphas.beta1)
    assert torch.allclose(seen, wanted, atol=1e-10)


@pytest.mark.parametrize("name", ["s1", "nasbench201"])
def test_the_divergence_is_of_an_edges_own_ops(name):
    base = space(name, channels=2, cells=1 if name == "nasbench201" else 3, classes=4)
    found = run(method("drnas", base, anchor="kl", strength=1.0, alphas={"lr": 0.05}), epochs=1)
    rows = [
        (a, e)
        for group in base.groups.values()
        for a, e in zip(found.state.alphas[group.name].detach(), group.edges, strict=True)
    ]
    value = sum(
        kl_divergence(
            Dirichlet(F.elu(a[: len(e.primitives)]) + 1), Dirichlet(torch.ones(len(e.primitives)))
        )
        for a, e in rows
        if len(e.primitives) > 1
    )
    (term,) = drnas(anchor="kl", strength=1.0).alpha_terms
    from archgrad.arch.passes import Output
    from archgrad.components.context import Forward

    here = Context(base.groups, Progress(0, 0, 1, 1, 0, 1), "alpha", {}, 0)
    passed = Forward(found.state.alphas, None, Output(torch.zeros(1, 4)), None, None, here, None)  # type: ignore[arg-type]
    assert torch.allclose(term(passed), value, rtol=1e-3) and (name == "s1" or value > 0)


def test_presets_and_readouts():
    settings = [method("drnas", space(name)) for name in ("darts", "nasbench201")]
    assert [(m.weights.lr, m.weights.lr_end, m.alphas.lr, m.alphas.decay) for m in settings] == [
        (0.1, 0, 6e-4, 1e-3),
        (0.025, 1e-3, 3e-4, 1e-3),
    ]
    # Within an edge both order ops alike; across edges they need not.
    group = EdgeGroup(
        "cell",
        (
            Edge(0, 2, ("skip_connect", "max_pool_3x3")),
            Edge(1, 2, ("skip_connect", "max_pool_3x3")),
        ),
        (2,),
        keep=1,
    )
    a = {"cell": torch.tensor([[5.0, 3.0], [-1.0, -2.9]])}
    chosen = {}
    for readout in ("mean", "softmax"):
        patch = drnas(readout=readout)
        weights = patch.readout(a, context("readout", group=group)).weights["cell"]
        assert weights.argmax(1).tolist() == [0, 0] and torch.allclose(
            weights.sum(1), torch.ones(2)
        )
        chosen[readout] = int(weights.amax(1).argmax())
    assert chosen == {"mean": 1, "softmax": 0}
    assert drnas().readout is softmax  # as the authors' code


def test_a_checkpoint_from_python_holds_the_options():
    """So a search with the other readout cannot go on from it."""
    made = {
        name: method("drnas", space("nasbench201", **BASE), readout=name)
        for name in ("mean", "softmax")
    }
    content = checkpoint.pack(made["mean"], initial_state(made["mean"], DATA, 1))
    recorded = json.loads(content["identity"])["options"]["drnas"]
    assert recorded["readout"] == "mean" and recorded["anchor"] == "l2"
    with pytest.raises(ValueError, match=r"options\.drnas\.readout 'mean', and this method has"):
        checkpoint.restore(made["softmax"], content)


def test_a_recorded_run_keeps_the_mean(tmp_path):
    folder = RunFolder(tmp_path)
    said = "method: drnas+progressive\nspace:\n  name: nasbench201\n"
    for own, readout in (
        ("", dirichlet_mean),
        ("drnas:\n  anchor: kl\n", dirichlet_mean),
        ("drnas:\n  readout: softmax\n", softmax),
    ):
        folder.config.write_text(said + own)
        assert run_module.build(folder.read_settings()).patch.readout is readout
    assert run_module.build(config.read(("", {"method": "drnas"}))).patch.readout is softmax
