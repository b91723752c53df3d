"""DARTS- (Chu et al. 2021, arXiv 2009.01027).

"DARTS-: Robustly Stepping out of Performance Collapse Without Indicators". A skip has two
advantages: it is an op, and it lets gradients through to the layers before it. A second skip, which
is not searched, takes the second advantage away from the searched skip. The weight of the second
skip falls, so that the derived network does not need it.
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
from archgrad.searching.origin import with_origin
from archgrad.searching.patch import Patch
from archgrad.searching.types import Reshape

SKIP = "skip_connect"


@with_origin()
def dartsminus(
    *,
    beta: NotNegativeFloat = 1.0,
    decay: Literal["linear", "cosine", "constant"] = "linear",
) -> Patch:
    """Add a second skip to every edge, which is not searched and whose weight falls.

    An edge computes o(x) = beta * x + sum_k p_k o_k(x).

    Args:
        beta: weight of the second skip in the first epoch.
        decay: schedule of the weight of the second skip (linear, cosine or constant); linear and
            cosine reach 0 one epoch after the last.

    Returns:
        The patch of the method.
    """
    rules: dict[str, Scalar] = {
        "linear": toward(beta, 0.0),
        "cosine": lambda context: (
            beta * (1 + math.cos(math.pi * context.progress.epoch / context.progress.epochs)) / 2
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
    """Return a reshape that gives the second skip of every edge the weight ``beta``.

    An edge has the second skip whatever ops it still has [author code]. At stride 2, where x does
    not fit, the second skip is a factorized reduction with weights of its own. Where beta is 0, the
    second skip does not run, and the result equals DARTS's to the last bit.
    """

    def reshape(mixture: Mixture, alphas: Alphas, context: Context) -> Mixture:
        weight = beta(context)
        columns = {
            name: alphas[name].new_full((len(group.edges), 1), weight)
            for name, group in context.groups.items()
        }
        return replace(mixture, extras=columns) if weight else mixture

    return reshape
