"""Random choices in which each class keeps its share (stratified).

`archgrad.data.batches` divides the images of a search into those for weights and those for alphas.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from archgrad.seeds import generator


def stratified(labels: Tensor, total: int, *place: object) -> Tensor:
    """Choose images at random so that each class keeps its share, up to one image.

    The images that rounding leaves over come from the classes with the largest remainders, and of
    equal ones from the first, so that the total is exact.

    Args:
        labels: Labels (N,).
        total: Number of images to choose.
        place: Seed and name of the choice, which is a function of them.

    Returns:
        Sorted indices (total,), int64.
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
    """Divide ``total`` into integers in proportion to ``counts``, by largest remainder.

    >>> quotas([5, 3, 2], 7)
    [4, 2, 1]
    """
    whole = sum(counts)
    shares = [count * total // whole for count in counts]
    remainder = [count * total % whole for count in counts]
    for index in sorted(range(len(counts)), key=lambda index: -remainder[index])[
        : total - sum(shares)
    ]:
        shares[index] += 1
    return shares


def others(chosen: Tensor, count: int) -> Tensor:
    """Return the sorted indices of ``range(count)`` that are not in ``chosen``."""
    left = torch.ones(count, dtype=torch.bool)
    left[chosen] = False
    return torch.nonzero(left).flatten()
