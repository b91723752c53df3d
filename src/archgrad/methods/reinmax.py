"""ReinMax (Liu et al., NeurIPS 2023, arXiv 2304.08612).

"Bridging Discrete and Backpropagation: Straight-Through and Beyond". Straight-through, as in GDAS,
is a first-order approximation of the gradient of the expected loss (Euler's method). ReinMax is a
second-order one (Heun's method) at the same cost.
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
from archgrad.searching.origin import with_origin
from archgrad.searching.patch import Patch


@with_origin(PRESETS)
def reinmax(
    *, tau: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 1.0, idle: Idle = "scalar"
) -> Patch:
    """Run one op per edge as GDAS does, with a second-order gradient of the draw.

    The draw D has the gradient of 2 p1 - p / 2 (Algorithm 2), with p = softmax(a) and
    p1 = (D + softmax(a / tau)) / 2.

    Args:
        tau: temperature of the softmax in the estimate; at 1 the estimate is of second order, and a
            larger one makes it smoother.
        idle: gradient of the alpha of an op that was not drawn. With scalar it is that of a scalar
            in place of the op, and with nothing it is 0. With run it is that of the op, so all ops
            run in the alpha step; run is the estimate of the paper.

    Returns:
        The patch of the method.
    """
    return Patch("reinmax", relax=one_path(heun(tau), idle), readout=softmax)


def heun(tau: float) -> Surrogate:
    """Return the surrogate ``2 p1 - p / 2`` of Algorithm 2, at temperature ``tau``.

    p1 is written as a softmax of a plus a constant, so its gradient is that of a softmax.
    """

    def soft(draw: Draw, group: EdgeGroup, context: Context) -> Tensor:
        a = draw.alphas
        middle = (draw.chosen + tempered_softmax(a, group, tau)) / 2
        return (
            2 * masked_softmax((middle.log() - a).detach() + a, group)
            - masked_softmax(a, group) / 2
        )

    return soft
