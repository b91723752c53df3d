"""The gradient of the alphas: d/da L_val(w*(a), a), to first order, exactly to second, and by the paper's finite differences."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from archgrad.arch.edges import Alphas
from archgrad.components.context import Forward
from archgrad.components.gradients import Named, frozen, gradients, present, probing

Loss = Callable[[Alphas, Named | None], tuple[Tensor, Forward]]
"""(alphas, weights or None for the net's own) -> loss and the pass that gave it."""


class Problem(NamedTuple):
    """One alpha step: ``upper`` is the loss on validation images, ``lower`` on training images."""

    net: nn.Module
    alphas: Alphas
    weights: dict[str, Tensor]
    optimizer: torch.optim.Optimizer  # of the weights
    upper: Loss
    lower: Loss


Found = tuple[dict[str, Tensor], Forward]
Hypergradient = Callable[[Problem], Found]


def first_order(problem: Problem) -> Found:
    """``d L_val(w, a) / da`` with w held (DARTS with xi = 0)."""
    with frozen(problem.net.parameters()):
        loss, forward = problem.upper(problem.alphas, None)
        return gradients(loss, problem.alphas, zeros=True), forward  # type: ignore[return-value]


def second_order(problem: Problem) -> Found:
    """DARTS eq. 7 with the exact product: ``d L_val(w', a)/da - xi * d2 L_train(w, a)/da dw . d L_val(w', a)/dw'``."""

    def product(vector: Named) -> dict[str, Tensor]:
        loss, _ = problem.lower(problem.alphas, None)
        reached = gradients(loss, problem.weights, create_graph=True)
        along = [
            (gradient * vector[name]).sum()
            for name, gradient in reached.items()
            if gradient is not None
        ]
        return gradients(torch.stack(along).sum(), problem.alphas, zeros=True)  # type: ignore[return-value]

    return _unrolled(problem, product)


def finite_differences(problem: Problem) -> Found:
    """DARTS eq. 8, as the paper and its code have it: the product as a central difference of ``d L_train/da`` at ``w +- eps v``,
    ``eps = 0.01/|v|``. Through ReLU kinks this is not close to the exact product at initialisation."""

    def product(vector: Named) -> dict[str, Tensor]:
        norm = nn.utils.get_total_norm(list(vector.values()))
        sides = []
        for eps in (0.01 / norm, -0.01 / norm):
            shifted = {
                name: weight.detach() + eps * vector[name]
                for name, weight in problem.weights.items()
            }
            loss, _ = problem.lower(problem.alphas, shifted)
            sides.append(gradients(loss, problem.alphas, zeros=True))
        return {
            name: (sides[0][name] - sides[1][name]) / (2 * 0.01 / norm) for name in problem.alphas
        }

    return _unrolled(problem, product)


def _unrolled(problem: Problem, product: Callable[[Named], dict[str, Tensor]]) -> Found:
    """Both second orders: one virtual step w -> w', the gradients there, and the correction by ``product(d L_val/dw')``."""
    virtual_step = step_of(problem.optimizer)
    with probing(problem.net):
        loss, _ = problem.lower({name: a.detach() for name, a in problem.alphas.items()}, None)
        ahead, xi, slopes = virtual_step(
            problem.optimizer, problem.weights, gradients(loss, problem.weights)
        )
        loss, forward = problem.upper(problem.alphas, ahead)
        found = gradients(loss, {**problem.alphas, **ahead})
        vector = present(found, ahead)
        correction = product(
            {name: slopes[name] * value for name, value in vector.items()} if slopes else vector
        )
    direct = present(found, problem.alphas)
    return {name: direct[name] - xi * correction[name] for name in direct}, forward


class Ahead(NamedTuple):
    """One virtual step of an optimizer, without clipping, as in the authors' code. Nothing is written, and a weight without gradient stays.

    ``-dw'/dgradient`` is ``xi`` times ``slopes``, elementwise, (or times 1, where there are none)."""

    weights: dict[str, Tensor]
    xi: float
    slopes: dict[str, Tensor] | None = None


def step_of(
    optimizer: torch.optim.Optimizer,
) -> Callable[[torch.optim.Optimizer, Named, Mapping[str, Tensor | None]], Ahead]:
    """How an optimizer steps. ValueError for one whose step is not written down here, or not with its options."""
    kinds = {torch.optim.SGD: sgd_step, torch.optim.Adam: adam_step, torch.optim.AdamW: adam_step}
    kind = type(optimizer).__name__
    if type(optimizer) not in kinds:
        raise ValueError(
            f"second order goes through a step of the weights: it knows those of SGD, Adam and AdamW, not of {kind}"
        )
    if len(optimizer.param_groups) > 1:
        raise ValueError(
            f"second order goes through a step of the weights: {kind} must have one group of parameters, not several"
        )
    for option in ("dampening", "amsgrad", "maximize"):
        if optimizer.param_groups[0].get(option):
            raise ValueError(
                f"second order goes through a step of the weights: it knows no {kind} with {option}"
            )
    return kinds[type(optimizer)]


def adam_step(
    optimizer: torch.optim.Optimizer, weights: Named, found: Mapping[str, Tensor | None]
) -> Ahead:
    """Adam, and AdamW, whose decay is apart from the gradient. With ``m`` and ``v`` after the step, ``s = sqrt(v / c2) + eps``:
    ``w' = w - lr / c1 * m / s`` and ``-dw'/dgradient = lr / c1 * ((1 - beta1) / s - m (1 - beta2) gradient / (s^2 sqrt(v c2)))``."""
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
            bend = torch.where(
                v > 0, (1 - beta2) * step / (v * c2).sqrt(), 0.0
            )  # ds/dgradient, 0 where nothing has moved yet
            slope = lr / c1 * ((1 - beta1) / s - m * bend / s**2)
            moved = (moved * (1 - lr * decay) if apart else moved) - lr / c1 * m / s
        ahead[name], slopes[name] = moved.clone().requires_grad_(), slope
    return Ahead(ahead, 1.0, slopes)


def sgd_step(
    optimizer: torch.optim.Optimizer, weights: Named, found: Mapping[str, Tensor | None]
) -> Ahead:
    """SGD with momentum and decay: ``-dw'/dgradient`` = lr, times 1 + momentum under Nesterov."""
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
    return Ahead(ahead, lr * (1 + momentum) if nesterov else lr)
