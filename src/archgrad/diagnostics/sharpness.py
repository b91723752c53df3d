"""Sharpness as SAM defines it: the largest rise of the loss within a small ball.

    S(v) = max over |e|_2 <= rho of L(v + e) - L(v)

Source: Foret et al. 2021, arXiv 2010.01412, eq. 1. One step is SAM's approximation of the maximum,
``e = rho g / |g|`` with ``g = grad L(v)`` (eq. 2 there). Several steps are projected gradient
ascent. Both give lower bounds of S.
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
from archgrad.arch.passes import Batch, Loss
from archgrad.components.gradients import NamedTensors, gradients
from archgrad.components.losses import label_loss
from archgrad.diagnostics.measuring import measuring
from archgrad.errors import unknown_name
from archgrad.seeds import seeded

TensorLoss = Callable[[NamedTensors], Tensor]
"""tensors by name -> the loss there."""

BALLS = {"weights": ("weights",), "alphas": ("alphas",), "both": ("weights", "alphas")}
"""Name of a ball -> the kinds of tensors in it. "both" is one ball in the joint space."""


class MeanInterval(NamedTuple):
    """Hold a mean over batches, and the half-width of its 95 % interval by Student's t.

    The interval of a single batch is None.
    """

    mean: float
    interval: float | None


def sharpness(loss: TensorLoss, at: NamedTensors, rho: float, steps: int = 1) -> float:
    """Return the largest rise of a loss that gradient ascent finds within a ball.

    Each step has the length ``rho`` and is projected onto the ball. The norm is that of all tensors
    together. The centre belongs to the ball, so the result is at least 0. A tensor that the loss
    does not reach does not move, and the ascent ends where the gradient is 0.

    Args:
        loss: Loss, which is called once at the centre and once per step, with shifted copies.
        at: Tensors of the centre by name; they are not changed.
        rho: Radius of the ball.
        steps: Number of steps.

    Raises:
        ValueError: ``rho`` is 0 or less, or ``steps`` is less than 1.
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
                name: moved + uphill[name] * (rho / length) if name in uphill else moved
                for name, moved in shift.items()
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
    over: Sequence[str] = tuple(BALLS),
    rho: float = 0.05,
    steps: int = 1,
    of: Loss = label_loss,
) -> dict[str, MeanInterval]:
    """Return the `sharpness` of a supernet's loss under ``mixture(alphas)``.

    Each batch has its own maximum and its own BatchNorm statistics (training mode). No op is
    dropped out. Mode, buffers, gradients and ``requires_grad`` of the network stay as they were.

    Args:
        net: Supernet.
        alphas: Logits by name of the edge group.
        mixture: Function alphas -> mixture.
        batches: Batches of images.
        *place: Seed and place of the random draws, which are the same in all passes over a batch.
        over: Names of the balls: "weights", "alphas", "both".
        rho: Radius of the ball.
        steps: Number of steps of the ascent.
        of: Loss in the place of the cross-entropy.

    Returns:
        Name of the ball -> mean over batches.

    Raises:
        ValueError: A ball has another name, there are no batches, or `sharpness` raises it.
    """
    for name in over:
        if name not in BALLS:
            raise unknown_name("part to measure sharpness over", name, BALLS)
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
        for number, batch in enumerate(batches):

            def loss(moved: NamedTensors, number: int = number, batch: Batch = batch) -> Tensor:
                now = {
                    kind: {name: {**here, **moved}[f"{kind}/{name}"] for name in tensors}
                    for kind, tensors in named.items()
                }
                with seeded(*place, "sharpness", number, device=batch.device):
                    mixed = mixture(now["alphas"]).without_dropout()
                    output = functional_call(net, now["weights"], (batch.images, mixed))
                return of(output, batch)

            for name in over:
                at = {
                    key: tensor
                    for key, tensor in here.items()
                    if key.partition("/")[0] in BALLS[name]
                }
                found[name].append(sharpness(loss, at, rho, steps))
    return {name: mean_interval(values) for name, values in found.items()}


def mean_interval(values: Sequence[float]) -> MeanInterval:
    """Return the mean and the 95 % t-interval of independent values.

    Raises:
        ValueError: There are no values.
    """
    if not values:
        raise ValueError("no batches to measure on")
    each = torch.tensor(values, dtype=torch.float64)
    if len(values) == 1:
        return MeanInterval(each.item(), None)
    from scipy.stats import t  # the import takes half a second

    quantile = float(t.ppf(0.975, len(values) - 1))
    return MeanInterval(each.mean().item(), quantile * each.std().item() / math.sqrt(len(values)))


def _slope(
    loss: TensorLoss, at: NamedTensors, *, ascending: bool = True
) -> tuple[float, dict[str, Tensor]]:
    """Return the loss, and, if ``ascending``, the gradient of each tensor that it reaches."""
    leaves = {name: tensor.detach().requires_grad_(ascending) for name, tensor in at.items()}
    with torch.set_grad_enabled(ascending):
        value = loss(leaves)
        found = gradients(value, leaves) if ascending else {}
    return value.item(), {
        name: gradient for name, gradient in found.items() if gradient is not None
    }


def _norm(tensors: NamedTensors) -> float:
    return math.sqrt(sum(tensor.double().square().sum().item() for tensor in tensors.values()))


def _projected(shift: dict[str, Tensor], rho: float) -> dict[str, Tensor]:
    length = _norm(shift)
    if not length > rho:
        return shift
    return {name: moved * (rho / length) for name, moved in shift.items()}
