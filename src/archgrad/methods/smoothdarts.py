"""SmoothDARTS (Chen & Hsieh, ICML 2020, arXiv 2002.05283).

"Stabilizing Differentiable Architecture Search via Perturbation-based Regularization". The loss
becomes flat in the mixture, so the discretisation of the mixture costs little accuracy.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from archgrad.components.perturb import attack, clamped, noise, normalised
from archgrad.components.schedules import toward
from archgrad.option_types import PositiveInt
from archgrad.searching.origin import with_origin
from archgrad.searching.patch import Patch

Radius = Annotated[float, Field(ge=0, le=1)]


@with_origin()
def smoothdarts(
    *,
    form: Literal["random", "adversarial"] = "random",
    start: Radius = 0.03,
    end: Radius = 0.3,
    steps: PositiveInt = 7,
    normalise: bool = True,
) -> Patch:
    """Train the weights at a mixture near that of the alphas: a random one, or the worst one.

    The weights descend L_train(w, p + d), where each entry of d is at most the radius. The radius
    grows linearly with the epochs.

    Args:
        form: kind of perturbation d: uniform noise (random, the paper's RS), or a gradient attack
            on the loss (adversarial, the paper's ADV).
        start: radius in the first epoch, in mixture weights.
        end: radius that would be reached one epoch after the last, in mixture weights.
        steps: number of gradient steps of the attack.
        normalise: rescaling of the weights of an edge to their sum before d [author code]; without
            it the weights stay within the radius and within [0, 1].

    Returns:
        The patch of the method.
    """
    radius, settle = toward(start, end), normalised if normalise else clamped
    return Patch(
        "smoothdarts",
        perturb=noise(radius, settle) if form == "random" else attack(radius, steps, settle),
        scalars={"radius": radius},
    )
