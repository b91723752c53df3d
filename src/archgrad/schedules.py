"""Scalars of time. A schedule and a remembered temperature are the same kind of thing: a function of the context."""

from __future__ import annotations

import math
from collections.abc import Callable

from archgrad.arch import Context

Scalar = Callable[[Context], float]


def constant(value: float) -> Scalar:
    return lambda context: value


def linear(start: float, end: float) -> Scalar:
    """From ``start`` to ``end`` over the run, once per epoch; the last epoch has ``end``."""

    def at(context: Context) -> float:
        t = context.t
        return start + (end - start) * (t.epoch / max(t.epochs - 1, 1))

    return at


def geometric(start: float, end: float) -> Scalar:
    """``start * (end / start) ** (epoch / epochs)``."""
    return lambda context: start * (end / start) ** (context.t.epoch / context.t.epochs)


def cosine(start: float, end: float, per: str = "epoch") -> Scalar:
    """Half a cosine from ``start`` to ``end`` over the life of this supernet (a progressive stage starts it anew)."""

    def at(context: Context) -> float:
        age = context.t.age if per == "step" else math.floor(context.t.age)
        return end + 0.5 * (start - end) * (1 + math.cos(math.pi * age / context.t.life))

    return at


When = Callable[[int], int]
"""Epochs of the whole search -> the epoch at which something begins."""


def share(part: float, of: float) -> When:
    """Epoch ``part`` of a search of ``of`` epochs, and the same share of a search of another length (at least one unless 0)."""
    return lambda epochs: max(1, round(epochs * part / of)) if part > 0 else 0


def exactly(epoch: int, what: str) -> When:
    """The epoch the user named; ValueError if the search is over by then."""

    def at(epochs: int) -> int:
        if not 0 <= epoch < epochs:
            raise ValueError(f"{what} is epoch {epoch}, but the search has {epochs} epochs: choose 0 to {epochs - 1}")
        return epoch

    return at


def never(epochs: int) -> int:
    """After the search."""
    return epochs
