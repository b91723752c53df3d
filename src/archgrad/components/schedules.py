"""Scalars of time. A schedule and a remembered temperature are the same kind of thing: a function of the context."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated

from pydantic import AfterValidator

from archgrad.components.context import Context
from archgrad.errors import counted

Scalar = Callable[[Context], float]


def constant(value: float) -> Scalar:
    return lambda context: value


def linear(start: float, end: float) -> Scalar:
    """From ``start`` to ``end`` over the run, once per epoch; the last epoch has ``end``."""

    def at(context: Context) -> float:
        t = context.t
        return start + (end - start) * (t.epoch / max(t.epochs - 1, 1))

    return at


def toward(start: float, end: float) -> Scalar:
    """``start + (end - start) * epoch / epochs``: from ``start`` on, and ``end`` is what the epoch after the last would have."""
    return lambda context: start + (end - start) * context.t.epoch / context.t.epochs


def geometric(start: float, end: float) -> Scalar:
    """``start * (end / start) ** (epoch / epochs)``."""
    return lambda context: start * (end / start) ** (context.t.epoch / context.t.epochs)


def cosine(start: float, end: float, per: str = "epoch") -> Scalar:
    """Half a cosine from ``start`` to ``end`` over the life of this supernet (a progressive stage starts it anew), or ``start`` for ever."""

    def at(context: Context) -> float:
        if per == "never":
            return start
        age = context.t.age if per == "step" else math.floor(context.t.age)
        return end + 0.5 * (start - end) * (1 + math.cos(math.pi * age / context.t.life))

    return at


def from_epoch(begin: When, value: float) -> Scalar:
    """0 before the epoch ``begin``, ``value`` from it on."""
    return lambda context: value if context.t.epoch >= begin(context.t.epochs) else 0.0


def remembered(name: str) -> Scalar:
    """What the memory of that name says: it is a `Scalar` itself."""
    return lambda context: context.memory[name](context)


When = Callable[[int], int]
"""Epochs of the whole search -> the epoch at which something begins."""


def share(part: float, of: float) -> When:
    """Epoch ``part`` of a search of ``of`` epochs, and the same share of a search of another length (at least one unless 0)."""
    return lambda epochs: max(1, round(epochs * part / of)) if part > 0 else 0


def exactly(epoch: int, what: str) -> When:
    """The epoch the user named; ValueError if the search is over by then."""

    def at(epochs: int) -> int:
        if not 0 <= epoch < epochs:
            raise ValueError(
                f"{what} is {epoch}, but the search has {counted(epochs, 'epoch')}: choose at most {epochs - 1}"
            )
        return epoch

    return at


def _length(least: int) -> Callable[[float], float]:
    def check(value: float) -> float:
        if value.is_integer() and value >= least:
            return int(value)
        if not 0 < value < 1:
            raise ValueError(
                f"whole epochs from {least} on, or a share of the search between 0 and 1"
            )
        return value

    return check


Span = Annotated[float, AfterValidator(_length(0))]
"""When something begins, as users say it: an epoch, or a share of the search."""

Interval = Annotated[float, AfterValidator(_length(1))]
"""How long something lasts, as users say it: whole epochs, or a share of the search."""


def span(length: float, what: str) -> When:
    """The epoch of a `Span`: a share is at least one epoch, and leaves at least one; ValueError if the user's own is not in the search."""
    return (
        exactly(length, what)
        if isinstance(length, int)
        else lambda epochs: min(share(length, of=1)(epochs), epochs - 1)
    )


def lasting(length: float, what: str) -> When:
    """The epochs of an `Interval`: a share is at least one; ValueError if the user's own, one aside, are as long as the search."""
    if length == 1:
        return lambda epochs: 1
    return exactly(length, what) if isinstance(length, int) else share(length, of=1)


def never(epochs: int) -> int:
    """After the search."""
    return epochs
