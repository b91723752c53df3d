"""The gradient of the alphas, d/da L_val(w*(a), a).

It is computed to first order, to second order exactly, or to second order by the finite differences
of the DARTS paper.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from archgrad.arch.edges import Alphas
from archgrad.components.context import Forward
from archgrad.components.gradients import (
    NamedTensors,
    differentiable_twice,
    frozen,
    gradients,
    in_place,
    probing,
    with_zeros,
)

HalfLoss = Callable[[Alphas, NamedTensors | None], tuple[Tensor, Forward]]
"""(alphas, weights, or None for the network's own) -> the loss, and the pass that gave it."""


class Problem(NamedTuple):
    """Pose the two-level problem of one alpha step.

    Attributes:
        net: Network.
        alphas: Logits by name of the edge group.
        weights: Weights of the network by name.
        optimizer: Optimizer of the weights.
        upper: Loss on validation images.
        lower: Loss on training images.
    """

    net: nn.Module
    alphas: Alphas
    weights: dict[str, Tensor]
    optimizer: torch.optim.Optimizer
    upper: HalfLoss
    lower: HalfLoss


AlphaGradients = tuple[dict[str, Tensor], Forward]
"""The gradients of the alphas by name, and the pass on validation images."""
Hypergradient = Callable[[Problem], AlphaGradients]


def first_order(problem: Problem) -> AlphaGradients:
    """Return ``d L_val(w, a) / da`` with fixed w (DARTS with xi = 0)."""
    with frozen(problem.net.parameters()):
        loss, forward = problem.upper(problem.alphas, None)
        return gradients(loss, problem.alphas, zeros=True), forward


def second_order(problem: Problem) -> AlphaGradients:
    """Return the gradient of DARTS's eq. 7, with the exact second-order product.

    It is ``d L_val(w', a)/da - xi * d2 L_train(w, a)/da dw . d L_val(w', a)/dw'``.
    """

    def product(vector: NamedTensors) -> dict[str, Tensor]:
        with differentiable_twice(
            "darts.hypergradient second_order", "take finite_differences or first_order"
        ):
            loss, _ = problem.lower(problem.alphas, None)
            reached = gradients(loss, problem.weights, create_graph=True)
            along = [
                (gradient * vector[name]).sum()
                for name, gradient in reached.items()
                if gradient is not None
            ]
            return gradients(torch.stack(along).sum(), problem.alphas, zeros=True)

    return _unrolled(problem, product)


def finite_differences(problem: Problem) -> AlphaGradients:
    """Return the gradient of DARTS's eq. 8, as the paper and its code compute it.

    The product is a central difference of ``d L_train/da`` at ``w +- eps v``, with
    ``eps = 0.01/|v|``. Because ReLU has kinks, it is not close to the exact product at
    initialisation.
    """

    def product(vector: NamedTensors) -> dict[str, Tensor]:
        norm = nn.utils.get_total_norm(list(vector.values()))
        sides = []
        for eps in (0.01 / norm, -0.01 / norm):
            shifted = {
                name: weight.detach() + eps * vector[name]
                for name, weight in problem.weights.items()
            }
            with in_place(problem.weights, shifted), frozen(problem.net.parameters()):
                loss, _ = problem.lower(problem.alphas, None)
                sides.append(gradients(loss, problem.alphas, zeros=True))
        return {
            name: (sides[0][name] - sides[1][name]) / (2 * 0.01 / norm) for name in problem.alphas
        }

    return _unrolled(problem, product)


def _unrolled(
    problem: Problem, product: Callable[[NamedTensors], dict[str, Tensor]]
) -> AlphaGradients:
    """Return the second-order gradient: the gradient after one virtual step w -> w', corrected.

    The correction is ``xi * product(d L_val/dw')``.
    """
    virtual_step = step_of(problem.optimizer)
    with probing(problem.net):
        loss, _ = problem.lower({name: a.detach() for name, a in problem.alphas.items()}, None)
        ahead, xi, slopes = virtual_step(
            problem.optimizer, problem.weights, gradients(loss, problem.weights)
        )
        with in_place(problem.weights, ahead):
            loss, forward = problem.upper(problem.alphas, None)
            found = gradients(loss, {**problem.alphas, **problem.weights})
        vector = with_zeros(found, ahead)
        correction = product(
            {name: slopes[name] * value for name, value in vector.items()} if slopes else vector
        )
    direct = with_zeros(found, problem.alphas)
    return {name: direct[name] - xi * correction[name] for name in direct}, forward


class VirtualStep(NamedTuple):
    """Hold the weights after one virtual step of an optimizer.

    The step does not clip gradients, as in the authors' code. It writes nothing, and a weight
    without gradient stays.

    Attributes:
        weights: Weights after the step, w', by name.
        xi: Common factor of ``-dw'/dgradient``.
        slopes: The other factor, elementwise, by name; None stands for 1.
    """

    weights: dict[str, Tensor]
    xi: float
    slopes: dict[str, Tensor] | None = None


def step_of(
    optimizer: torch.optim.Optimizer,
) -> Callable[[torch.optim.Optimizer, NamedTensors, Mapping[str, Tensor | None]], VirtualStep]:
    """Return the function that computes a virtual step of an optimizer.

    Raises:
        ValueError: No function here computes the step of this optimizer, or of its options.
    """
    kinds = {torch.optim.SGD: sgd_step, torch.optim.Adam: adam_step, torch.optim.AdamW: adam_step}
    kind = type(optimizer).__name__
    if type(optimizer) not in kinds:
        raise ValueError(
            "the second-order hypergradient needs SGD, Adam or AdamW as the optimizer of the "
            f"weights, not {kind}"
        )
    if len(optimizer.param_groups) > 1:
        raise ValueError(
            f"the second-order hypergradient needs one group of parameters, but {kind} has several"
        )
    for option in ("dampening", "amsgrad", "maximize"):
        if optimizer.param_groups[0].get(option):
            raise ValueError(
                f"the second-order hypergradient needs {kind} without the option {option}"
            )
    return kinds[type(optimizer)]


def adam_step(
    optimizer: torch.optim.Optimizer, weights: NamedTensors, found: Mapping[str, Tensor | None]
) -> VirtualStep:
    """Return the virtual step of Adam, or of AdamW, whose decay is apart from the gradient.

    With ``m`` and ``v`` after the step and ``s = sqrt(v / c2) + eps``, the step is
    ``w' = w - lr / c1 * m / s``, and
    ``-dw'/dgradient = lr / c1 * ((1 - beta1) / s - m (1 - beta2) gradient / (s^2 sqrt(v c2)))``.
    """
    settings = optimizer.param_groups[0]
    lr, decay, eps, (beta1, beta2) = (
        settings[key] for key in ("lr", "weight_decay", "eps", "betas")
    )
    apart = settings.get("decoupled_weight_decay", isinstance(optimizer, torch.optim.AdamW))
    ahead, slopes = {}, {}
    for name, weight in weights.items():
        moved = weight.detach()
        slope = torch.zeros_like(moved)
        if (gradient := found[name]) is not None:
            kept = optimizer.state.get(weight, {})
            step = gradient.detach() if apart else gradient.detach() + decay * moved
            count = float(kept.get("step", 0)) + 1
            m = beta1 * kept.get("exp_avg", torch.zeros_like(moved)) + (1 - beta1) * step
            v = beta2 * kept.get("exp_avg_sq", torch.zeros_like(moved)) + (1 - beta2) * step**2
            c1, c2 = 1 - beta1**count, 1 - beta2**count
            s = (v / c2).sqrt() + eps
            # bend is ds/dgradient; it is 0 for a weight that has not moved yet.
            bend = torch.where(v > 0, (1 - beta2) * step / (v * c2).sqrt(), 0.0)
            slope = lr / c1 * ((1 - beta1) / s - m * bend / s**2)
            moved = (moved * (1 - lr * decay) if apart else moved) - lr / c1 * m / s
        ahead[name], slopes[name] = moved.clone().requires_grad_(), slope
    return VirtualStep(ahead, 1.0, slopes)


def sgd_step(
    optimizer: torch.optim.Optimizer, weights: NamedTensors, found: Mapping[str, Tensor | None]
) -> VirtualStep:
    """Return the virtual step of SGD with momentum and decay.

    ``-dw'/dgradient`` is lr; with Nesterov's momentum it is lr times 1 + momentum.
    """
    settings = optimizer.param_groups[0]
    lr, momentum, decay, nesterov = (
        settings[key] for key in ("lr", "momentum", "weight_decay", "nesterov")
    )
    ahead = {}
    for name, weight in weights.items():
        moved = weight.detach()
        if (gradient := found[name]) is not None:
            step = gradient.detach() + decay * moved
            buffer = (
                optimizer.state[weight].get("momentum_buffer")
                if weight in optimizer.state
                else None
            )
            velocity = step if buffer is None else step + momentum * buffer
            moved = moved - lr * (step + momentum * velocity if nesterov else velocity)
        ahead[name] = moved.clone().requires_grad_()
    return VirtualStep(ahead, lr * (1 + momentum) if nesterov else lr)
