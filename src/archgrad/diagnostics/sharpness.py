"""Sharpness as SAM defines it: how much the loss can rise within a small ball (Foret et al. 2021, arXiv 2010.01412, eq. 1).

    S(v) = max over |e|_2 <= rho of L(v + e) - L(v)

One step is SAM's own approximation of the maximum, ``e = rho g / |g|`` with ``g = grad L(v)`` (eq. 2 there); several are projected gradient
ascent. Both are lower bounds of S.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from archgrad.arch.edges import Alphas
from archgrad.arch.mixture import Mixture
from archgrad.arch.passes import Batch
from archgrad.arch.passes import Loss as OfLabels
from archgrad.components.gradients import Named, gradients
from archgrad.components.losses import of_labels
from archgrad.diagnostics.measuring import measuring
from archgrad.errors import unknown
from archgrad.seeds import forked

Loss = Callable[[Named], Tensor]

MOVED = {"weights": ("weights",), "alphas": ("alphas",), "both": ("weights", "alphas")}
"""What a ball is over -> the kinds of tensors in it; for both it is one ball in the joint space."""


class Estimate(NamedTuple):
    """A mean over batches, and the half-width of its 95 % interval by Student's t; None of a single batch."""

    mean: float
    interval: float | None


def sharpness(loss: Loss, at: Named, rho: float, steps: int = 1) -> float:
    """The largest rise of ``loss`` found by ``steps`` steps of gradient ascent from ``at``, each of length ``rho`` and projected onto the ball.

    The norm is that of all tensors together. The centre is in the ball, so the result is at least 0: a step that only goes down, as it may
    where rho reaches past the maximum, counts as no rise. A tensor that the loss does not reach does not move, and where the gradient
    vanishes the ascent ends. ``loss`` is called with shifted copies, once per step and once at the centre; ``at`` is not written to.
    ValueError for rho <= 0 or steps < 1.
    """
    if not rho > 0 or steps < 1:
        raise ValueError(
            f"sharpness needs a radius above 0 and at least 1 step, not {rho} and {steps}"
        )
    centre = {name: tensor.detach() for name, tensor in at.items()}
    shift = {name: torch.zeros_like(tensor) for name, tensor in centre.items()}
    base, uphill = _slope(loss, centre)
    highest = base
    for step in range(steps):
        length = _norm(uphill)
        if length == 0:
            break
        shift = _projected(
            {
                name: e + uphill[name] * (rho / length) if name in uphill else e
                for name, e in shift.items()
            },
            rho,
        )
        value, uphill = _slope(
            loss,
            {name: tensor + shift[name] for name, tensor in centre.items()},
            ascending=step + 1 < steps,
        )
        highest = value if math.isnan(value) else max(highest, value)
    return highest - base


def supernet_sharpness(
    net: nn.Module,
    alphas: Alphas,
    mixture: Callable[[Alphas], Mixture],
    batches: Iterable[Batch],
    *place: object,
    over: Sequence[str] = tuple(MOVED),
    rho: float = 0.05,
    steps: int = 1,
    of: OfLabels = of_labels,
) -> dict[str, Estimate]:
    """`sharpness` of a supernet's cross-entropy (or ``of`` in its place) under ``mixture(alphas)``, for each of ``over``: "weights",
    "alphas", "both".

    Each batch has its own maximum and its own BatchNorm statistics (training mode); no op is dropped out; all passes over one batch draw
    the same, by ``place``. Mode, buffers, gradients and ``requires_grad`` of the net are left as they were. ValueError as `sharpness`.
    """
    for name in over:
        if name not in MOVED:
            raise unknown("part to measure sharpness over", name, MOVED)
    named: dict[str, dict[str, Tensor]] = {
        "weights": dict(net.named_parameters()),
        "alphas": alphas,
    }
    here = {
        f"{kind}/{name}": tensor.detach()
        for kind, tensors in named.items()
        for name, tensor in tensors.items()
    }
    found: dict[str, list[float]] = {name: [] for name in over}
    with measuring(net, training=True):
        for k, batch in enumerate(batches):

            def loss(moved: Named, k: int = k, batch: Batch = batch) -> Tensor:
                now = {
                    kind: {name: {**here, **moved}[f"{kind}/{name}"] for name in tensors}
                    for kind, tensors in named.items()
                }
                with forked(*place, "sharpness", k, device=batch.images.device):
                    mixed = mixture(now["alphas"]).whole()
                    output = functional_call(net, now["weights"], (batch.images, mixed))
                return of(output, batch)

            for name in over:
                at = {
                    key: tensor
                    for key, tensor in here.items()
                    if key.partition("/")[0] in MOVED[name]
                }
                found[name].append(sharpness(loss, at, rho, steps))
    return {name: estimate(values) for name, values in found.items()}


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and 95 % t-interval of independent values. ValueError if there are none."""
    if not values:
        raise ValueError("no batches to measure on")
    each = torch.tensor(values, dtype=torch.float64)
    if len(values) == 1:
        return Estimate(each.item(), None)
    from scipy.stats import t  # takes half a second to import

    return Estimate(
        each.mean().item(),
        float(t.ppf(0.975, len(values) - 1)) * each.std().item() / math.sqrt(len(values)),
    )


def _slope(loss: Loss, at: Named, *, ascending: bool = True) -> tuple[float, dict[str, Tensor]]:
    """The loss, and, when there is a way to go on, the gradient of each tensor it reaches."""
    leaves = {name: tensor.detach().requires_grad_(ascending) for name, tensor in at.items()}
    with torch.set_grad_enabled(ascending):
        value = loss(leaves)
        found = gradients(value, leaves) if ascending else {}
    return value.item(), {
        name: gradient for name, gradient in found.items() if gradient is not None
    }


def _norm(tensors: Named) -> float:
    return math.sqrt(sum(tensor.double().square().sum().item() for tensor in tensors.values()))


def _projected(shift: dict[str, Tensor], rho: float) -> dict[str, Tensor]:
    length = _norm(shift)
    return {name: e * (rho / length) for name, e in shift.items()} if length > rho else shift
