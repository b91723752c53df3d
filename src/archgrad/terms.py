"""Loss terms: ``Forward -> scalar``. A method's loss is a sum of them."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from archgrad.arch import Forward
from archgrad.schedules import Scalar

Term = Callable[[Forward], Tensor]


def cross_entropy(forward: Forward) -> Tensor:
    """Mean cross-entropy of logits (B, K) and labels (B,), in float32 at least."""
    logits = forward.output.logits
    return F.cross_entropy(logits.to(torch.promote_types(logits.dtype, torch.float32)), forward.batch.labels)


def weighted(scale: Scalar, term: Term) -> Term:
    """``scale(context) * term``; where the scale is 0 the term is not run at all, so that strength 0 is DARTS bit for bit."""

    def scaled(forward: Forward) -> Tensor:
        factor = scale(forward.context)
        return factor * term(forward) if factor else forward.output.logits.new_zeros(())

    return scaled
