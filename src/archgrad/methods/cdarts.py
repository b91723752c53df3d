"""CDARTS (Yu et al., TPAMI 2022, arXiv 2006.10724).

"Cyclic Differentiable Architecture Search". All that is not marked comes from the paper. [author
code] is from the authors' repositories: microsoft/Cream (CDARTS), and researchmm/CyDAS, which keeps
its scripts. docs/cdarts.md compares the three.
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
from archgrad.components.schedules import Scalar, Span, When, epoch_of_span, epochs_of_interval
from archgrad.methods.cdarts_heads import DISTANCES, Heads
from archgrad.methods.cdarts_stepper import DISTILLATION, Cyclic
from archgrad.option_types import (
    NotNegativeFloat,
    NotNegativeInt,
    PositiveFloat,
    PositiveInt,
    PositiveShare,
)
from archgrad.searching.origin import with_origin
from archgrad.searching.patch import Patch

Window = Annotated[int, Field(ge=2)]

CIFAR = {"pool_bn": False}
IMAGENET = {
    "pretrain": 0.25,
    "warmup": 3,
    "joint": 1,
    "share": 0.2,
    "depth": 1.75,
    "fix_heads": False,
    "second_window": 5,
    "fade": 0.5,
    "decay": 1e-5,
}
# [reconstructed] So is the place of the heads in these spaces, behind the first and second stage.
CHAIN = {"depth": 1.0}
NASBENCH201 = {"pretrain": 0, "joint": 1, "depth": 1.0, "fix_heads": False, "regular_on": "none"}
RELEASED = {"joint": 1, "distance": "smooth_l1", "mean": "all", "per_stage": True, "divide": True}
PRESETS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("darts", "s1", "s2", "s3", "s4", "cifar"), CIFAR),
    "imagenet": IMAGENET,
    "nasbench201": NASBENCH201,
    **dict.fromkeys(("mbconv", "nasbenchmacro"), CHAIN),
    "released": RELEASED,
}


@with_origin(PRESETS)
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
    """Train a search network S and a deeper evaluation network E that learn from each other.

    S is the supernet; E runs the architecture that is selected from S. In the joint passes the
    alphas and E descend CE(S) + CE(E) + strength * tau^2 * KL(p_E || p_S) + L_reg on validation
    images. An epoch of the search is an iteration: a pass that trains S alone, or a cycle. A cycle
    selects E anew, trains E alone, and then trains both.

    Args:
        pretrain: iterations at the start that train S alone: a count (2), or a fraction of all
            (0.0625).
        warmup: number of passes over the images in each cycle that train E alone.
        joint: number of passes over the images in each cycle that train S, E and the alphas.
        share: fraction of the batches of a half that one pass takes.
        keep_optimizers: momenta and Adam's state that stay from cycle to cycle.
        depth: number of cells of E, as a rounded multiple of that of S.
        bn_affine: learned scale and shift in the BatchNorms of E's cells.
        share_fc: one classifier for both networks.
        pool_bn: BatchNorms behind the pools of both networks; the default is the space's.
        strength: factor of the distillation, the paper's lambda; 0 switches it off, with its heads.
        distance: distance between the logits of S and E: tau squared times the KL divergence (kl),
            or tau squared times SmoothL1 (smooth_l1).
        tau: temperature of the distillation.
        mean: mean of the divergence: over rows (batch), or over rows and classes (all).
        detach_teacher: distillation without a gradient for E.
        ensemble: weights of the three logits of a network: trained (learned), or 1/3 each (fixed).
        merge: rule for the three logits of a network: put one behind the other in the batch
            (concatenate), or add them (sum).
        fix_heads: heads of the distillation that stay at their random initial weights.
        second_window: side of the pooling window in the second head, in pixels of its features.
        regular: strength of L_reg at the start, an L1 penalty on alphas.
        regular_on: alphas in L_reg: those of pools, skips and noise, as a sum (free), or those of
            the op none, as a mean (none).
        fade: fraction of the cycles after which L_reg is 0.
        per_stage: L_reg that counts pools, skips and noise three times, once a stage, as in the
            released code.
        divide: division of CE(S) and CE(E) by the strength, as in the released code.
        decay: weight decay of both networks.

    Returns:
        The patch of the method.
    """
    begin = epoch_of_span(pretrain, "cdarts.pretrain")
    coefficient = fading_strength(
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
        needs_alphas=True,  # before the first alpha step the evaluation network does not exist
        alpha_from=begin,
        lengths=(epochs_of_interval(warmup, "cdarts.warmup"),),
        alpha_terms=(pull,),
        drives={
            DISTILLATION: f"--cdarts.strength below {strength:g}",
            pull: f"--cdarts.regular below {regular:g}",
        },
        scalars={"regular": coefficient},
        space={} if pool_bn is None else {"pool_bn": pool_bn},
        # The rate is constant: the authors build cosine schedules but never step them [author
        # code].
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
    """Return the loss term of the L1 penalty on alphas [author code].

    Args:
        on: "free" is ``sum |a|`` over the ops without weights of all groups, "none" is ``mean |a|``
            over the op `none`.
    """

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
    """Return bool (edges, ops) on the device, and the number of true entries.

    The count is made on the host, so no step has to wait for a GPU.
    """
    mask = group.columns(group.free if on == "free" else ("none",))
    return mask.to(device), int(mask.sum())


def fading_strength(start: float, begin: When, warmup: int, joint: int, fade: float) -> Scalar:
    """Return the strength of the penalty, which falls linearly to 0 [author code].

    It is ``start * max(0, 1 - (t - pretrain) / ((iterations - pretrain) * joint * fade))``, with t
    in joint passes. The authors count ``joint`` passes for every iteration, pretraining included,
    but subtract the number of pretraining iterations. So where both are above 1, the first cycle
    already has less than ``start``.
    """

    def strength_at(context: Context) -> float:
        progress = context.progress
        pretrain = begin(progress.epochs)
        if progress.epoch < pretrain:
            return start
        # A method that is composed with CDARTS may train S alone for longer. Such an epoch is one
        # pass, which may have fewer steps than a cycle has passes.
        lap = max(1, progress.steps // (warmup + joint))
        inner = min(max(progress.step // lap - warmup, 0), joint - 1)
        gone = progress.epoch * joint + inner - pretrain
        return start * max(0.0, 1 - gone / ((progress.epochs - pretrain) * joint * fade))

    return strength_at
