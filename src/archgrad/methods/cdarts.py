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

from archgrad.arch import Context, EdgeGroup, Forward
from archgrad.methods.cyclic import DISTILLATION, Cyclic
from archgrad.methods.introspection import DISTANCES, Heads
from archgrad.origin import marked
from archgrad.patch import Patch
from archgrad.schedules import Scalar, Span, When, lasting, span
from archgrad.terms import Term, weighted

Count = Annotated[int, Field(ge=1)]
Window = Annotated[int, Field(ge=2)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]

CIFAR = {"pool_bn": False}
IMAGENET = {
    "pretrain": 0.25, "warmup": 3, "joint": 1, "share": 0.2, "depth": 1.75, "fix_heads": False, "second_window": 5, "fade": 0.5, "decay": 1e-5,
}  # fmt: skip
CHAIN = {"depth": 1.0}  # [reconstructed], and so is where the heads sit: behind the first and the second stage
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
    warmup: Annotated[int, Field(ge=0)] = 1,
    joint: Count = 2,
    share: Annotated[float, Field(gt=0, le=1)] = 1.0,
    keep_optimizers: bool = False,
    depth: Positive = 2.5,
    bn_affine: bool = False,
    share_fc: bool = False,
    pool_bn: bool | None = None,
    strength: NotNegative = 1.0,
    distance: Literal["kl", "smooth_l1"] = "kl",
    tau: Positive = 2.0,
    mean: Literal["batch", "all"] = "batch",
    detach_teacher: bool = False,
    ensemble: Literal["learned", "fixed"] = "learned",
    merge: Literal["concatenate", "sum"] = "concatenate",
    fix_heads: bool = True,
    second_window: Window = 6,
    regular: NotNegative = 5.0,
    regular_on: Literal["free", "none"] = "free",
    fade: Positive = 2 / 3,
    per_stage: bool = False,
    divide: bool = False,
    decay: NotNegative = 3e-4,
) -> Patch:
    """Of the search's epochs, its iterations: ``pretrain``, those that train the search network alone, a count (2) or a share (0.0625); in each
    cycle after these, passes of ``warmup`` and of ``joint`` training, over a ``share`` of the batches. ``keep_optimizers`` from cycle to cycle.

    The evaluation network: ``depth``, its cells in multiples of the search network's; ``bn_affine``; ``share_fc``, one classifier for both;
    ``pool_bn``: BatchNorms behind pools in both networks (None: as the space has it).

    Distillation: ``strength`` (lambda), ``distance``, temperature ``tau``, ``mean`` over the batch, or over classes too; ``detach_teacher``;
    ``ensemble`` weights; ``merge`` of its three answers; ``fix_heads``: they stay random; ``second_window``: of the second head's pool.

    ``regular``: strength of the L1 on alphas, of all weight-free ops (``free``, a sum) or of ``none`` (a mean), falling to 0 over a share
    ``fade`` of the cycles; ``per_stage`` counts it three times, ``divide`` divides both cross-entropies by ``strength``, as the released code
    does. ``decay``: of the weights.
    """
    begin = span(pretrain, "cdarts.pretrain")
    coefficient = fading(3 * regular if per_stage and regular_on == "free" else regular, begin, warmup, joint, fade)
    pull = weighted(coefficient, magnitude(regular_on))
    heads = partial(Heads, windows=(6, second_window), frozen=fix_heads, learned=ensemble == "learned", summed=merge == "sum")
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
        drives={DISTILLATION: f"--cdarts.strength below {strength:g}", pull: f"--cdarts.regular below {regular:g}"},
        scalars={"regular": coefficient},
        space={} if pool_bn is None else {"pool_bn": pool_bn},
        # constant: the authors build cosine schedules and never step them [author code]
        weights={"lr": 0.08, "per": "never", "momentum": 0.9, "nesterov": False, "decay": decay, "clip": 5.0},
        alphas={"decay": 0.0},
    )


def magnitude(on: str) -> Term:
    """``sum |a|`` over the weight-free ops of all groups, or ``mean |a|`` over ``none`` [author code]."""

    def term(forward: Forward) -> Tensor:
        chosen = [(forward.alphas[name], *_columns(group, on, forward.alphas[name].device)) for name, group in forward.context.groups.items()]
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
        lap = max(1, t.steps // (warmup + joint))  # a method composed with this one may train S alone for longer
        inner = min(max(t.step // lap - warmup, 0), joint - 1)
        gone = t.epoch * joint + inner - pretrain
        return start * max(0.0, 1 - gone / ((t.epochs - pretrain) * joint * fade))

    return at
