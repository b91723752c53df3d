"""Stratified choices: every class keeps its share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from archgrad.seeds import generator


def stratified(labels: Tensor, total: int, *place: object) -> Tensor:
    """Sorted indices (total,) of a random choice among labels (N,) in which each class keeps its share, to one image.

    The choice is a function of ``place`` alone. What is left over by rounding goes to the classes with the largest remainders
    (then to the first), so that the total is exact.
    """
    rng = generator(*place)
    members = [torch.nonzero(labels == label).flatten() for label in labels.unique()]
    counts = quotas([len(indices) for indices in members], total)
    chosen = [
        indices[torch.randperm(len(indices), generator=rng)[:count]]
        for indices, count in zip(members, counts)
    ]
    return torch.cat(chosen).sort().values


def quotas(counts: Sequence[int], total: int) -> list[int]:
    """``total`` shared out in proportion to ``counts``, whole numbers, by largest remainder."""
    whole = sum(counts)
    shares = [count * total // whole for count in counts]
    remainder = [count * total % whole for count in counts]
    for index in sorted(range(len(counts)), key=lambda index: -remainder[index])[
        : total - sum(shares)
    ]:
        shares[index] += 1
    return shares


def others(chosen: Tensor, count: int) -> Tensor:
    """Sorted indices of ``range(count)`` that are not in ``chosen``."""
    left = torch.ones(count, dtype=torch.bool)
    left[chosen] = False
    return torch.nonzero(left).flatten()
