"""A budget as a patch over any method: no selection exceeds it, and the search moves towards it.

Every limit has a multiplier m, which is the strength of its penalty. It grows while the unlimited
selection exceeds the bound, and falls while it does not (the differential multiplier method, Platt
& Barr, NIPS 1987). So no strength has to be chosen.

    alpha loss  +=  sum over limits of  m E[cost] / bound
    m           <-  max(0, m + rate * g)    after every epoch with alpha steps; FALL times as fast
                                            where g < 0
    g            =  cost / bound - 1        of the selection without a budget

g is a function of the selection, not of the expected cost. A mixture is nearly uniform for long,
and its strongest ops cost far less than its expected cost. A search that held the expected cost at
the bound would end far below its budget.

This module adds the penalty and passes the limits on. `archgrad.components.select` and
`archgrad.cost.limits` keep every selection within them, whatever the mixture is.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from archgrad.components.context import Context, Forward
from archgrad.components.losses import Term
from archgrad.cost.cost import expected, pressure
from archgrad.cost.limits import Limits
from archgrad.searching.patch import Patch
from archgrad.searching.types import Memory, Method, SearchData, State

FALL = 20.0
"""How many times faster a multiplier falls than it rises.

Adam moves the alphas equally fast under a small gradient. With a multiplier that fell as slowly as
it rose, the mixture would go far below the bound.
"""


def budget(limits: Limits, *, rate: float = 0.1) -> Patch:
    """Keep every selection within the limits, and move the alphas towards them by a penalty.

    Args:
        limits: The limits, each a cost and its bound.
        rate: Growth of a multiplier in an epoch at whose end the selection costs twice the bound.

    Returns:
        The patch of the budget.
    """
    return Patch(
        "budget",
        limits=limits,
        alpha_terms=(penalty(limits),),
        memory={"budget": partial(Multipliers, limits, rate)},
    )


def penalty(limits: Limits) -> Term:
    """Return the loss term ``sum over limits of m E[cost] / bound``, a scalar.

    For a limit on a maximum, the excess over the bound stands for E[cost] (`archgrad.cost.cost`).
    """

    def term(forward: Forward) -> Tensor:
        multipliers: Tensor = forward.context.memory["budget"].multipliers
        costs = [
            pressure(limit.cost, limit.bound, forward.mixture, forward.context.groups)
            for limit in limits
        ]
        return (multipliers * torch.stack(costs)).sum()

    return term


class Multipliers(Memory):
    """The multipliers of the limits, float32 on the device of the search, (limits,); 0 at first."""

    def __init__(self, limits: Limits, rate: float) -> None:
        self.limits, self.rate = limits, rate
        self.multipliers = torch.zeros(len(limits))

    def bind(self, state: State) -> None:
        self.multipliers = self.multipliers.to(state.device)

    def after_epoch(
        self, method: Method, state: State, data: SearchData, context: Context
    ) -> dict[str, Any]:
        """Move the multipliers, and return four metrics for each limit.

        For a cost NAME they are NAME, the cost of the present selection; NAME_free, that of the
        selection without a budget; NAME_expected, that of the mixture; and NAME_multiplier.
        """
        mixture, selected = method.readout(state), method.genotype(state)
        free = method.selected_genotype(state, ())
        if method.moves_alphas(state):
            over = self.multipliers.new_tensor(
                [limit.cost.value_of(free) / limit.bound - 1 for limit in self.limits]
            )
            self.multipliers = (
                self.multipliers + self.rate * torch.where(over > 0, over, FALL * over)
            ).clamp(min=0)
        found: dict[str, Any] = {}
        for limit, multiplier in zip(self.limits, self.multipliers.tolist()):
            name = limit.cost.name
            found |= {
                name: limit.cost.value_of(selected),
                f"{name}_free": limit.cost.value_of(free),
            }
            found[f"{name}_expected"] = float(expected(limit.cost, mixture, context.groups))
            found[f"{name}_multiplier"] = multiplier
        return found

    def state_dict(self) -> dict[str, Any]:
        return {"multipliers": self.multipliers.cpu()}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        self.multipliers = saved["multipliers"].to(self.multipliers.device)
