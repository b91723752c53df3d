"""Beta-DARTS, "beta-DARTS: Beta-Decay Regularization for Differentiable Architecture Search" (Ye et al., CVPR 2022, arXiv 2203.01665).

DARTS whose alphas also descend ``log sum exp(a)`` of their edge, ever more strongly: the gradient of that is softmax(a) itself, so what is
ahead is held back. It takes the place of the weight decay on the alphas.
"""

from __future__ import annotations

from typing import Any

from archgrad.components.losses import logsumexp, weighted
from archgrad.components.schedules import toward
from archgrad.option_types import NotNegativeFloat
from archgrad.searching.origin import marked
from archgrad.searching.patch import Patch

PRESETS: dict[str, dict[str, Any]] = {
    "nasbench201": {"end": 50.0}
}  # [author code]: 0.5 an epoch, over their 100 epochs


@marked(PRESETS)
def betadarts(*, start: NotNegativeFloat = 0.0, end: NotNegativeFloat = 5.0) -> Patch:
    """A pull of the alphas on an edge towards each other, which grows linearly with the search,
    whatever its length.

    Args:
        start: strength of the pull in the first epoch.
        end: strength that the pull would reach an epoch after the last.

    Returns:
        The patch of the method.
    """
    strength = toward(start, end)
    decay = weighted(strength, logsumexp)
    return Patch(
        "betadarts",
        alpha_terms=(decay,),
        drives={decay: f"--betadarts.end below {max(start, end):g}"},
        scalars={"beta_decay": strength},
        alphas={
            "decay": 0.0
        },  # [paper] it stands in for Adam's; the released script leaves that at 1e-3
    )
