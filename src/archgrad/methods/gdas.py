"""GDAS, "Searching for a Robust Neural Architecture in Four GPU Hours" (Dong, Yang, CVPR 2019, arXiv 1910.04465).

DARTS in which only one op an edge runs, drawn anew in each half of a step by the probabilities softmax(a): a step costs what one
architecture costs. The draw has the gradient of ``softmax((a + g) / T)``, g the Gumbel noise that drew it, at a temperature that falls.
"""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor

from archgrad.arch.edges import EdgeGroup
from archgrad.components.context import Context
from archgrad.components.relax import Draw, Surrogate, one_path, softmax, tempered_softmax
from archgrad.components.schedules import Scalar, linear
from archgrad.option_types import PositiveFloat
from archgrad.searching.origin import marked
from archgrad.searching.patch import Patch

Idle = Literal["scalar", "nothing", "run"]

# [author code] The searches of NAS-Bench-201 add the scalar, that of the DARTS cells multiplies the drawn op by its weight and leaves it there.
PRESETS: dict[str, dict[str, Any]] = {
    name: {"idle": "nothing"} for name in ("darts", "s1", "s2", "s3", "s4")
}


@marked(PRESETS)
def gdas(*, hot: PositiveFloat = 10.0, cold: PositiveFloat = 0.1, idle: Idle = "scalar") -> Patch:
    """One op an edge runs, drawn by the alphas; the draw has the gradient of a Gumbel softmax,
    at a temperature that falls linearly.

    Args:
        hot: temperature in the first epoch.
        cold: temperature in the last epoch.
        idle: gradient for the alpha of an op that was not drawn: that of a scalar in its place
            (scalar), 0 (nothing), or the op's own (run), for which all ops run in the alpha step.

    Returns:
        The patch of the method.
    """
    temperature = linear(hot, cold)
    return Patch(
        "gdas",
        relax=one_path(gumbel_softmax(temperature), idle),
        readout=softmax,  # not of one draw; the argmax of the authors' bare alphas is the same
        scalars={"temperature": temperature},
    )


def gumbel_softmax(temperature: Scalar) -> Surrogate:
    """``softmax((log p + g) / T)`` with p = softmax(a); that log p and a differ by a constant of the edge changes nothing."""

    def soft(draw: Draw, group: EdgeGroup, context: Context) -> Tensor:
        return tempered_softmax(draw.alphas + draw.noise, group, temperature(context))

    return soft
