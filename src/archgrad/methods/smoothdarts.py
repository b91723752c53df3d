"""SmoothDARTS, "Stabilizing Differentiable Architecture Search via Perturbation-based Regularization" (Chen & Hsieh, ICML 2020, arXiv
2002.05283).

DARTS whose weights are trained at a mixture near the alphas', a random one (RS) or the worst one (ADV), ever farther away: so that the loss
is flat in the mixture, and discretising it costs little.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from archgrad.components.perturb import attack, clamped, noise, normalised
from archgrad.components.schedules import toward
from archgrad.option_types import PositiveInt
from archgrad.searching.origin import marked
from archgrad.searching.patch import Patch

Radius = Annotated[float, Field(ge=0, le=1)]


@marked()
def smoothdarts(
    *,
    form: Literal["random", "adversarial"] = "random",
    start: Radius = 0.03,
    end: Radius = 0.3,
    steps: PositiveInt = 7,
    normalise: bool = True,
) -> Patch:
    """Weights that learn at a mixture near that of the alphas: a random one, or the worst one.

    Args:
        form: kind of that mixture: uniform noise (random, RS), or an attack (adversarial, ADV).
        start: radius in the first epoch, in mixture weights.
        end: radius that would be reached an epoch after the last.
        steps: number of steps of the attack.
        normalise: scale an edge so that it sums to what it did [author code]; without it the
            weights stay within the radius and within [0, 1].

    Returns:
        The patch of the method.
    """
    radius, settle = toward(start, end), normalised if normalise else clamped
    return Patch(
        "smoothdarts",
        perturb=noise(radius, settle) if form == "random" else attack(radius, steps, settle),
        scalars={"radius": radius},
    )
