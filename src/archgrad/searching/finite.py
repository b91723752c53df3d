"""Check that a search still computes with finite numbers.

An error names the part that diverged first, and the setting that drives it.
"""

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
"""The largest value of an alpha or a loss; one beyond it has diverged.

float32 has no fractions there, so a small number that is added is lost.
"""

EVERY = 10
"""The number of steps between two checks; a check waits for the GPU, because it reads a number."""

ALPHAS = "alphas"
"""The name of the alphas in a trace, whose other parts are terms of a loss."""


class Trace:
    """Record when each part of a search first exceeded its bound.

    A part is a term of a loss, or a name. The first part is the cause, because all others follow
    within a step. `note` stays on the device; only `first_diverged` waits for it.
    """

    def __init__(self) -> None:
        self.clock = 0
        # Parts that are recorded together -> the clock of each one's first fault; inf before it.
        self.first_faults: dict[tuple[object, ...], Tensor] = {}

    def note(self, parts: Sequence[object], values: Tensor) -> None:
        """Record when the value of each part first exceeds its bound.

        Args:
            parts: Parts, in the order in which they follow from each other.
            values: Their values (parts,).
        """
        self.clock += 1
        fine = values.detach().abs() < LARGEST  # false for nan
        when = torch.where(fine, math.inf, float(self.clock))
        known = self.first_faults.get(key := tuple(parts))
        self.first_faults[key] = when if known is None else torch.minimum(known, when)

    def first_diverged(self) -> object | None:
        """Return the part that first exceeded its bound, or None if no part did."""
        moments = torch.cat(list(self.first_faults.values())).tolist() if self.first_faults else []
        parts = [part for key in self.first_faults for part in key]
        moment, place = min(
            ((moment, place) for place, moment in enumerate(moments)), default=(math.inf, 0)
        )
        return parts[place] if moment < math.inf else None


def largest_value(tensors: Iterable[Tensor]) -> Tensor:
    """Return the largest absolute value (1,) in any of the tensors, on their device.

    It is nan if one of them holds nan.
    """
    some = [tensor.detach() for tensor in tensors if tensor.numel()]
    if not some:
        return torch.zeros(1)
    norms = torch._foreach_norm(some, math.inf)
    return torch.stack([norm.double() for norm in norms]).amax().view(1)


def check_finite(method: Method, state: State) -> None:
    """Check that the alphas and the losses of a search have not diverged.

    Raises:
        ValueError: They have. The message names the part that diverged first, and the setting that
            drives it.
    """
    first = state.trace.first_diverged()
    if first is not None:
        raise _diverged(method, state, first)
    # The averages show it for a stepper that records nothing in the trace.
    if not all(math.isfinite(value) for value in state.averages().values()):
        raise _diverged(method, state, task)
    # The trace of a state that was loaded is empty, so its alphas are checked here.
    if not (largest_value(state.alphas.values()) < LARGEST).all():
        raise ValueError(
            "the alphas of this search have diverged, so no genotype can be selected: search again "
            f"with an --alphas.lr below {method.alpha_settings(state.plan).lr:g} or a --weights.lr "
            f"below {method.weights.lr:g}"
        )


def check_all_finite(method: Method, state: State) -> None:
    """Check a state before it is saved: `check_finite`, and every weight, statistic and momentum.

    Raises:
        ValueError: A number is not finite, so the state is not worth saving.
    """
    check_finite(method, state)
    if not all_finite(state.nets.values(), state.optimizers.values()):
        raise _diverged(method, state, task)


def all_finite(nets: Iterable[nn.Module], optimizers: Iterable[torch.optim.Optimizer]) -> bool:
    """Return whether every weight, statistic and momentum is finite."""
    held = [value for net in nets for value in net.state_dict().values()]
    held += [
        value
        for one in optimizers
        for slots in one.state.values()
        for value in slots.values()
        if torch.is_tensor(value)
    ]
    return bool(
        largest_value(value for value in held if value.is_floating_point()).isfinite().all()
    )


def _diverged(method: Method, state: State, part: object) -> ValueError:
    """Return the error that names the part that diverged first, and its setting."""
    epoch = method.progress(state).epoch + 1
    return ValueError(f"the search diverged in epoch {epoch}, {_blamed(method, state, part)}")


def _blamed(method: Method, state: State, part: object) -> str:
    """Return text such as "the alphas first: try an --alphas.lr below 0.1"."""
    if part == ALPHAS:
        settings = method.alpha_settings(state.plan)
        name, value = "lr", settings.lr
        if settings.init >= LARGEST:
            name, value = "init", settings.init
        return f"the alphas first: try an --alphas.{name} below {value:g}"
    if part == task:
        return f"the weights first: try a --weights.lr below {method.weights.lr:g}"
    if part in method.patch.drives:
        return f"a term of the loss first: try a {method.patch.drives[part]}"
    terms = (*method.weight_terms, *method.alpha_terms, *method.patch.train_alpha_terms)
    name = f"term {terms.index(part) + 1}" if part in terms else str(part)
    return f"{name} of the loss first: give it less weight"
