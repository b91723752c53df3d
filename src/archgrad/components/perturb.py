"""Perturbations: a mixture -> the mixtures the weights are trained at. Only ops that run are moved; padding and idle ops stay."""

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
LossAt = Callable[[Mixture], Tensor]
Settle = Callable[[Tensor, Tensor, Tensor], Tensor]
"""moved, origin, which may move (all (..., edges, ops)) -> a mixture again."""


def clamped(moved: Tensor, origin: Tensor, free: Tensor) -> Tensor:
    """Into [0, 1]."""
    return torch.where(free, moved.clamp(0, 1), origin)


def normalised(moved: Tensor, origin: Tensor, free: Tensor) -> Tensor:
    """Into [0, 1], and scaled so that an edge sums to what it did; where nothing is left, the largest has it all."""
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
    """One mixture with ``U(-radius, radius)`` added to every weight (SDARTS-RS, Chen & Hsieh 2020, arXiv 2002.05283)."""

    def perturb(mixture: Mixture, loss_at: LossAt, context: Context) -> Shares:
        return [(1.0, shaken(mixture, radius(context), settle, context))]

    return perturb


def attack(
    radius: Scalar, steps: int, settle: Settle = normalised
) -> Callable[[Mixture, LossAt, Context], Shares]:
    """One mixture within ``radius``, where the loss is worst: from a random start ``steps`` steps of ``2 radius / steps`` along the sign of
    its gradient, each projected onto the ball; the mixture itself if the loss is worse there (SDARTS-ADV, as `noise`)."""

    def perturb(mixture: Mixture, loss_at: LossAt, context: Context) -> Shares:
        r = radius(context)
        if r == 0:
            return [(1.0, mixture)]
        origin = mixture.detach()
        moved = shaken(origin, r, settle, context)
        for _ in range(steps):
            moved = moved.map(Tensor.requires_grad_)
            slopes = gradients(loss_at(moved), moved.weights, zeros=True)
            ahead = {
                name: w.detach() + 2 * r / steps * slopes[name].sign()
                for name, w in moved.weights.items()
            }
            ahead = {
                name: torch.clamp(w, origin.weights[name] - r, origin.weights[name] + r)
                for name, w in ahead.items()
            }
            moved = settled(ahead, origin, settle, context)
        with torch.no_grad():
            worse = loss_at(moved) >= loss_at(origin)
        # A fixed distance added: what trains the mixture through this pass trains the one that was given.
        away = {
            name: torch.where(worse, moved.weights[name] - w, 0.0)
            for name, w in origin.weights.items()
        }
        return [
            (
                1.0,
                replace(
                    mixture, weights={name: w + away[name] for name, w in mixture.weights.items()}
                ),
            )
        ]

    return perturb


def shaken(mixture: Mixture, radius: float, settle: Settle, context: Context) -> Mixture:
    """A draw from the ball around a mixture, by the place in the run."""
    if radius == 0:
        return mixture
    moved = {}
    for name, w in mixture.weights.items():
        draw = torch.rand(
            w.shape,
            generator=context.rng(f"perturb/{name}", w.device),
            device=w.device,
            dtype=w.dtype,
        )
        moved[name] = w + radius * (2 * draw - 1)
    return settled(moved, mixture, settle, context)


def settled(moved: dict[str, Tensor], origin: Mixture, settle: Settle, context: Context) -> Mixture:
    return replace(
        origin,
        weights={
            name: settle(w, origin.weights[name], _free(name, origin, context))
            for name, w in moved.items()
        },
    )


def _free(name: str, mixture: Mixture, context: Context) -> Tensor:
    """Bool, as the weights: the ops that run."""
    w = mixture.weights[name]
    own = cached_mask(context.groups[name], w.device).expand_as(w)
    return own if mixture.active is None else own & mixture.active[name].to(w.device)
