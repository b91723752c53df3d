"""A budget as a patch over any method: what is selected never exceeds it, and the search moves there.

Every limit has a multiplier that grows while the architecture that the alphas ask for exceeds the bound, and falls while it does not, so no
strength has to be guessed (the differential multiplier method, Platt & Barr, NIPS 1987). It watches the selection, not the expected cost: of a
nearly uniform mixture, such as DARTS's stay for long, the strongest ops cost far less once its expected cost is at the bound, and the search
would end far below its budget. What is selected is another matter: it keeps to the bound whatever the mixture says (`archgrad.cost.limits`).

    alpha loss  +=  sum over limits of  m E[cost] / bound
    m           <-  max(0, m + rate * g)         after every epoch with alpha steps; FALL times as fast where g < 0
    g            =  cost / bound - 1             of what would be selected without a budget
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from archgrad.components.context import Context, Forward
from archgrad.components.losses import Term
from archgrad.cost.cost import expected
from archgrad.cost.limits import Limits
from archgrad.searching.patch import Patch
from archgrad.searching.types import Data, Method, State

FALL = 20.0
"""Adam moves alphas as fast however small their gradient: a multiplier that fell as slowly as it rose would drive the mixture far below."""


def budget(limits: Limits, *, rate: float = 0.1) -> Patch:
    """``rate``: what a multiplier gains in an epoch at whose end twice the bound is asked for."""
    return Patch(
        "budget",
        limits=limits,
        alpha_terms=(penalty(limits),),
        memory={"budget": partial(Multipliers, limits, rate)},
    )


def penalty(limits: Limits) -> Term:
    def term(forward: Forward) -> Tensor:
        multipliers: Tensor = forward.context.memory["budget"].multipliers
        return (
            multipliers
            * torch.stack(
                [
                    expected(one.cost, forward.mixture, forward.context.groups) / one.bound
                    for one in limits
                ]
            )
        ).sum()

    return term


class Multipliers:
    """One a limit, float32 on the device of the search; 0 at first."""

    def __init__(self, limits: Limits, rate: float) -> None:
        self.limits, self.rate = limits, rate
        self.multipliers = torch.zeros(len(limits))

    def bind(self, state: State) -> None:
        self.multipliers = self.multipliers.to(state.device)

    def size(self) -> int:
        return 0

    def after_step(self, forward: Forward) -> None:
        pass

    def after_epoch(
        self, method: Method, state: State, data: Data, context: Context
    ) -> dict[str, Any]:
        """For each limit NAME: NAME, of what would be selected now; NAME_free, without a budget; NAME_expected, of the mixture;
        NAME_multiplier."""
        mixture, selected, free = (
            method.readout(state),
            method.genotype(state),
            method.selected(state, ()),
        )
        if method.moves_alphas(state):
            over = self.multipliers.new_tensor(
                [limit.cost.of(free) / limit.bound - 1 for limit in self.limits]
            )
            self.multipliers = (
                self.multipliers + self.rate * torch.where(over > 0, over, FALL * over)
            ).clamp(min=0)
        found: dict[str, Any] = {}
        for limit, multiplier in zip(self.limits, self.multipliers.tolist()):
            name = limit.cost.name
            found |= {name: limit.cost.of(selected), f"{name}_free": limit.cost.of(free)}
            found[f"{name}_expected"] = float(expected(limit.cost, mixture, context.groups))
            found[f"{name}_multiplier"] = multiplier
        return found

    def state_dict(self) -> dict[str, Any]:
        return {"multipliers": self.multipliers.cpu()}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        self.multipliers = saved["multipliers"].to(self.multipliers.device)
