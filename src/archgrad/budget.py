"""A budget as a patch over any method: what is selected never exceeds it, and the search moves there.

Every limit has a multiplier that grows while the expected cost of the mixture exceeds the bound and falls while it does not, so no strength has
to be guessed (the differential multiplier method with a damping term, Platt & Barr, NIPS 1987). What is selected is another matter: it keeps to
the bound whatever the mixture says (`archgrad.limits`).

    alpha loss  +=  sum over limits of  m g + damping / 2 max(0, g)^2      with g = E[cost] / bound - 1
    m           <-  max(0, m + rate * g)         after every epoch with alpha steps, g of what selection reads; FALL times as fast where g < 0
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from archgrad.arch import Context, Forward, Groups, Mixture
from archgrad.cost import expected
from archgrad.limits import Limits
from archgrad.patch import Patch
from archgrad.search_method import Method
from archgrad.state import Data, State
from archgrad.terms import Term

FALL = 20.0
"""Adam moves alphas as fast however small their gradient: a multiplier that fell as slowly as it rose would drive the mixture far below."""


def budget(limits: Limits, *, rate: float = 1.0, damping: float = 1.0) -> Patch:
    """``rate``: what a multiplier gains in an epoch in which the expected cost is twice the bound."""
    return Patch("budget", limits=limits, alpha_terms=(penalty(limits, damping),), memory={"budget": partial(Multipliers, limits, rate)})


def excess(limits: Limits, mixture: Mixture, groups: Groups) -> Tensor:
    """(limits,): by what part of the bound the expected cost exceeds it; negative below."""
    return torch.stack([expected(limit.cost, mixture, groups) / limit.bound - 1 for limit in limits])


def penalty(limits: Limits, damping: float) -> Term:
    def term(forward: Forward) -> Tensor:
        over = excess(limits, forward.mixture, forward.context.groups)
        multipliers: Tensor = forward.context.memory["budget"].multipliers
        return (multipliers * over + damping / 2 * over.clamp(min=0) ** 2).sum()

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

    def after_epoch(self, method: Method, state: State, data: Data, context: Context) -> dict[str, Any]:
        """For each limit NAME: NAME, of what would be selected now; NAME_expected, of the mixture; NAME_multiplier."""
        mixture, selected = method.readout(state), method.genotype(state)
        if method.moves_alphas(state):
            over = excess(self.limits, mixture, context.groups)  # of no single draw: what a sampled mixture costs is noise, and falls count more
            self.multipliers = (self.multipliers + self.rate * torch.where(over > 0, over, FALL * over)).clamp(min=0)
        found: dict[str, Any] = {}
        for limit, multiplier in zip(self.limits, self.multipliers.tolist()):
            name = limit.cost.name
            found[name] = limit.cost.added(selected)
            found[f"{name}_expected"] = float(expected(limit.cost, mixture, context.groups))
            found[f"{name}_multiplier"] = multiplier
        return found

    def state_dict(self) -> dict[str, Any]:
        return {"multipliers": self.multipliers.cpu()}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        self.multipliers = saved["multipliers"].to(self.multipliers.device)
