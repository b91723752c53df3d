"""A cost that is the largest of its parts: its expectation, and how far it exceeds a bound."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

Odds = Sequence[tuple["Tensor", "Tensor"]]
"""For each edge group, the probability and the cost of each op, both (edges, ops)."""


def expected_maximum(base: float, odds: Odds) -> Tensor:
    """Return the expectation of the largest cost, if each edge draws its op by itself.

        E[max] = v_n - sum over i of  (v_{i+1} - v_i) * product over edges of  P(cost <= v_i)

    The ``v`` are the different costs in rising order, of which ``base`` is the lowest.

    Args:
        base: Cost of the parts that every network has.
        odds: Probabilities and costs.

    Returns:
        A scalar, differentiable in the probabilities.
    """
    import torch

    shares, costs = zip(*odds)
    values = torch.cat([shares[0].new_tensor([base]), *(table.flatten() for table in costs)])
    levels = values.clamp(min=values[0]).unique()
    below = torch.ones_like(levels[:-1])
    for share, table in odds:
        above = (table > levels[:-1, None, None]).to(share.dtype)
        below = below * (1 - (share * above).sum(2)).prod(1)
    found: Tensor = levels[-1] - (levels.diff() * below).sum()
    return found


def expected_excess(bound: float, odds: Odds) -> Tensor:
    """Return the cost above a bound that each edge is expected to have, summed over the edges.

    Args:
        bound: The bound.
        odds: Probabilities and costs.

    Returns:
        A scalar, differentiable in the probabilities.
    """
    import torch

    return torch.stack(
        [(share * (table - bound).clamp(min=0)).sum() for share, table in odds]
    ).sum()
