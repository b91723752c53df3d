"""SNAS, "SNAS: Stochastic Neural Architecture Search" (Xie et al., ICLR 2019, arXiv 1812.09926).

DARTS whose mixture is drawn, from a concrete distribution that grows ever closer to one-hot: the expected loss over architectures is
descended. And one level in the place of two: alphas learn from the images that the weights learn from.
"""

from __future__ import annotations

from archgrad.components.relax import concrete, softmax
from archgrad.components.schedules import linear
from archgrad.option_types import PositiveFloat
from archgrad.searching.origin import marked
from archgrad.searching.patch import Patch


@marked()
def snas(*, hot: PositiveFloat = 1.0, cold: PositiveFloat = 0.03) -> Patch:
    """A mixture that is drawn from a concrete distribution, at a temperature that falls
    linearly [author code]. The alphas learn from training images too.

    Args:
        hot: temperature in the first epoch.
        cold: temperature in the last epoch.

    Returns:
        The patch of the method.
    """
    temperature = linear(hot, cold)
    return Patch(
        "snas",
        relax=concrete(
            temperature
        ),  # a draw of its own in each half; the paper's one backward pass has one draw for both
        readout=softmax,
        alpha_split="train",
        scalars={"temperature": temperature},
    )
