"""Beta-DARTS (Ye et al., CVPR 2022, arXiv 2203.01665).

"beta-DARTS: Beta-Decay Regularization for Differentiable Architecture Search". It is DARTS with one
further loss of the alphas, which takes the place of their weight decay.
"""

from __future__ import annotations

from typing import Any

from archgrad.components.losses import logsumexp, weighted
from archgrad.components.schedules import toward
from archgrad.option_types import NotNegativeFloat
from archgrad.searching.origin import with_origin
from archgrad.searching.patch import Patch

# [author code] The strength grows by 0.5 an epoch, over the authors' 100 epochs.
PRESETS: dict[str, dict[str, Any]] = {"nasbench201": {"end": 50.0}}


@with_origin(PRESETS)
def betadarts(*, start: NotNegativeFloat = 0.0, end: NotNegativeFloat = 5.0) -> Patch:
    """Pull the alphas of an edge towards each other, by a loss that grows linearly with the epochs.

    The added loss of the alphas is strength * log sum_k exp(a_k), a mean over the edges. Its
    gradient is softmax(a), so the largest alpha is held back most.

    Args:
        start: strength of the loss in the first epoch.
        end: strength that the loss would reach one epoch after the last.

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
        # [paper] The loss replaces Adam's weight decay; the released script leaves that at 1e-3.
        alphas={"decay": 0.0},
    )
