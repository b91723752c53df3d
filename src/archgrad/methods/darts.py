"""DARTS (Liu, Simonyan, Yang 2019, arXiv 1806.09055), the method that every other one changes.

Its patch is empty but for the two options. They describe the step, and they decide where patches
that are composed with it disagree.
"""

from __future__ import annotations

from typing import Literal

from archgrad.components import hypergradient as hypergradients
from archgrad.searching.origin import with_origin
from archgrad.searching.patch import Patch


@with_origin()
def darts(
    *,
    order: Literal["alpha_first", "weight_first"] | None = None,
    hypergradient: Literal["first_order", "second_order", "finite_differences"] | None = None,
) -> Patch:
    """Search by gradient: a softmax over the alphas of each edge weighs the ops of that edge.

    The mixture is p = softmax(a) (eq. 2). The alphas descend the validation loss L_val(w*(a), a),
    where w*(a) minimises the training loss (eq. 3, 4). Every method starts from this step. Both
    options also decide where composed methods disagree.

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
