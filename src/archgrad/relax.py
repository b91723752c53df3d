"""Relaxations: alphas -> mixture. Each is one idea of one paper. All of them work in float32 whatever autocast says."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from archgrad.arch import Alphas, Context, EdgeGroup, Mixture


@lru_cache(maxsize=256)
def _mask(group: EdgeGroup, device: torch.device) -> Tensor:
    return group.mask(device)


def masked_softmax(logits: Tensor, group: EdgeGroup) -> Tensor:
    """logits (..., edges, ops) -> probabilities over each edge's own ops; padding and removed edges get 0, and send no gradient back."""
    mask = _mask(group, logits.device)
    # The smallest finite number, not -inf: a removed edge is masked whole, and the softmax of only -inf is nan.
    return logits.masked_fill(~mask, torch.finfo(logits.dtype).min).softmax(-1) * mask


def softmax(alphas: Alphas, context: Context) -> Mixture:
    """``p = softmax(a)`` per edge: the continuous relaxation (DARTS, Liu et al. 2019, arXiv 1806.09055, eq. 2)."""
    return Mixture({name: masked_softmax(alphas[name], group) for name, group in context.groups.items()})
