"""Introspective distillation: the heads against the authors' layers, the distances against the released formulas."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from archgrad.arch.passes import Output
from archgrad.methods.cdarts_heads import DISTANCES, Head, Heads
from archgrad.seeds import generator

K = 5


def drawn(*shape: int, place: str = "introspection") -> torch.Tensor:
    return torch.randn(*shape, generator=generator(place, *shape), dtype=torch.float64)


def authors_layers(channels: int, window: int) -> nn.Sequential:
    """The released head, layer by layer."""
    return nn.Sequential(
        nn.ReLU(),
        nn.AvgPool2d(window, stride=2, padding=0, count_include_pad=False),
        nn.Conv2d(channels, 128, 1, bias=False),
        nn.BatchNorm2d(128, affine=False),
        nn.ReLU(),
        nn.Conv2d(128, 768, 2, bias=False),
        nn.BatchNorm2d(768, affine=False),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(768, K),
    )


def twins(channels: int, window: int) -> tuple[Head, nn.Sequential]:
    """The same head twice, in float64."""
    torch.manual_seed(0)
    ours, theirs = Head(channels, K, window).double(), authors_layers(channels, window).double()
    pairs = (
        (ours.conv1, theirs[2]),
        (ours.bn1, theirs[3]),
        (ours.conv2, theirs[5]),
        (ours.bn2, theirs[6]),
        (ours.classifier, theirs[10]),
    )
    for mine, other in pairs:
        other.load_state_dict(mine.state_dict())
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())
    return ours, theirs


@pytest.mark.parametrize(
    ("side", "window"),
    [(16, 6), (8, 6), (14, 6), (7, 5)],
    ids=["CIFAR stage 1", "CIFAR stage 2", "ImageNet stage 1", "ImageNet stage 2"],
)
def test_a_head_is_the_authors_at_their_sizes(side, window):
    """Training mode, the running statistics it leaves, and evaluation mode."""
    ours, theirs = twins(12, window)
    x = drawn(3, 12, side, side)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x), rtol=1e-12, atol=1e-13)


def small_head(head: Head, x: torch.Tensor) -> torch.Tensor:
    """Where one pixel is left: it meets the first of the four taps, zeros the others."""
    x = F.batch_norm(
        x.relu().mean((2, 3)) @ head.conv1.weight[:, :, 0, 0].T, None, None, training=True
    ).relu()
    x = F.batch_norm(x @ head.conv2.weight[:, :, 0, 0].T, None, None, training=True).relu()
    return x @ head.classifier.weight.T + head.classifier.bias


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (4, 4), (5, 5), (3, 6), (1, 2)], ids=str)
def test_a_small_image_is_pooled_whole_and_padded(size):
    ours, _ = twins(12, 6)
    x = drawn(4, 12, *size)
    torch.testing.assert_close(ours(x), small_head(ours, x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("size", [(8, 4), (4, 8), (7, 7), (9, 2)], ids=str)
def test_between_small_and_32_only_what_lacks_is_padded(size):
    ours, theirs = twins(12, 6)
    x = drawn(4, 12, *size)
    window = [min(6, side) for side in size]
    pooled = theirs[4](theirs[3](theirs[2](F.avg_pool2d(x.relu(), window, 2))))
    padded = torch.zeros(4, 128, *(max(2, side) for side in pooled.shape[2:]), dtype=x.dtype)
    padded[:, :, : pooled.shape[2], : pooled.shape[3]] = pooled
    torch.testing.assert_close(ours(x), theirs[5:](padded), rtol=1e-12, atol=1e-12)


# The ensemble.


def heads(frozen: bool = True, learned: bool = True, summed: bool = False, windows=(6, 5)) -> Heads:
    torch.manual_seed(0)
    return Heads((8, 12), K, windows, frozen, learned, summed).double()


def output(place: str) -> Output:
    return Output(
        drawn(4, K, place=place),
        (drawn(4, 8, 16, 16, place=place), drawn(4, 12, 7, 7, place=place), drawn(4, 9, 4, 4)),
    )


@pytest.mark.parametrize("learned", [True, False])
def test_the_three_logits_are_concatenated_or_summed(learned):
    """Weights softmax(r); stage 1, stage 2, the classifier, in this order; each head has its own window."""
    both, said = heads(learned=learned), output("one")
    first, second = both.stages
    assert (first.window, second.window) == (6, 5)
    e = [math.exp(r) for r in both.ensemble.tolist()]
    parts = [
        w / sum(e) * z
        for w, z in zip(
            e, (first(said.features[0]), second(said.features[1]), said.logits), strict=True
        )
    ]
    torch.testing.assert_close(both(said), torch.cat(parts, dim=0))
    torch.testing.assert_close(
        heads(learned=learned, summed=True)(said), parts[0] + parts[1] + parts[2]
    )
    assert both(said).shape == (12, K)


def test_the_weights_of_the_ensemble():
    """rand(3) / 3 learned, or a third each and nobody's to move."""
    learned, fixed = heads().ensemble, heads(learned=False).ensemble
    assert (
        learned.requires_grad
        and (learned >= 0).all()
        and (learned <= 1 / 3).all()
        and len(set(learned.tolist())) == 3
    )
    assert not fixed.requires_grad and fixed.softmax(0).tolist() == pytest.approx([1 / 3] * 3)
    many = torch.cat(
        [Heads((1, 1), 2, (2, 2), True, True, False).ensemble.detach() for _ in range(300)]
    )
    assert (
        many.max() > 0.32
        and many.min() < 0.01
        and many.mean().item() == pytest.approx(1 / 6, abs=0.02)
    )


@pytest.mark.parametrize("frozen", [True, False])
def test_no_optimizer_has_the_parameters_of_frozen_heads(frozen):
    both = heads(frozen=frozen)
    assert {p.requires_grad for p in both.stages.parameters()} == {not frozen}
    assert not any(isinstance(m, nn.BatchNorm2d) and m.affine for m in both.modules())


def test_answers_are_float32_at_least():
    said = Output(
        torch.randn(4, K, dtype=torch.bfloat16),
        (torch.randn(4, 8, 16, 16), torch.randn(4, 12, 7, 7)),
    )
    assert (
        heads().float()(said).dtype == torch.float32
        and heads()(output("one")).dtype == torch.float64
    )


# The distances. Released code: kd_loss of the student's answers against the teacher's, times T^2.


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides")
@pytest.mark.parametrize("tau", [1.0, 2.0, 5.0])
def test_soft_divergence_is_the_released_one(tau):
    """nn.KLDivLoss's mean runs over classes too; the paper's batch mean is K times that."""
    student, teacher = (
        drawn(6, K, place="student").requires_grad_(),
        drawn(6, K, place="teacher").requires_grad_(),
    )
    released = nn.KLDivLoss()(
        F.log_softmax(student / tau, dim=1), F.softmax(teacher / tau, dim=1)
    ) * (tau * tau)
    ours, batch = (
        DISTANCES["kl"](tau, "all")(student, teacher),
        DISTANCES["kl"](tau, "batch")(student, teacher),
    )
    torch.testing.assert_close(ours, released, rtol=1e-12, atol=0)
    torch.testing.assert_close(batch, K * released, rtol=1e-12, atol=0)
    for tensor in (student, teacher):
        slopes = (
            torch.autograd.grad(loss, tensor, retain_graph=True)[0] for loss in (ours, released)
        )
        torch.testing.assert_close(*slopes, rtol=1e-11, atol=1e-15)


def test_soft_divergence_by_hand():
    """T^2 / N * sum p_E log(p_E / q_S), with p_E = (2/3, 1/3) and q_S = (1/2, 1/2) in the first row, no difference in the second."""
    teacher, student = (
        torch.tensor([[2.0, 1.0], [1.0, 1.0]], dtype=torch.float64).log(),
        torch.zeros(2, 2, dtype=torch.float64),
    )
    one = 2 / 3 * math.log(4 / 3) + 1 / 3 * math.log(2 / 3)
    assert DISTANCES["kl"](1.0, "batch")(student, teacher).item() == pytest.approx(one / 2)
    assert DISTANCES["kl"](2.0, "batch")(student, 2 * teacher).item() == pytest.approx(4 * one / 2)
    assert DISTANCES["kl"](1.0, "all")(student, teacher).item() == pytest.approx(one / 4)
    assert DISTANCES["kl"](1.0, "batch")(teacher, student).item() != pytest.approx(
        one / 2, rel=1e-2
    )  # who teaches matters


@pytest.mark.parametrize("mean", ["batch", "all"])
@pytest.mark.parametrize("tau", [1.0, 2.0])
def test_smooth_l1_is_the_released_one(tau, mean):
    """Of the answers as they are: the temperature is but the factor T^2."""
    student, teacher = 3 * drawn(6, K, place="student"), drawn(6, K, place="teacher")
    ours = DISTANCES["smooth_l1"](tau, mean)(student, teacher)
    torch.testing.assert_close(
        ours, nn.SmoothL1Loss()(student, teacher) * (tau * tau), rtol=1e-12, atol=0
    )
    d = (student - teacher).abs()
    assert (d < 1).any() and (d > 1).any()
    assert ours.item() == pytest.approx(
        tau**2 * sum(x * x / 2 if x < 1 else x - 0.5 for x in d.flatten().tolist()) / d.numel()
    )


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides")
def test_the_concatenated_ensemble_is_the_released_one():
    """Their three weighted logits stand behind each other in the batch before the loss: its mean is over all of them."""
    both, student, teacher = heads(), output("student"), output("teacher")
    weights = F.softmax(both.ensemble, dim=0)
    found = []
    for said in (student, teacher):
        logits = [both.stages[0](said.features[0]), both.stages[1](said.features[1]), said.logits]
        found.append(torch.cat([weights[i] * logits[i] for i in range(3)], dim=0))
    released = (
        nn.KLDivLoss()(F.log_softmax(found[0] / 2.0, dim=1), F.softmax(found[1] / 2.0, dim=1)) * 4.0
    )
    ours = DISTANCES["kl"](2.0, "all")(both(student), both(teacher))
    torch.testing.assert_close(ours, released, rtol=1e-12, atol=0)
    torch.testing.assert_close(
        DISTANCES["smooth_l1"](2.0, "all")(both(student), both(teacher)),
        nn.SmoothL1Loss()(*found) * 4.0,
    )
