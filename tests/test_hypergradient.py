"""The alpha gradient, against autograd through the whole virtual step, in float64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from archgrad.arch.passes import Batch, Output
from archgrad.components.gradients import gradients
from archgrad.components.hypergradient import (
    Problem,
    finite_differences,
    first_order,
    second_order,
    step_of,
)
from fakes import Noise


class Tiny(nn.Module):
    """Three smooth ops of a 3-vector, mixed by the alphas: small enough to differentiate through a whole SGD step."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(3, 4) for _ in range(3))
        self.double()

    def forward(self, x, p):
        return sum(p[k] * torch.tanh(layer(x)) for k, layer in enumerate(self.layers))


def problem(momentum: float, nesterov: bool, steps_before: int = 2, optimizer_of=None):
    torch.manual_seed(0)
    net = Tiny()
    alphas = {"cell": torch.randn(3, dtype=torch.float64, requires_grad=True)}
    optimizer = torch.optim.SGD(
        net.parameters(), 0.3, momentum=momentum, nesterov=nesterov, weight_decay=0.01
    )
    optimizer = optimizer_of(net.parameters()) if optimizer_of else optimizer
    (xt, yt), (xv, yv) = (
        (torch.randn(6, 3, dtype=torch.float64), torch.randint(4, (6,))) for _ in range(2)
    )
    named = dict(net.named_parameters())

    def loss(x, y, a, w):
        arguments = (x, a["cell"].softmax(0))
        return F.cross_entropy(
            net(*arguments) if w is None else functional_call(net, dict(w), arguments), y
        )

    for _ in range(steps_before):  # so that there is momentum
        loss(xt, yt, {k: v.detach() for k, v in alphas.items()}, None).backward()
        optimizer.step()
        optimizer.zero_grad()
    return (
        Problem(
            net,
            alphas,
            named,
            optimizer,
            lambda a, w: (loss(xv, yv, a, w), None),
            lambda a, w: (loss(xt, yt, a, w), None),
        ),
        lambda a, w: loss(xt, yt, a, w),
        lambda a, w: loss(xv, yv, a, w),
    )


def exact(p: Problem, train, val):
    """d L_val(w'(a), a)/da with w'(a) written out as torch's SGD documents it, kept in the graph."""
    s = p.optimizer.param_groups[0]
    own = {name: w for name, w in p.weights.items()}
    slopes = torch.autograd.grad(train(p.alphas, own), list(own.values()), create_graph=True)
    ahead = {}
    for (name, w), g in zip(own.items(), slopes, strict=True):
        d = g + s["weight_decay"] * w
        if s["momentum"]:
            buffer = s["momentum"] * p.optimizer.state[w]["momentum_buffer"] + d
            d = d + s["momentum"] * buffer if s["nesterov"] else buffer
        ahead[name] = w - s["lr"] * d
    return torch.autograd.grad(val(p.alphas, ahead), p.alphas["cell"])[0]


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True)])
def test_second_order_is_autograd_through_the_virtual_step(momentum, nesterov):
    p, train, val = problem(momentum, nesterov)
    before = {name: w.detach().clone() for name, w in p.weights.items()}
    truth = exact(p, train, val)
    found, _ = second_order(p)
    torch.testing.assert_close(found["cell"], truth, rtol=1e-12, atol=1e-13)
    assert all(torch.equal(before[name], w) for name, w in p.weights.items()), (
        "the virtual step must stay virtual"
    )
    first, _ = first_order(p)
    assert (first["cell"] - truth).abs().max() > 1e-3, (
        "the correction must matter here, or the test proves nothing"
    )
    near, _ = finite_differences(p)
    torch.testing.assert_close(near["cell"], truth, rtol=1e-4, atol=1e-6)


ADAMS = {
    "Adam": lambda w: torch.optim.Adam(w, 0.05, betas=(0.8, 0.95), eps=1e-6),
    "Adam with decay": lambda w: torch.optim.Adam(w, 0.05, weight_decay=0.1),
    "AdamW": lambda w: torch.optim.AdamW(w, 0.05, betas=(0.5, 0.9), weight_decay=0.2),
}


def adam(p: Problem, slopes):
    """w' as torch documents Adam and AdamW, kept in the graph of the gradients."""
    s, ahead = p.optimizer.param_groups[0], {}
    apart, (b1, b2) = isinstance(p.optimizer, torch.optim.AdamW), s["betas"]
    for (name, w), g in zip(p.weights.items(), slopes, strict=True):
        kept, w = p.optimizer.state.get(w, {}), w.detach()
        count = float(kept["step"]) + 1 if kept else 1.0
        g = g if apart else g + s["weight_decay"] * w
        m = b1 * (kept["exp_avg"] if kept else 0.0) + (1 - b1) * g
        v = b2 * (kept["exp_avg_sq"] if kept else 0.0) + (1 - b2) * g**2
        w = w * (1 - s["lr"] * s["weight_decay"]) if apart else w
        ahead[name] = w - s["lr"] * (m / (1 - b1**count)) / (
            (v / (1 - b2**count)).sqrt() + s["eps"]
        )
    return ahead


@pytest.mark.parametrize("steps_before", [0, 3])
@pytest.mark.parametrize("name", ADAMS)
def test_second_order_goes_through_a_step_of_adam(name, steps_before):
    p, train, val = problem(0.0, False, steps_before, ADAMS[name])
    own = dict(p.weights)
    slopes = torch.autograd.grad(train(p.alphas, own), list(own.values()), create_graph=True)
    truth = torch.autograd.grad(val(p.alphas, adam(p, slopes)), p.alphas["cell"])[0]
    before = {name: w.detach().clone() for name, w in p.weights.items()}
    torch.testing.assert_close(second_order(p)[0]["cell"], truth, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(finite_differences(p)[0]["cell"], truth, rtol=1e-3, atol=1e-5)
    assert all(torch.equal(before[name], w) for name, w in p.weights.items())
    assert (first_order(p)[0]["cell"] - truth).abs().max() > 1e-4, (
        "the correction must matter here, or the test proves nothing"
    )


@pytest.mark.parametrize("name", ADAMS)
def test_the_virtual_step_is_where_adam_goes(name):
    p, train, _ = problem(0.0, False, 2, ADAMS[name])
    own = dict(p.weights)
    found = dict(
        zip(
            own,
            torch.autograd.grad(
                train({k: a.detach() for k, a in p.alphas.items()}, own), list(own.values())
            ),
            strict=True,
        )
    )
    ahead = step_of(p.optimizer)(p.optimizer, own, found)
    for weight, gradient in zip(own.values(), found.values(), strict=True):
        weight.grad = gradient
    p.optimizer.step()
    for key, weight in own.items():
        torch.testing.assert_close(
            ahead.weights[key].detach(), weight.detach(), rtol=1e-9, atol=1e-12
        )


@pytest.mark.parametrize(
    ("optimizer_of", "says"),
    [
        (
            lambda w: torch.optim.RMSprop(w, 0.1),
            "needs SGD, Adam or AdamW as the optimizer of the weights, not RMSprop",
        ),
        (lambda w: torch.optim.Adam(w, 0.1, amsgrad=True), "needs Adam without the option amsgrad"),
        (
            lambda w: torch.optim.SGD(w, 0.1, momentum=0.9, dampening=0.5),
            "needs SGD without the option dampening",
        ),
        (
            lambda w: torch.optim.SGD([{"params": [one]} for one in w], 0.1),
            "needs one group of parameters, but SGD has several",
        ),
    ],
)
def test_second_order_refuses_steps_it_does_not_know(optimizer_of, says):
    p, *_ = problem(0.0, False, 0, optimizer_of)
    first_order(p)
    for kind in (second_order, finite_differences):
        with pytest.raises(ValueError, match=says):
            kind(p)


def test_first_step_has_no_momentum_yet():
    p, train, val = problem(0.9, False, steps_before=0)
    own = p.weights
    slopes = torch.autograd.grad(train(p.alphas, own), list(own.values()), create_graph=True)
    ahead = {n: w - 0.3 * (g + 0.01 * w) for (n, w), g in zip(own.items(), slopes, strict=True)}
    truth = torch.autograd.grad(val(p.alphas, ahead), p.alphas["cell"])[0]
    torch.testing.assert_close(second_order(p)[0]["cell"], truth, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("kind", ["first_order", "second_order", "finite_differences"])
@pytest.mark.parametrize("name", ["darts", "nasbench201"])
def test_on_a_supernet_it_moves_no_statistics_and_no_weights(name, kind):
    """BatchNorm statistics move with the two ordinary passes of a step only, not with the passes that probe."""
    import archgrad

    own = {"cells": 3, "nodes": 2} if name == "darts" else {"cells": 1}
    sizes = {"channels": 4, "classes": 4, **own}
    data = Noise()
    train, val = (next(data.batches(split, 0)) for split in ("train", "val"))
    counts = {}
    for which in {"first_order", kind}:
        m = archgrad.method("darts", archgrad.space(name, **sizes), hypergradient=which)
        state = m.start(seed=0, epochs=2, steps=3)
        m.begin_epoch(state)
        m.step(state, train, val)
        counts[which] = sum(
            int(b)
            for n, b in state.nets["search"].named_buffers()
            if n.endswith("num_batches_tracked")
        )
        assert all(p.requires_grad and p.grad is None for p in state.nets["search"].parameters())
    passes = counts["first_order"] // 2
    assert counts[kind] == (2 * passes if kind == "first_order" else passes)


def test_second_order_on_a_real_supernet_equals_autograd():
    """The whole chain, batch statistics and depthwise convolutions included, in float64."""
    import archgrad
    from archgrad.components.context import Context
    from archgrad.components.relax import softmax

    space = archgrad.space(
        "darts",
        channels=2,
        cells=1,
        nodes=1,
        classes=4,
        primitives=("skip_connect", "sep_conv_3x3", "dil_conv_3x3"),
    )
    m = archgrad.method("darts", space)
    state = m.start(seed=0, epochs=2, steps=3)
    net = state.nets["search"].double()
    alphas = {
        name: (1000 * a.detach().double()).requires_grad_() for name, a in state.alphas.items()
    }
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9, weight_decay=1e-3)
    data = Noise(dtype=torch.float64)
    train, val = (next(data.batches(split, 0)) for split in ("train", "val"))

    def loss(batch: Batch, a, w):
        mixture = softmax(a, Context(space.groups, None, "alpha", {}, 0))
        arguments = (batch.images, mixture)
        output: Output = net(*arguments) if w is None else functional_call(net, dict(w), arguments)
        return F.cross_entropy(output.logits, batch.labels)

    named = dict(net.named_parameters())
    slopes = gradients(loss(train, alphas, named), named, create_graph=True)
    ahead = {
        n: w if slopes[n] is None else w - 0.1 * (slopes[n] + 1e-3 * w) for n, w in named.items()
    }
    truth = gradients(loss(val, alphas, ahead), alphas, zeros=True)
    p = Problem(
        net,
        alphas,
        named,
        optimizer,
        lambda a, w: (loss(val, a, w), None),
        lambda a, w: (loss(train, a, w), None),
    )
    found, _ = second_order(p)
    for name in truth:
        torch.testing.assert_close(found[name], truth[name], rtol=1e-9, atol=1e-12)
