"""SmoothDARTS, "Stabilizing Differentiable Architecture Search via Perturbation-based Regularization" (Chen & Hsieh, ICML 2020, arXiv
2002.05283).

DARTS whose weights are trained at a mixture near the alphas', a random one (RS) or the worst one (ADV), ever farther away: so that the loss
is flat in the mixture, and discretising it costs little.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from archgrad.origin import marked
from archgrad.patch import Patch
from archgrad.perturb import attack, clamped, noise, normalised
from archgrad.schedules import toward

Radius = Annotated[float, Field(ge=0, le=1)]


@marked()
def smoothdarts(
    *,
    form: Literal["random", "adversarial"] = "random",
    start: Radius = 0.03,
    end: Radius = 0.3,
    steps: Annotated[int, Field(ge=1)] = 7,
    normalise: bool = True,
) -> Patch:
    """``form``: RS, uniform noise; or ADV, an attack of ``steps`` steps. The radius, in mixture weights, grows from ``start`` in the first epoch
    towards ``end`` as a share of the search. ``normalise``: an edge sums to what it did [author code]; off, the weights are in the ball and
    in [0, 1] alone."""
    radius, settle = toward(start, end), normalised if normalise else clamped
    return Patch(
        "smoothdarts",
        perturb=noise(radius, settle) if form == "random" else attack(radius, steps, settle),
        scalars={"radius": radius},
    )
