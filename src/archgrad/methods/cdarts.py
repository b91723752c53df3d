"""CDARTS, "Cyclic Differentiable Architecture Search" (Yu et al., TPAMI 2022, arXiv 2006.10724).

DARTS with a second network: the evaluation network is what the search network would be discretised to, trained beside it, and its answers
are a loss of the alphas. A cycle derives it, warms it up, and trains both together. [paper]; what is marked [author code] was read in the
authors' repositories (microsoft/Cream, CDARTS, and researchmm/CyDAS, which keeps its scripts): see docs/cdarts.md.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from archgrad.arch.edges import EdgeGroup
from archgrad.components.context import Context, Forward
from archgrad.components.losses import Term, weighted
from archgrad.components.schedules import Scalar, Span, When, lasting, span
from archgrad.methods.cdarts_heads import DISTANCES, Heads
from archgrad.methods.cdarts_stepper import DISTILLATION, Cyclic
from archgrad.option_types import (
    NotNegativeFloat,
    NotNegativeInt,
    PositiveFloat,
    PositiveInt,
    PositiveShare,
)
from archgrad.searching.origin import marked
from archgrad.searching.patch import Patch

Window = Annotated[int, Field(ge=2)]

CIFAR = {"pool_bn": False}
IMAGENET = {
    "pretrain": 0.25, "warmup": 3, "joint": 1, "share": 0.2, "depth": 1.75, "fix_heads": False, "second_window": 5, "fade": 0.5, "decay": 1e-5,
}  # fmt: skip
CHAIN = {
    "depth": 1.0
}  # [reconstructed], and so is where the heads sit: behind the first and the second stage
NASBENCH201 = {"pretrain": 0, "joint": 1, "depth": 1.0, "fix_heads": False, "regular_on": "none"}
RELEASED = {"joint": 1, "distance": "smooth_l1", "mean": "all", "per_stage": True, "divide": True}
PRESETS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("darts", "s1", "s2", "s3", "s4", "cifar"), CIFAR),
    "imagenet": IMAGENET,
    "nasbench201": NASBENCH201,
    **dict.fromkeys(("mbconv", "nasbenchmacro"), CHAIN),
    "released": RELEASED,
}


@marked(PRESETS)
def cdarts(
    *,
    pretrain: Span = 0.0625,
    warmup: NotNegativeInt = 1,
    joint: PositiveInt = 2,
    share: PositiveShare = 1.0,
    keep_optimizers: bool = False,
    depth: PositiveFloat = 2.5,
    bn_affine: bool = False,
    share_fc: bool = False,
    pool_bn: bool | None = None,
    strength: NotNegativeFloat = 1.0,
    distance: Literal["kl", "smooth_l1"] = "kl",
    tau: PositiveFloat = 2.0,
    mean: Literal["batch", "all"] = "batch",
    detach_teacher: bool = False,
    ensemble: Literal["learned", "fixed"] = "learned",
    merge: Literal["concatenate", "sum"] = "concatenate",
    fix_heads: bool = True,
    second_window: Window = 6,
    regular: NotNegativeFloat = 5.0,
    regular_on: Literal["free", "none"] = "free",
    fade: PositiveFloat = 2 / 3,
    per_stage: bool = False,
    divide: bool = False,
    decay: NotNegativeFloat = 3e-4,
) -> Patch:
    """A search network and a deeper evaluation network that teach each other. An epoch of the
    search is an iteration: a pass that trains the search network alone, or a cycle, which
    warms the evaluation network up and then trains both.

    Args:
        pretrain: iterations at the start that train the search network alone: a count (2), or a
            share of all (0.0625).
        warmup: passes in each cycle that train the evaluation network alone.
        joint: passes in each cycle that train both networks and the alphas.
        share: share of a half's batches that one pass takes.
        keep_optimizers: keep momenta and Adam's state from cycle to cycle.
        depth: cells of the evaluation network, in multiples of the search network's, rounded.
        bn_affine: let the BatchNorms in the evaluation network's cells scale and shift.
        share_fc: give both networks one classifier.
        pool_bn: put BatchNorms behind pools in both networks; the default is the space's.
        strength: factor of the distillation, the paper's lambda; 0 switches it off, with its heads.
        distance: distance between the networks' answers: a divergence (kl), or SmoothL1 times tau
            squared (smooth_l1).
        tau: temperature of the distillation.
        mean: mean of the divergence: over rows (batch), or over rows and classes (all).
        detach_teacher: keep the evaluation network from learning by the distillation.
        ensemble: weights of a network's three answers: trained ones (learned), or 1/3 each (fixed).
        merge: form of a network's three answers: one behind the other (concatenate), or added
            (sum).
        fix_heads: leave the heads of the distillation as they were drawn.
        second_window: side of the pool in the second head, in places of its features.
        regular: strength of the L1 penalty on alphas at the start.
        regular_on: alphas that the penalty counts: those of pools, skips and noise, as a sum
            (free), or those of the op none, as a mean (none).
        fade: share of the cycles after which the penalty is 0.
        per_stage: count the penalty on pools, skips and noise three times, once a stage, as the
            released code does.
        divide: divide both cross-entropies by the strength of the distillation, as the released
            code does.
        decay: weight decay of both networks.

    Returns:
        The patch of the method.
    """
    begin = span(pretrain, "cdarts.pretrain")
    coefficient = fading(
        3 * regular if per_stage and regular_on == "free" else regular, begin, warmup, joint, fade
    )
    pull = weighted(coefficient, magnitude(regular_on))
    heads = partial(
        Heads,
        windows=(6, second_window),
        frozen=fix_heads,
        learned=ensemble == "learned",
        summed=merge == "sum",
    )
    stepper = Cyclic(
        depth, bn_affine, share_fc, heads, warmup, joint, share, keep_optimizers,
        strength, DISTANCES[distance](tau, mean), detach_teacher, divide,
    )  # fmt: skip
    return Patch(
        "cdarts",
        stepper=stepper,
        needs_alphas=True,  # the evaluation network begins with the alpha steps
        alpha_from=begin,
        lengths=(lasting(warmup, "cdarts.warmup"),),
        alpha_terms=(pull,),
        drives={
            DISTILLATION: f"--cdarts.strength below {strength:g}",
            pull: f"--cdarts.regular below {regular:g}",
        },
        scalars={"regular": coefficient},
        space={} if pool_bn is None else {"pool_bn": pool_bn},
        # constant: the authors build cosine schedules and never step them [author code]
        weights={
            "lr": 0.08,
            "per": "never",
            "momentum": 0.9,
            "nesterov": False,
            "decay": decay,
            "clip": 5.0,
        },
        alphas={"decay": 0.0},
    )


def magnitude(on: str) -> Term:
    """``sum |a|`` over the weight-free ops of all groups, or ``mean |a|`` over ``none`` [author code]."""

    def term(forward: Forward) -> Tensor:
        chosen = [
            (forward.alphas[name], *_columns(group, on, forward.alphas[name].device))
            for name, group in forward.context.groups.items()
        ]
        size = torch.stack([(a.abs() * mask).sum() for a, mask, _ in chosen]).sum()
        return size if on == "free" else size / max(sum(count for *_, count in chosen), 1)

    return term


@lru_cache(maxsize=64)
def _columns(group: EdgeGroup, on: str, device: torch.device) -> tuple[Tensor, int]:
    """Bool (edges, ops) on the device, and how many are True: counted here, where no GPU must be waited for."""
    mask = group.columns(group.free if on == "free" else ("none",))
    return mask.to(device), int(mask.sum())


def fading(start: float, begin: When, warmup: int, joint: int, fade: float) -> Scalar:
    """``start * max(0, 1 - (t - pretrain) / ((iterations - pretrain) * joint * fade))``, t in joint epochs [author code].

    Their t counts ``joint`` epochs of every iteration, pretraining included, and pretrain is subtracted as it is: where both are above 1
    the first cycle is below ``start`` already.
    """

    def at(context: Context) -> float:
        t = context.t
        pretrain = begin(t.epochs)
        if t.epoch < pretrain:
            return start
        lap = max(
            1, t.steps // (warmup + joint)
        )  # a method composed with this one may train S alone for longer
        inner = min(max(t.step // lap - warmup, 0), joint - 1)
        gone = t.epoch * joint + inner - pretrain
        return start * max(0.0, 1 - gone / ((t.epochs - pretrain) * joint * fade))

    return at
