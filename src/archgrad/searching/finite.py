"""Whether a search still computes with usable numbers; and if not, what left them first and which setting drives it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from archgrad.components.losses import task

if TYPE_CHECKING:
    from archgrad.searching.types import Method, State

LARGEST = 2.0**24
"""An alpha or a loss beyond this has diverged: float32 has no fractions there, so whatever is added to it is lost."""

EVERY = 10
"""Steps between two checks: reading a number off a GPU waits for it."""

ALPHAS = "alphas"
"""The part of a trace that is no term of a loss."""


class Trace:
    """When each part of a search was first out of bounds. Noting stays on the device; only `earliest` waits for it.

    A part is a term of a loss, or a name. Which of them was first is the cause: all others follow within a step.
    """

    def __init__(self) -> None:
        self.clock = 0
        self.first: dict[
            tuple[object, ...], Tensor
        ] = {}  # parts noted together -> the clock of each one's first fault, inf before it

    def note(self, parts: Sequence[object], values: Tensor) -> None:
        """``values`` (parts,) are the sizes of ``parts`` now, in the order in which they follow from each other."""
        self.clock += 1
        fine = values.detach().abs() < LARGEST  # false of nan
        when = torch.where(fine, math.inf, float(self.clock))
        known = self.first.get(key := tuple(parts))
        self.first[key] = when if known is None else torch.minimum(known, when)

    def earliest(self) -> object | None:
        """The part that was first out of bounds; None while all are fine."""
        moments = torch.cat(list(self.first.values())).tolist() if self.first else []
        parts = [part for key in self.first for part in key]
        moment, place = min(
            ((moment, place) for place, moment in enumerate(moments)), default=(math.inf, 0)
        )
        return parts[place] if moment < math.inf else None


def largest(tensors: Iterable[Tensor]) -> Tensor:
    """The largest absolute value (1,) in any of them, on their device; nan where one holds nan."""
    some = [tensor.detach() for tensor in tensors if tensor.numel()]
    return (
        torch.stack([norm.double() for norm in torch._foreach_norm(some, math.inf)]).amax().view(1)
        if some
        else torch.zeros(1)
    )


def check(method: Method, state: State) -> None:
    """ValueError if the alphas or a loss of this search have diverged: names what did so first, and the setting that drives it."""
    first = state.trace.earliest()
    if first is not None:
        raise ValueError(
            f"the search diverged in epoch {method.progress(state).epoch + 1}, {_blamed(method, state, first)}"
        )
    if not all(
        math.isfinite(value) for value in state.averages().values()
    ):  # of a stepper that notes nothing
        raise ValueError(
            f"the search diverged in epoch {method.progress(state).epoch + 1}, {_blamed(method, state, task)}"
        )
    if not (largest(state.alphas.values()) < LARGEST).all():  # of a state that was loaded
        raise ValueError(
            f"the alphas of this search have diverged, so nothing can be read off them: search again with an --alphas.lr below "
            f"{method.alpha_settings(state.plan).lr:g} or a --weights.lr below {method.weights.lr:g}"
        )


def check_whole(method: Method, state: State) -> None:
    """`check`, and ValueError if any weight, statistic or momentum is not finite: such a state is not worth saving."""
    check(method, state)
    if not whole(state.nets.values(), state.optimizers.values()):
        raise ValueError(
            f"the search diverged in epoch {method.progress(state).epoch + 1}, {_blamed(method, state, task)}"
        )


def whole(nets: Iterable[nn.Module], optimizers: Iterable[torch.optim.Optimizer]) -> bool:
    """Whether every weight, statistic and momentum is finite."""
    held = [value for net in nets for value in net.state_dict().values()]
    held += [
        value
        for one in optimizers
        for slots in one.state.values()
        for value in slots.values()
        if torch.is_tensor(value)
    ]
    return bool(largest(value for value in held if value.is_floating_point()).isfinite().all())


def _blamed(method: Method, state: State, part: object) -> str:
    """``the alphas first: try an --alphas.lr below 0.1``"""
    if part == ALPHAS:
        own = method.alpha_settings(state.plan)
        name, value = ("init", own.init) if own.init >= LARGEST else ("lr", own.lr)
        return f"the alphas first: try an --alphas.{name} below {value:g}"
    if part == task:
        return f"the weights first: try a --weights.lr below {method.weights.lr:g}"
    if part in method.patch.drives:
        return f"a term of the loss first: try a {method.patch.drives[part]}"
    terms = (*method.weight_terms, *method.alpha_terms, *method.train_alpha_terms)
    name = f"term {terms.index(part) + 1}" if part in terms else str(part)
    return f"{name} of the loss first: give it less weight"
