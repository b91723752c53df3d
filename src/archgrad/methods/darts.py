"""DARTS (Liu, Simonyan, Yang 2019, arXiv 1806.09055): the origin, which changes nothing. Its options are the user's own word on the step,
and settle what patches composed with it disagree on."""

from __future__ import annotations

from typing import Literal

from archgrad import hypergradient as hypergradients
from archgrad.origin import marked
from archgrad.patch import Patch


@marked()
def darts(
    *,
    order: Literal["alpha_first", "weight_first"] | None = None,
    hypergradient: Literal["first_order", "second_order", "finite_differences"] | None = None,
) -> Patch:
    """``order`` of the two halves of a step (the space's default: DARTS cells alphas first, NAS-Bench-201 weights first).
    ``hypergradient``: first order; second order by the exact product (eq. 7) or by the paper's finite differences (eq. 8)."""
    return Patch("darts", order=order, hypergradient=getattr(hypergradients, hypergradient) if hypergradient else None)
