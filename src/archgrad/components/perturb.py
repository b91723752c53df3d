"""Perturbations: a mixture -> the mixtures that the weights are trained at.

A perturbation changes only the weights of ops that run; padding and skipped ops stay.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from archgrad.arch.mixture import Mixture
from archgrad.components.context import Context
from archgrad.components.gradients import gradients
from archgrad.components.relax import cached_mask
from archgrad.components.schedules import Scalar

Shares = list[tuple[float, Mixture]]
"""Mixtures, each with its share of the loss."""
LossAt = Callable[[Mixture], Tensor]
"""mixture -> the training loss there."""
Settle = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(moved weights, first weights, mask of the weights that may move) -> weights of a mixture again.

All are of shape (..., edges, ops).
"""


def clamped(moved: Tensor, origin: Tensor, free: Tensor) -> Tensor:
    """Clamp the moved weights to [0, 1]."""
    return torch.where(free, moved.clamp(0, 1), origin)


def normalised(moved: Tensor, origin: Tensor, free: Tensor) -> Tensor:
    """Clamp the moved weights to [0, 1], and scale each edge to the sum that it had.

    Where all weights of an edge are clamped to 0, its largest moved weight gets the whole sum.
    """
    inside = clamped(moved, origin, free) * free
    largest = F.one_hot(moved.masked_fill(~free, -torch.inf).argmax(-1), moved.shape[-1]).to(moved)
    inside = torch.where(inside.sum(-1, keepdim=True) > 0, inside, largest)
    return torch.where(
        free,
        inside * ((origin * free).sum(-1, keepdim=True) / inside.sum(-1, keepdim=True)),
        origin,
    )


def noise(
    radius: Scalar, settle: Settle = normalised
) -> Callable[[Mixture, LossAt, Context], Shares]:
    """Return a perturbation that adds ``U(-radius, radius)`` to every weight of the mixture.

    This is SDARTS-RS (Chen & Hsieh 2020, arXiv 2002.05283).
    """

    def perturb(mixture: Mixture, loss_at: LossAt, context: Context) -> Shares:
        return [(1.0, shaken(mixture, radius(context), settle, context))]

    return perturb


def attack(
    radius: Scalar, steps: int, settle: Settle = normalised
) -> Callable[[Mixture, LossAt, Context], Shares]:
    """Return a perturbation that seeks the mixture with the highest loss within ``radius``.

    From a random start it takes ``steps`` steps of length ``2 radius / steps`` along the sign of
    the gradient, and projects each onto the ball. Where the loss at the unchanged mixture is
    higher, the mixture stays. This is SDARTS-ADV (of the paper of `noise`).
    """

    def perturb(mixture: Mixture, loss_at: LossAt, context: Context) -> Shares:
        most = radius(context)
        if most == 0:
            return [(1.0, mixture)]
        origin = mixture.detach()
        moved = shaken(origin, most, settle, context)
        for _ in range(steps):
            moved = moved.map(Tensor.requires_grad_)
            slopes = gradients(loss_at(moved), moved.weights, zeros=True)
            ahead = {
                name: rows.detach() + 2 * most / steps * slopes[name].sign()
                for name, rows in moved.weights.items()
            }
            ahead = {
                name: torch.clamp(rows, origin.weights[name] - most, origin.weights[name] + most)
                for name, rows in ahead.items()
            }
            moved = settled(ahead, origin, settle, context)
        with torch.no_grad():
            worse = loss_at(moved) >= loss_at(origin)
        # The distance is a constant, so that the gradient of this pass reaches the given mixture.
        away = {
            name: torch.where(worse, moved.weights[name] - rows, 0.0)
            for name, rows in origin.weights.items()
        }
        weights = {name: rows + away[name] for name, rows in mixture.weights.items()}
        return [(1.0, replace(mixture, weights=weights))]

    return perturb


def shaken(mixture: Mixture, radius: float, settle: Settle, context: Context) -> Mixture:
    """Return a random mixture within ``radius``; the draw is a function of the place in the run."""
    if radius == 0:
        return mixture
    moved = {}
    for name, rows in mixture.weights.items():
        draw = torch.rand(
            rows.shape,
            generator=context.rng(f"perturb/{name}", rows.device),
            device=rows.device,
            dtype=rows.dtype,
        )
        moved[name] = rows + radius * (2 * draw - 1)
    return settled(moved, mixture, settle, context)


def settled(moved: dict[str, Tensor], origin: Mixture, settle: Settle, context: Context) -> Mixture:
    """Return the mixture that ``settle`` makes of moved weights."""
    weights = {
        name: settle(rows, origin.weights[name], _may_move(name, origin, context))
        for name, rows in moved.items()
    }
    return replace(origin, weights=weights)


def _may_move(name: str, mixture: Mixture, context: Context) -> Tensor:
    """Return the mask of the ops that run, bool, in the shape of the group's weights."""
    rows = mixture.weights[name]
    mask = cached_mask(context.groups[name], rows.device).expand_as(rows)
    return mask if mixture.active is None else mask & mixture.active[name].to(rows.device)
