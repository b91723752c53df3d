"""Loss terms: ``Forward -> scalar``. A method's loss is a sum of them."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from archgrad.arch import Forward
from archgrad.schedules import Scalar

Term = Callable[[Forward], Tensor]


def cross_entropy(forward: Forward) -> Tensor:
    """Mean cross-entropy of logits (B, K) and labels (B,)."""
    return F.cross_entropy(forward.output.logits.float(), forward.batch.labels)


def weighted(scale: Scalar, term: Term) -> Term:
    """``scale(context) * term``; where the scale is 0 the term is not run at all, so that strength 0 is DARTS bit for bit."""

    def scaled(forward: Forward) -> Tensor:
        factor = scale(forward.context)
        return factor * term(forward) if factor else forward.output.logits.new_zeros(())

    return scaled
