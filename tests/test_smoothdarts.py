"""SmoothDARTS: the draw and the attack against the authors' rules written out, the ball, the batch, and what an attack must not touch."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from archgrad.arch.edges import Edge, EdgeGroup
from archgrad.arch.mixture import Mixture
from archgrad.components.context import Context, Progress
from archgrad.components.gradients import gradients
from archgrad.components.perturb import attack, clamped, noise, normalised
from archgrad.components.schedules import constant
from archgrad.methods import method
from archgrad.searching import checkpoint
from archgrad.searching.method import Method
from archgrad.searching.steps import weight_loss
from archgrad.spaces import space
from fakes import Noise
from searching import Record, content, resumed, same
from searching import run as searched

SMALL = {"channels": 2, "cells": 1, "classes": 4}
FORMS = ("random", "adversarial")
GROUPS = {
    "one": EdgeGroup("one", (Edge(0, 1, ("a", "b", "c")), Edge(0, 2, ("a", "b")), Edge(1, 2, ()))),
    "two": EdgeGroup("two", (Edge(0, 1, ("a", "b", "c", "d")),), cells=2),
}
AT = Context(GROUPS, Progress(1, 0, 4, 3, 0, 4), "weight", {}, 0)


def smoothdarts(space_name: str = "nasbench201", name: str = "smoothdarts", **options) -> Method:
    return method(name, space(space_name, **SMALL), smoothdarts=options)


def mixture(**more) -> Mixture:
    rows = [[0.7, 0.2, 0.1], [0.95, 0.05, 0.0], [0.0, 0.0, 0.0]]
    return Mixture(
        {"one": torch.tensor(rows), "two": torch.tensor([[[0.4, 0.3, 0.2, 0.1]], [[0.25] * 4]])},
        **more,
    )


def uphill(moved: Mixture) -> Tensor:
    """A loss that is not linear, so that a step's sign may change on the way."""
    return torch.stack(
        [
            (w * w * (1 + torch.arange(w.shape[-1]))).sum() + (3 * w).sin().sum()
            for w in moved.weights.values()
        ]
    ).sum()


@pytest.mark.parametrize("radius", [0.03, 0.3, 1.0])
@pytest.mark.parametrize(
    "perturb", [noise, lambda radius, settle: attack(radius, 7, settle)], ids=FORMS
)
def test_the_perturbation_stays_in_the_ball_and_keeps_padding(perturb, radius):
    before = mixture()
    ((share, found),) = perturb(constant(radius), clamped)(before, uphill, AT)
    assert share == 1
    for name, w in found.weights.items():
        away = (w - before.weights[name]).abs()
        assert away.max() <= radius + 1e-6 and w.min() >= 0 and w.max() <= 1
        assert away[GROUPS[name].mask().expand_as(w)].max() > 0.5 * radius * (radius < 1)
        assert not away[~GROUPS[name].mask().expand_as(w)].any()


@pytest.mark.parametrize(
    "perturb", [noise, lambda radius, settle: attack(radius, 7, settle)], ids=FORMS
)
def test_the_perturbation_keeps_the_sum_of_an_edge(perturb):
    """Also where that is not 1 (PC-DARTS), and only among the ops that run (GDAS)."""
    active = {
        "one": torch.tensor([[True, True, False], [True, False, False], [False] * 3]),
        "two": torch.ones(2, 1, 4, dtype=torch.bool),
    }
    before = replace(
        mixture(active=active), weights={name: 0.5 * w for name, w in mixture().weights.items()}
    )
    ((_, found),) = perturb(constant(0.3), normalised)(before, uphill, AT)
    for name, w in found.weights.items():
        assert torch.allclose(w.sum(-1), before.weights[name].sum(-1), atol=1e-6)
    assert found.weights["one"][0, 2] == before.weights["one"][0, 2]
    assert torch.allclose(
        found.weights["one"][1], before.weights["one"][1]
    )  # alone: there is nobody to give to
    assert found.active is active


def test_where_nothing_is_left_the_largest_has_it_all():
    moved, origin, free = (
        torch.tensor([[-0.2, -0.1, 9.0]]),
        torch.tensor([[0.5, 0.5, 0.0]]),
        torch.tensor([[True, True, False]]),
    )
    assert normalised(moved, origin, free).tolist() == [[0.0, 1.0, 0.0]]


def test_an_attack_finds_a_worse_mixture_or_keeps_the_one_it_had():
    ((_, found),) = attack(constant(0.3), 7)(mixture(), uphill, AT)
    assert uphill(found) > uphill(mixture())
    seen: list[float] = []

    def best_here(moved: Mixture) -> Tensor:
        loss = -sum(
            (w - mixture().weights[name]).square().sum() for name, w in moved.weights.items()
        )
        seen.append(loss.item())
        return (
            loss if len(seen) != 9 else loss + 1
        )  # whatever it finds, the last look says that here is worse

    ((_, kept),) = attack(constant(0.3), 7)(mixture(), best_here, AT)
    assert len(seen) == 9 and same(kept.weights, mixture().weights)


def by_hand(p: Tensor, draw: Tensor, r: float, loss, steps: int) -> Tensor:
    """The authors' rules on one group of plain edges: clip after the start and after every step, keep the worse."""

    def clip(q):
        q = q.clamp(0, 1)
        return q / q.sum(-1, keepdim=True)

    q = clip(p + r * (2 * draw - 1))
    for _ in range(steps):
        q = q.detach().requires_grad_()
        (slope,) = torch.autograd.grad(loss(q), q)
        q = clip(torch.minimum(torch.maximum(q.detach() + 2 * r / 7 * slope.sign(), p - r), p + r))
    return q if steps == 0 or loss(q) >= loss(p) else p


@pytest.mark.parametrize("form", FORMS)
def test_the_weights_gradient_is_the_papers(form):
    """dL_train(w, p + delta)/dw in float64, delta drawn or found on the training batch; the alphas' step knows nothing of it."""
    m = smoothdarts(form=form, start=0.2, end=0.2)
    state = m.start(seed=1, epochs=4, steps=3)
    net = state.nets["search"].double()
    rng = torch.Generator().manual_seed(3)
    state.alphas = {
        name: torch.randn(a.shape, dtype=torch.double, generator=rng).requires_grad_()
        for name, a in state.alphas.items()
    }
    (name, a), train = (
        next(iter(state.alphas.items())),
        next(Noise(dtype=torch.double).batches("train", 0)),
    )
    weights = dict(net.named_parameters())
    found = gradients(weight_loss(m, state, train, {name: a.detach()}, None)[0], weights)

    context, p = m.context(state, "weight"), a.detach().softmax(-1)
    draw = torch.rand(p.shape, generator=context.rng(f"perturb/{name}"), dtype=torch.double)

    def loss(q: Tensor) -> Tensor:
        return F.cross_entropy(net(train.images, Mixture({name: q})).logits, train.labels)

    expected = gradients(
        loss(by_hand(p, draw, 0.2, loss, 7 if form == "adversarial" else 0).detach()), weights
    )
    assert all(
        (found[key] - expected[key]).abs().max() < 1e-10
        for key in weights
        if expected[key] is not None
    )
    plain = m.mixture(state.alphas, m.context(state, "alpha"))
    assert torch.equal(plain.weights[name], a.softmax(-1))


def test_an_attack_sees_the_training_batch_and_leaves_no_trace():
    m = smoothdarts(form="adversarial", steps=3)
    state = m.start(seed=1, epochs=4, steps=3)
    net, train = state.nets["search"], next(Noise().batches("train", 0))
    seen: list[Tensor] = []
    net.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    buffers = []
    net.register_forward_hook(
        lambda module, inputs, output: buffers.append(
            {k: v.clone() for k, v in module.named_buffers()}
        )
    )
    before = {key: value.clone() for key, value in net.state_dict().items()}
    weight_loss(m, state, train, {name: a.detach() for name, a in state.alphas.items()}, None)
    assert len(seen) == 3 + 2 + 1 and all(images is train.images for images in seen)
    after = net.state_dict()
    assert all(torch.equal(after[key], before[key]) for key, _ in net.named_parameters())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in net.parameters())
    tracked = [key for key in buffers[0] if key.endswith("running_mean")]
    assert tracked and all(
        torch.equal(after[key], buffers[-1][key]) and not torch.equal(after[key], before[key])
        for key in tracked
    )
    counts = [key for key in buffers[0] if key.endswith("num_batches_tracked")]
    assert all(after[key] == before[key] + 1 for key in counts)


def test_a_draw_is_by_its_place():
    perturb = noise(constant(0.2))
    found = [
        perturb(mixture(), uphill, place)[0][1].weights["one"]
        for place in (AT, AT, AT._replace(progress=AT.progress._replace(step=1)))
    ]
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


@pytest.mark.parametrize("form", FORMS)
def test_radius_zero_is_darts_bit_for_bit(form):
    off, plain = (
        smoothdarts(form=form, start=0, end=0),
        method("darts", space("nasbench201", **SMALL)),
    )
    a, b = (content(m, searched(m).state) for m in (off, plain))
    assert same(a, b)


def test_an_attack_resumes_and_shows_its_radius(tmp_path):
    m = smoothdarts(form="adversarial", steps=1)
    record = Record()
    whole = searched(m, [record], epochs=3)
    assert [row["radius"] for row in record.rows] == pytest.approx([0.03, 0.12, 0.21])
    again, _ = resumed(m, ("step", 2, 1), tmp_path / "checkpoint.pt", epochs=3)
    assert same(checkpoint.pack(m, again.state), checkpoint.pack(m, whole.state))
