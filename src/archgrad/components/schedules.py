"""Schedules: numbers that change during a search, as functions of the context.

A temperature that a memory holds is such a function too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated

from pydantic import AfterValidator

from archgrad.components.context import Context
from archgrad.errors import counted

Scalar = Callable[[Context], float]
"""context -> the current value of a schedule."""


def constant(value: float) -> Scalar:
    """Return the schedule that always has the same value."""
    return lambda context: value


def linear(start: float, end: float) -> Scalar:
    """Return a linear schedule that changes once per epoch.

    The first epoch of the run has ``start``, and the last one has ``end``.
    """

    def at(context: Context) -> float:
        place = context.progress
        return start + (end - start) * (place.epoch / max(place.epochs - 1, 1))

    return at


def toward(start: float, end: float) -> Scalar:
    """Return the schedule ``start + (end - start) * epoch / epochs``.

    The first epoch has ``start``, and the epoch after the last one would have ``end``.
    """
    return lambda context: start + (end - start) * context.progress.epoch / context.progress.epochs


def geometric(start: float, end: float) -> Scalar:
    """Return the schedule ``start * (end / start) ** (epoch / epochs)``."""
    return lambda context: (
        start * (end / start) ** (context.progress.epoch / context.progress.epochs)
    )


def cosine(start: float, end: float, per: str = "epoch") -> Scalar:
    """Return a schedule that falls from ``start`` to ``end`` by half a cosine.

    It runs over the life of one supernet, so a progressive stage starts it anew.

    Args:
        start: First value.
        end: Last value.
        per: Time after which the value changes: "epoch", "step", or "never" (always ``start``).
    """

    def at(context: Context) -> float:
        if per == "never":
            return start
        age = context.progress.age if per == "step" else math.floor(context.progress.age)
        return end + 0.5 * (start - end) * (1 + math.cos(math.pi * age / context.progress.life))

    return at


def from_epoch(begin: When, value: float) -> Scalar:
    """Return the schedule that is 0 before the epoch ``begin`` and ``value`` from it on."""
    return lambda context: (
        value if context.progress.epoch >= begin(context.progress.epochs) else 0.0
    )


def remembered(name: str) -> Scalar:
    """Return the schedule that the memory of this name computes; the memory is a `Scalar` too."""
    return lambda context: context.memory[name](context)


When = Callable[[int], int]
"""Number of epochs of the whole search -> the epoch at which something begins."""


def epoch_at_share(part: float, of: float) -> When:
    """Return epoch ``part`` of a search of ``of`` epochs, scaled to the length of the search.

    It is at least 1, unless ``part`` is 0.
    """
    return lambda epochs: max(1, round(epochs * part / of)) if part > 0 else 0


def exact_epoch(epoch: int, what: str) -> When:
    """Return the epoch that the user named.

    Args:
        epoch: Index of the epoch, counted from 0.
        what: Name of the option, for the error message.

    Raises:
        ValueError: The search is not so long. The returned function raises it.
    """

    def at(epochs: int) -> int:
        if not 0 <= epoch < epochs:
            raise ValueError(
                f"{what} is {epoch}, but the search has {counted(epochs, 'epoch')}: choose at most "
                f"{epochs - 1}"
            )
        return epoch

    return at


def _checked_length(least: int) -> Callable[[float], float]:
    """Return a check of a length that a user wrote; it turns a whole number into an int."""

    def check(value: float) -> float:
        if value.is_integer() and value >= least:
            return int(value)
        if not 0 < value < 1:
            raise ValueError(
                f"whole epochs from {least} on, or a share of the search between 0 and 1"
            )
        return value

    return check


Span = Annotated[float, AfterValidator(_checked_length(0))]
"""The beginning of something, as users write it: an epoch, or a share of the search."""

Interval = Annotated[float, AfterValidator(_checked_length(1))]
"""A duration, as users write it: whole epochs, or a share of the search."""


def epoch_of_span(length: float, what: str) -> When:
    """Return the epoch of a `Span`.

    A share of the search is at least one epoch, and leaves at least one epoch.

    Args:
        length: The `Span`.
        what: Name of the option, for the error message.

    Raises:
        ValueError: The search does not have the epoch. The returned function raises it.
    """
    if isinstance(length, int):
        return exact_epoch(length, what)
    return lambda epochs: min(epoch_at_share(length, of=1)(epochs), epochs - 1)


def epochs_of_interval(length: float, what: str) -> When:
    """Return the number of epochs of an `Interval`; a share of the search is at least one epoch.

    Args:
        length: The `Interval`.
        what: Name of the option, for the error message.

    Raises:
        ValueError: More than one epoch, and as many as the search has or more. The returned
            function raises it.
    """
    if length == 1:
        return lambda epochs: 1
    return exact_epoch(length, what) if isinstance(length, int) else epoch_at_share(length, of=1)


def never(epochs: int) -> int:
    """Return an epoch that no search reaches: the one after the last."""
    return epochs
