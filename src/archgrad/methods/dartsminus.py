"""DARTS-, "Robustly Stepping out of Performance Collapse Without Indicators" (Chu et al. 2021, arXiv 2009.01027).

A skip gains twice: as an op, and because it lets gradients through to what comes before. DARTS whose edges have a second, unsearched skip
beside their mixture, of weight beta, takes the second gain away from the searched one; beta falls, so that no such skip is left at the end.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

from archgrad.arch.edges import Alphas
from archgrad.arch.mixture import Mixture
from archgrad.components.context import Context
from archgrad.components.schedules import Scalar, constant, toward
from archgrad.option_types import NotNegativeFloat
from archgrad.searching.origin import marked
from archgrad.searching.patch import Patch
from archgrad.searching.types import Reshape

SKIP = "skip_connect"


@marked()
def dartsminus(
    *,
    beta: NotNegativeFloat = 1.0,
    decay: Literal["linear", "cosine", "constant"] = "linear",
) -> Patch:
    """A second skip on every edge, which is not searched and whose weight falls.

    Args:
        beta: weight of the second skip in the first epoch.
        decay: fall of that weight, which would be 0 an epoch after the last: linear or cosine;
            constant is no fall.

    Returns:
        The patch of the method.
    """
    rules: dict[str, Scalar] = {
        "linear": toward(beta, 0.0),
        "cosine": lambda context: (
            beta * (1 + math.cos(math.pi * context.t.epoch / context.t.epochs)) / 2
        ),
        "constant": constant(beta),
    }
    weight = rules[decay]
    return Patch(
        "dartsminus",
        space={"extras": (SKIP,)},
        reshape=(auxiliary_skip(weight),),
        scalars={"auxiliary_skip": weight},
    )


def auxiliary_skip(beta: Scalar) -> Reshape:
    """``o(x) = beta * x + sum_k p_k o_k(x)`` on every edge that is left, whatever its ops [author code]; at stride 2, where x does not fit, a
    factorized reduction of its own stands for it. At beta 0 it does not run: DARTS bit for bit."""

    def reshape(mixture: Mixture, alphas: Alphas, context: Context) -> Mixture:
        weight = beta(context)
        columns = {
            name: alphas[name].new_full((len(group.edges), 1), weight)
            for name, group in context.groups.items()
        }
        return replace(mixture, extras=columns) if weight else mixture

    return reshape
