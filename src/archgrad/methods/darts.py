"""DARTS (Liu, Simonyan, Yang 2019, arXiv 1806.09055): the origin, which changes nothing. Its options are the user's own word on the step,
and settle what patches composed with it disagree on."""

from __future__ import annotations

from typing import Literal

from archgrad.components import hypergradient as hypergradients
from archgrad.searching.origin import marked
from archgrad.searching.patch import Patch


@marked()
def darts(
    *,
    order: Literal["alpha_first", "weight_first"] | None = None,
    hypergradient: Literal["first_order", "second_order", "finite_differences"] | None = None,
) -> Patch:
    """DARTS itself, the step that every method starts from. Its options are the user's own word
    on that step, and they settle a disagreement between composed methods.

    Args:
        order: half of a step that comes first: the alphas' or the weights'. The default is the
            space's: weights first in NAS-Bench-201, alphas first elsewhere.
        hypergradient: gradient of the validation loss by the alphas. first_order takes the weights
            as they are; second_order takes them one SGD step on, by the exact product (eq. 7);
            finite_differences does so by the paper's approximation (eq. 8). The default is
            first_order.

    Returns:
        The patch of the method.
    """
    return Patch(
        "darts",
        order=order,
        hypergradient=getattr(hypergradients, hypergradient) if hypergradient else None,
    )
