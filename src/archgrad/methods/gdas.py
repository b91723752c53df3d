"""GDAS (Dong, Yang, CVPR 2019, arXiv 1910.04465).

"Searching for a Robust Neural Architecture in Four GPU Hours". Only one op of each edge runs, so a
step costs as much as a step of one architecture.
"""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor

from archgrad.arch.edges import EdgeGroup
from archgrad.components.context import Context
from archgrad.components.relax import Draw, Surrogate, one_path, softmax, tempered_softmax
from archgrad.components.schedules import Scalar, linear
from archgrad.option_types import PositiveFloat
from archgrad.searching.origin import with_origin
from archgrad.searching.patch import Patch

Idle = Literal["scalar", "nothing", "run"]

# [author code] The searches in NAS-Bench-201 add a scalar for each op that was not drawn. The
# search in the DARTS space does not.
PRESETS: dict[str, dict[str, Any]] = {
    name: {"idle": "nothing"} for name in ("darts", "s1", "s2", "s3", "s4")
}


@with_origin(PRESETS)
def gdas(*, hot: PositiveFloat = 10.0, cold: PositiveFloat = 0.1, idle: Idle = "scalar") -> Patch:
    """Run one op per edge, drawn by softmax(a) anew in each half of a step.

    The draw has the gradient of a Gumbel softmax, softmax((a + g) / T) (straight-through). Here g
    is the Gumbel noise of the draw, and the temperature T falls linearly.

    Args:
        hot: temperature T in the first epoch.
        cold: temperature T in the last epoch.
        idle: gradient of the alpha of an op that was not drawn. With scalar it is that of a scalar
            in place of the op, and with nothing it is 0. With run it is that of the op, so all ops
            run in the alpha step.

    Returns:
        The patch of the method.
    """
    temperature = linear(hot, cold)
    return Patch(
        "gdas",
        relax=one_path(gumbel_softmax(temperature), idle),
        # The selection must not depend on one draw; the authors take the argmax of the alphas,
        # which is the same.
        readout=softmax,
        scalars={"temperature": temperature},
    )


def gumbel_softmax(temperature: Scalar) -> Surrogate:
    """Return the surrogate ``softmax((log p + g) / T)``, with p = softmax(a).

    The code uses a for log p: they differ by a constant of the edge, which no softmax sees.
    """

    def soft(draw: Draw, group: EdgeGroup, context: Context) -> Tensor:
        return tempered_softmax(draw.alphas + draw.noise, group, temperature(context))

    return soft
