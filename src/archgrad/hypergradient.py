"""The gradient of the alphas: d/da L_val(w*(a), a), to first order, exactly to second, and by the paper's finite differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from archgrad.arch import Alphas, Forward
from archgrad.gradients import Named, frozen, gradients, present, probing

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
        along = [(gradient * vector[name]).sum() for name, gradient in reached.items() if gradient is not None]
        return gradients(torch.stack(along).sum(), problem.alphas, zeros=True)  # type: ignore[return-value]

    return _unrolled(problem, product)


def finite_differences(problem: Problem) -> Found:
    """DARTS eq. 8, as the paper and its code have it: the product as a central difference of ``d L_train/da`` at ``w +- eps v``,
    ``eps = 0.01/|v|``. Through ReLU kinks this is not close to the exact product at initialisation."""

    def product(vector: Named) -> dict[str, Tensor]:
        norm = nn.utils.get_total_norm(list(vector.values()))
        sides = []
        for eps in (0.01 / norm, -0.01 / norm):
            shifted = {name: weight.detach() + eps * vector[name] for name, weight in problem.weights.items()}
            loss, _ = problem.lower(problem.alphas, shifted)
            sides.append(gradients(loss, problem.alphas, zeros=True))
        return {name: (sides[0][name] - sides[1][name]) / (2 * 0.01 / norm) for name in problem.alphas}  # type: ignore[operator]

    return _unrolled(problem, product)


def _unrolled(problem: Problem, product: Callable[[Named], dict[str, Tensor]]) -> Found:
    """Both second orders: one virtual SGD step w -> w', the gradients there, and the correction by ``product(d L_val/dw')``."""
    with probing(problem.net):
        loss, _ = problem.lower({name: a.detach() for name, a in problem.alphas.items()}, None)
        ahead, xi = virtual_step(problem.optimizer, problem.weights, gradients(loss, problem.weights))
        loss, forward = problem.upper(problem.alphas, ahead)
        found = gradients(loss, {**problem.alphas, **ahead})
        vector = present(found, ahead)
        correction = product(vector)
    direct = present(found, problem.alphas)
    return {name: direct[name] - xi * correction[name] for name in direct}, forward


def virtual_step(
    optimizer: torch.optim.Optimizer, weights: Named, found: dict[str, Tensor | None]
) -> tuple[dict[str, Tensor], float]:
    """Where SGD with momentum and decay would go (without clipping, as in the authors' code), and ``-dw'/dgradient`` = lr, times
    1 + momentum under Nesterov. Nothing is written. A weight without gradient stays."""
    settings = optimizer.param_groups[0]
    lr, momentum, decay, nesterov = (settings[key] for key in ("lr", "momentum", "weight_decay", "nesterov"))
    ahead = {}
    for name, weight in weights.items():
        moved = weight.detach()
        if (gradient := found[name]) is not None:
            step = gradient.detach() + decay * moved
            buffer = optimizer.state[weight].get("momentum_buffer") if weight in optimizer.state else None
            velocity = step if buffer is None else step + momentum * buffer
            moved = moved - lr * (step + momentum * velocity if nesterov else velocity)
        ahead[name] = moved.clone().requires_grad_()
    return ahead, lr * (1 + momentum) if nesterov else lr
