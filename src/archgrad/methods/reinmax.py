"""ReinMax, "Bridging Discrete and Backpropagation: Straight-Through and Beyond" (Liu et al., NeurIPS 2023, arXiv 2304.08612).

GDAS with another gradient of the draw: straight-through is a first-order approximation of the gradient of the expected loss (Euler's
method), this a second-order one (Heun's), of the same cost. The draw itself is the same.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor

from archgrad.arch.edges import EdgeGroup
from archgrad.components.context import Context
from archgrad.components.relax import (
    Draw,
    Surrogate,
    masked_softmax,
    one_path,
    softmax,
    tempered_softmax,
)
from archgrad.methods.gdas import PRESETS, Idle
from archgrad.searching.origin import marked
from archgrad.searching.patch import Patch


@marked(PRESETS)
def reinmax(
    *, tau: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 1.0, idle: Idle = "scalar"
) -> Patch:
    """The draw of GDAS with a gradient of second order.

    Args:
        tau: temperature of the softmax in the estimate; at 1 the estimate is of second order, and a
            larger one makes it smoother.
        idle: gradient for the alpha of an op that was not drawn: that of a scalar in its place
            (scalar), 0 (nothing), or the op's own (run), for which all ops run in the alpha step;
            run is the estimate of the paper.

    Returns:
        The patch of the method.
    """
    return Patch("reinmax", relax=one_path(heun(tau), idle), readout=softmax)


def heun(tau: float) -> Surrogate:
    """Algorithm 2: ``2 p1 - p / 2``, with p = softmax(a) and p1 = (D + softmax(a / tau)) / 2 for the draw D, p1 as a softmax of a plus a
    constant, which has its Jacobian."""

    def soft(draw: Draw, group: EdgeGroup, context: Context) -> Tensor:
        a = draw.alphas
        middle = (draw.chosen + tempered_softmax(a, group, tau)) / 2
        return (
            2 * masked_softmax((middle.log() - a).detach() + a, group)
            - masked_softmax(a, group) / 2
        )

    return soft
