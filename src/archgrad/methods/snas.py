"""SNAS (Xie et al., ICLR 2019, arXiv 1812.09926).

"SNAS: Stochastic Neural Architecture Search". It is DARTS with a drawn mixture, so it descends the
expected loss over architectures. It has one level: the alphas learn from the training images too.
"""

from __future__ import annotations

from archgrad.components.relax import concrete, softmax
from archgrad.components.schedules import linear
from archgrad.option_types import PositiveFloat
from archgrad.searching.origin import with_origin
from archgrad.searching.patch import Patch


@with_origin()
def snas(*, hot: PositiveFloat = 1.0, cold: PositiveFloat = 0.03) -> Patch:
    """Draw the mixture from a concrete distribution that comes ever closer to one-hot.

    The mixture is p = softmax((a + g) / T) with Gumbel noise g. The temperature T falls linearly
    [author code]. The alphas learn from training images.

    Args:
        hot: temperature T in the first epoch.
        cold: temperature T in the last epoch.

    Returns:
        The patch of the method.
    """
    temperature = linear(hot, cold)
    return Patch(
        "snas",
        # Each half of a step draws its own mixture; the paper's one backward pass has one draw.
        relax=concrete(temperature),
        readout=softmax,
        alpha_split="train",
        scalars={"temperature": temperature},
    )
