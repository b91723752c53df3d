"""Loss terms: ``Forward -> scalar``. A method's loss is a sum of them."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from archgrad.arch.passes import Batch, Output
from archgrad.components.context import Forward
from archgrad.components.relax import masked_logsumexp
from archgrad.components.schedules import Scalar

Term = Callable[[Forward], Tensor]


def of_labels(output: Output, batch: Batch) -> Tensor:
    """Mean cross-entropy of logits (B, K) and labels (B,), in float32 at least."""
    return F.cross_entropy(output.exact, batch.labels)


def cross_entropy(forward: Forward) -> Tensor:
    """`of_labels` of a pass, whatever loss the method has."""
    return of_labels(forward.output, forward.batch)


def task(forward: Forward) -> Tensor:
    """The first term of every loss: the cross-entropy, or what a patch has in its place (`Patch.loss`)."""
    return (forward.loss or of_labels)(forward.output, forward.batch)


def soft_divergence(targets: Tensor, logits: Tensor, tau: float) -> Tensor:
    """``tau^2 * KL(p || softmax(z / tau))`` of each sample: targets p (B, K), logits z (B, K) -> (B,) (Hinton et al. 2015,
    arXiv 1503.02531: tau^2 keeps the size of the gradient)."""
    log_q = (logits / tau).log_softmax(-1)
    return tau**2 * (torch.xlogy(targets, targets) - targets * log_q).sum(-1)


def logsumexp(forward: Forward) -> Tensor:
    """``mean over edges of log sum over ops of exp(a)``, over the edges of all groups: the smaller, the smaller and the more alike an edge's
    largest alphas (Beta-DARTS, arXiv 2203.01665)."""
    groups = forward.context.groups
    total = torch.stack(
        [masked_logsumexp(forward.alphas[name], group).sum() for name, group in groups.items()]
    ).sum()
    return total / max(
        sum(bool(edge.primitives) for group in groups.values() for edge in group.edges), 1
    )


def weighted(scale: Scalar, term: Term) -> Term:
    """``scale(context) * term``; where the scale is 0 the term is not run at all, so that strength 0 is DARTS bit for bit."""

    def scaled(forward: Forward) -> Tensor:
        factor = scale(forward.context)
        return factor * term(forward) if factor else forward.output.logits.new_zeros(())

    return scaled
