"""SD-DARTS (arXiv 2302.05629, Neural Networks 2023).

"Improving Differentiable Architecture Search via Self-Distillation". The supernet learns from its
earlier states, so its loss changes little from step to step and its minimum becomes flat. This is
[reconstructed] after the abstract and SAF/MESA (Du et al. 2022, arXiv 2205.14083; docs/sddarts.md).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from archgrad.components.context import Forward
from archgrad.components.losses import Term, soft_divergence, weighted
from archgrad.components.schedules import Span, epoch_of_span, epochs_of_interval, from_epoch
from archgrad.methods.sddarts_teachers import Average, RememberedLogits, Snapshots
from archgrad.option_types import NotNegativeFloat, PositiveFloat, PositiveInt, PositiveOrInfinite
from archgrad.searching.origin import with_origin
from archgrad.searching.patch import Patch
from archgrad.searching.types import Memory


@with_origin()
def sddarts(
    *,
    teachers: Literal["snapshots", "remembered", "average"] = "snapshots",
    k: PositiveInt = 3,
    interval: PositiveInt = 1,
    unit: Literal["epoch", "step"] = "epoch",
    vote: Literal["mean_probability", "mean_logit", "majority"] = "mean_probability",
    level: Literal["weights", "both", "alphas"] = "weights",
    strength: NotNegativeFloat = 1.0,
    tau: PositiveFloat = 5.0,
    first: Span = 0.1,
    top: PositiveInt | None = None,
    max_gb: PositiveOrInfinite = 4.0,
) -> Patch:
    """Train the supernet also on the predictions of its own earlier states, the teachers.

    The added loss is strength * tau^2 * KL(p_T || softmax(S(x) / tau)). S(x) are the logits of the
    supernet, and p_T is the vote of the teachers.

    Args:
        teachers: kind of the teachers: earlier supernets that run again on the batch (snapshots),
            the logits that each image had in earlier epochs, under another augmentation
            (remembered), or one moving average of weights and alphas (average).
        k: number of teachers; a moving average counts as one.
        interval: time between two teachers, in epochs or steps as unit says; for an average, the
            time after which a past value counts 1/e.
        unit: unit of the interval, an epoch or a step; remembered logits take epochs only.
        vote: rule that makes one prediction of the teachers': the mean of their probabilities, the
            mean of their logits, or the fraction of them that put a class first (majority).
        level: steps that learn from the teachers: those of the weights, of the alphas, or of both.
        strength: factor of the divergence in the loss; 0 switches it off.
        tau: temperature of the divergence, which is not that of the mixture.
        first: time at which the divergence begins: an epoch (5), or a fraction of the search (0.1).
        top: number of logits, the largest ones, that are remembered of each image; the default is
            all classes.
        max_gb: gigabytes that the teachers may take; a search that needs more is refused.

    Returns:
        The patch of the method.

    Raises:
        ValueError: `unit` is "step" for remembered logits, or `top` is given for other teachers.
    """
    if teachers == "remembered" and unit == "step":
        raise ValueError(
            "sddarts.unit is step, but an image comes once an epoch: "
            "remembered logits are an epoch or more apart"
        )
    if teachers != "remembered" and top is not None:
        raise ValueError(
            f"sddarts.top is {top}, but {teachers} remember no logits: "
            "leave it out, or choose remembered"
        )
    phases = {"weights": ("weight",), "alphas": ("alpha",), "both": ("weight", "alpha")}[level]
    makes: dict[str, Callable[[], Memory]] = {
        "snapshots": lambda: Snapshots(k, interval, unit, max_gb),
        "remembered": lambda: RememberedLogits(k, interval, phases, top, max_gb),
        "average": lambda: Average(interval, unit, max_gb),
    }
    begin = epoch_of_span(first, "sddarts.first")
    term = weighted(from_epoch(begin, strength), self_distillation(VOTES[vote], tau))
    return Patch(
        "sddarts",
        weight_terms=(term,) if "weight" in phases else (),
        alpha_terms=(term,) if "alpha" in phases else (),
        drives={term: f"--sddarts.strength below {strength:g}"},
        memory={"teachers": makes[teachers]},
        reads_logits=("sddarts",),
        lengths=(begin, epochs_of_interval(interval, "sddarts.interval"))
        if unit == "epoch"
        else (begin,),
    )


Vote = Callable[[Tensor, Tensor, float], Tensor]
"""Logits (K, B, C) of K teachers, weights of their votes (K, B, 1), tau -> probabilities (B, C)."""


def mean_probability(logits: Tensor, shares: Tensor, tau: float) -> Tensor:
    """Return the weighted mean of the teachers' probabilities at temperature ``tau``."""
    return ((logits / tau).softmax(-1) * shares).sum(0)


def mean_logit(logits: Tensor, shares: Tensor, tau: float) -> Tensor:
    """Return the probabilities of the weighted mean of the teachers' logits."""
    return ((logits * shares).sum(0) / tau).softmax(-1)


def majority(logits: Tensor, shares: Tensor, tau: float) -> Tensor:
    """Return the weight of the teachers that put a class first; ``tau`` has no effect."""
    return (F.one_hot(logits.argmax(-1), logits.shape[-1]) * shares).sum(0)


VOTES: dict[str, Vote] = {
    "mean_probability": mean_probability,
    "mean_logit": mean_logit,
    "majority": majority,
}


def self_distillation(vote: Vote, tau: float) -> Term:
    """Return the loss term ``tau^2 * KL(p_T || softmax(S(x) / tau))``, a mean over the batch.

    p_T is the vote of the teachers. A sample for which no teacher has logits adds 0 to the mean.
    """

    def term(forward: Forward) -> Tensor:
        found = forward.context.memory["teachers"].recall(forward)
        if found is None:
            return forward.output.logits.new_zeros(())
        logits, known = found
        shares = known / known.sum(0).clamp_min(1)
        targets = vote(logits, shares[..., None], tau)
        divergences = soft_divergence(targets, forward.output.exact, tau)
        mean: Tensor = (divergences * known.any(0)).mean()
        return mean

    return term
