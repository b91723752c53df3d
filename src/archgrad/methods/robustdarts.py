"""RobustDARTS, "Understanding and Robustifying Differentiable Architecture Search" (Zela et al. 2020, arXiv 1909.09656).

DARTS that stops where the curvature of the validation loss over the alphas rises, and derives the genotype from before the rise (DARTS-ES).
Or DARTS whose weights are regularised more, by decay (R-DARTS(L2)) or by dropped paths (R-DARTS(DP)), so that it does not rise.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from pydantic import Field

from archgrad.arch.edges import Alphas
from archgrad.arch.mixture import Mixture
from archgrad.components.context import Context
from archgrad.components.schedules import Interval, Scalar, Span, lasting, linear, span
from archgrad.methods.robustdarts_curvature import Curvature, before_the_rise
from archgrad.option_types import NotNegativeFloat, Share
from archgrad.searching.duration import EIGENVALUE
from archgrad.searching.origin import marked
from archgrad.searching.patch import Patch
from archgrad.searching.types import Ahead, Method, Reshape, State

PRESETS: dict[str, dict[str, Any]] = {
    "es": {"stop": True},
    "l2": {"stop": False, "decay": 27e-4},
    "dp": {"stop": False, "drop_path": 0.4},
}


@marked(PRESETS)
def robustdarts(
    *,
    stop: bool = True,
    window: Interval = 0.1,
    ratio: Annotated[float, Field(gt=0, lt=1)] = 0.75,
    start: Span = 0.2,
    images: Annotated[int, Field(ge=2)] = 64,
    decay: NotNegativeFloat | None = None,
    drop_path: Share = 0.0,
) -> Patch:
    """A search that ends where the curvature of the validation loss over the alphas rises, or
    whose weights are regularised more. The curvature is the largest eigenvalue.

    Args:
        stop: end the search where the curvature rises, and derive what the alphas said before the
            rise.
        window: epochs of each of the two means of the curvature that are compared: a count (5), or
            a share of the search (0.1).
        ratio: share of the mean now below which the mean of the window before says that the
            curvature rose.
        start: earliest time that is derived from: an epoch (10), or a share of the search (0.2).
        images: number of validation images on which the curvature is measured.
        decay: weight decay of the supernet; the default is the space's.
        drop_path: probability that an op is dropped in the last epoch; it grows from 0 in the
            first.

    Returns:
        The patch of the method.
    """
    widths, begin, dropping = (
        lasting(window, "robustdarts.window"),
        span(start, "robustdarts.start"),
        linear(0.0, drop_path),
    )
    memory = {"curvature": lambda: Curvature(widths, ratio, begin, images)}
    ahead = {"curvature of the alphas": watching(images)}
    early: dict[str, Any] = {
        "memory": memory,
        "finalise": before_the_rise,
        "lengths": (widths, begin),
        "ahead": ahead,
    }
    dropped: dict[str, Any] = {
        "reshape": (drop_paths(dropping),),
        "scalars": {"drop_path": dropping},
    }
    return Patch(
        "robustdarts",
        weights={} if decay is None else {"decay": decay},
        **(early if stop else {}),
        **(dropped if drop_path else {}),
    )


def watching(images: int) -> Ahead:
    """A measurement of the curvature after every epoch with alpha steps."""

    def ahead(method: Method, state: State) -> float:
        return (
            EIGENVALUE
            * images
            * sum(
                method.moves_alphas(replace(state, epoch=epoch))
                for epoch in range(state.epoch, state.plan.epochs)
            )
        )

    return ahead


def drop_paths(probability: Scalar) -> Reshape:
    """In both halves of a step, as theirs [author code]."""

    def reshape(mixture: Mixture, alphas: Alphas, context: Context) -> Mixture:
        return (
            mixture
            if context.phase == "readout"
            else replace(mixture, drop_path=probability(context))
        )

    return reshape
