"""Loss terms, ``Forward -> scalar``. The loss of a method is a sum of them."""

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


def label_loss(output: Output, batch: Batch) -> Tensor:
    """Return the mean cross-entropy of logits (B, K) and labels (B,), in float32 or float64."""
    return F.cross_entropy(output.exact, batch.labels)


def accuracy(output: Output, batch: Batch) -> Tensor:
    """Return the share of the images whose largest logit is that of their label, a scalar."""
    return (output.logits.argmax(1) == batch.labels).float().mean()


def cross_entropy(forward: Forward) -> Tensor:
    """Return `label_loss` of a pass, even if the method has another loss."""
    return label_loss(forward.output, forward.batch)


def task(forward: Forward) -> Tensor:
    """Return the first term of every loss: the cross-entropy, or the patch's own (`Patch.loss`)."""
    return (forward.loss or label_loss)(forward.output, forward.batch)


def soft_divergence(targets: Tensor, logits: Tensor, tau: float) -> Tensor:
    """Return ``tau^2 * KL(p || softmax(z / tau))`` of each sample.

    The factor tau^2 keeps the size of the gradient (Hinton et al. 2015, arXiv 1503.02531).

    Args:
        targets: Probabilities p (B, K).
        logits: Logits z (B, K).
        tau: Temperature.

    Returns:
        (B,).
    """
    log_q = (logits / tau).log_softmax(-1)
    return tau**2 * (torch.xlogy(targets, targets) - targets * log_q).sum(-1)


def logsumexp(forward: Forward) -> Tensor:
    """Return the mean, over the edges of all groups, of ``log sum exp(a)`` over an edge's ops.

    It falls as an edge's largest alphas become smaller and more alike (Beta-DARTS, arXiv
    2203.01665).
    """
    groups = forward.context.groups
    total = torch.stack(
        [masked_logsumexp(forward.alphas[name], group).sum() for name, group in groups.items()]
    ).sum()
    return total / max(
        sum(bool(edge.primitives) for group in groups.values() for edge in group.edges), 1
    )


def weighted(scale: Scalar, term: Term) -> Term:
    """Return the term ``scale(context) * term``.

    Where the scale is 0 the term does not run, so that a strength of 0 is DARTS bit for bit.
    """

    def scaled(forward: Forward) -> Tensor:
        factor = scale(forward.context)
        if not factor:
            return next(iter(forward.alphas.values())).new_zeros(())
        return factor * term(forward)

    return scaled
