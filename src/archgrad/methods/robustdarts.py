"""RobustDARTS (Zela et al. 2020, arXiv 1909.09656).

"Understanding and Robustifying Differentiable Architecture Search". A search fails where the
curvature of the validation loss over the alphas rises. DARTS-ES stops the search before. The
stronger regularisations, weight decay in R-DARTS(L2) and dropped paths in R-DARTS(DP), prevent the
rise.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from pydantic import Field

from archgrad.arch.edges import Alphas
from archgrad.arch.mixture import Mixture
from archgrad.components.context import Context
from archgrad.components.schedules import (
    Interval,
    Scalar,
    Span,
    epoch_of_span,
    epochs_of_interval,
    linear,
)
from archgrad.methods.robustdarts_curvature import EigenvalueHistory, before_the_rise
from archgrad.option_types import NotNegativeFloat, Share
from archgrad.searching.duration import EIGENVALUE
from archgrad.searching.origin import with_origin
from archgrad.searching.patch import Patch
from archgrad.searching.types import Ahead, Method, Reshape, State

PRESETS: dict[str, dict[str, Any]] = {
    "es": {"stop": True},
    "l2": {"stop": False, "decay": 27e-4},
    "dp": {"stop": False, "drop_path": 0.4},
}


@with_origin(PRESETS)
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
    """Stop the search where the curvature over the alphas rises, or regularise the weights more.

    The curvature is the largest eigenvalue of the Hessian of the validation loss by the alphas. It
    has risen where mean(i - k) / mean(i) < ratio, with mean(i) over the k epochs around epoch i
    (section 4.3).

    Args:
        stop: end of the search where the curvature rises, with a selection by the alphas from
            before the rise.
        window: epochs k that each mean of the curvature covers: a count (5), or a fraction of the
            search (0.1).
        ratio: quotient of the earlier mean and the present one, below which the curvature has
            risen.
        start: earliest epoch whose alphas may be selected: an epoch (10), or a fraction of the
            search (0.2).
        images: number of validation images on which the curvature is measured.
        decay: weight decay of the supernet; the default is the space's.
        drop_path: probability that an op is dropped in the last epoch; it grows linearly from 0 in
            the first.

    Returns:
        The patch of the method.
    """
    patch = Patch("robustdarts", weights={} if decay is None else {"decay": decay})
    if stop:
        width, begin = (
            epochs_of_interval(window, "robustdarts.window"),
            epoch_of_span(start, "robustdarts.start"),
        )
        patch = replace(
            patch,
            memory={"curvature": lambda: EigenvalueHistory(width, ratio, begin, images)},
            finalise=before_the_rise,
            lengths=(width, begin),
            ahead={"curvature of the alphas": remaining_measurements(images)},
        )
    if drop_path:
        probability = linear(0.0, drop_path)
        patch = replace(
            patch,
            reshape=(drop_paths(probability),),
            scalars={"drop_path": probability},
        )
    return patch


def remaining_measurements(images: int) -> Ahead:
    """Return the images that the remaining measurements of the curvature take.

    One measurement comes after every epoch with alpha steps.
    """

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
    """Return a reshape that drops ops, in both halves of a step [author code]."""

    def reshape(mixture: Mixture, alphas: Alphas, context: Context) -> Mixture:
        if context.phase == "readout":
            return mixture
        return replace(mixture, drop_path=probability(context))

    return reshape
