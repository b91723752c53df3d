"""Estimate the remaining time of a search, from the times of its parts so far.

These are pure functions; none of them reads a clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

STEP = 6.0
"""Forward passes of an image in one step of DARTS.

The step has two halves, each with a forward and a backward pass, and a backward pass counts as two.
"""

EIGENVALUE = 120.0
"""Forward passes of an image in one measurement of curvature.

It takes as long as 15 to 21 steps of DARTS on as many images (docs/howto/measure.md).
"""

RECENT = 20
"""The number of observations over which the cost of a unit is averaged."""


class Part(NamedTuple):
    """Describe work that is to come.

    Attributes:
        kind: Name of the kind of work.
        units: Number of units to come.
        like: Kind that a unit is compared with until a unit of this kind was timed.
        times: Number of units of the kind ``like`` that take as long as one of this kind.
    """

    kind: str
    units: float
    like: str | None = None
    times: float = 1.0


class KindEstimate(NamedTuple):
    """Hold the estimated time of one kind of work.

    Attributes:
        kind: Name of the kind of work.
        units: Number of units to come.
        seconds: Seconds of all these units.
        guessed: Whether no unit of this kind was timed yet.
    """

    kind: str
    units: float
    seconds: float
    guessed: bool


@dataclass(frozen=True)
class Remaining:
    """Hold the work to come: the estimate of each kind, and the kinds without an estimate."""

    terms: tuple[KindEstimate, ...]
    unknown: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """The estimated seconds of all kinds."""
        return sum(term.seconds for term in self.terms)

    def seconds_of(self, *beginnings: str) -> float:
        """Return the seconds of the kinds whose names begin with one of these texts."""
        return sum(term.seconds for term in self.terms if term.kind.startswith(beginnings))


@dataclass
class Costs:
    """Hold the seconds per unit of each kind of work, as moving averages.

    The second observation of a kind replaces the first one, which includes the warm-up.
    """

    each: dict[str, float] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)

    def add(self, kind: str, seconds: float, units: float = 1.0) -> None:
        """Record that ``units`` units of a kind took ``seconds`` seconds together."""
        if units <= 0:
            return
        count, rate = self.seen.get(kind, 0), seconds / units
        share = 1.0 if count < 2 else max(1 / count, 1 / RECENT)
        self.each[kind] = rate if count < 2 else self.each[kind] + share * (rate - self.each[kind])
        self.seen[kind] = count + 1

    def cost(self, kind: str | None, likes: Mapping[str, tuple[str | None, float]]) -> float | None:
        """Return the seconds of a unit, timed or guessed by a similar kind; None if unknown.

        Args:
            kind: Name of the kind.
            likes: Kind -> (similar kind, how many of its units one unit takes).
        """
        times, passed = 1.0, set[str]()
        while kind is not None and kind not in passed:
            if kind in self.each:
                return times * self.each[kind]
            passed.add(kind)
            kind, factor = likes.get(kind, (None, 1.0))
            times *= factor
        return None

    def remaining(self, parts: Iterable[Part]) -> Remaining:
        """Return the estimate of the work to come.

        A part of 0 units still tells by its ``like`` how kinds compare.
        """
        parts = tuple(parts)
        likes = {part.kind: (part.like, part.times) for part in parts}
        terms, unknown = [], []
        for part in parts:
            if part.units > 0:
                each = self.cost(part.kind, likes)
                if each is None:
                    unknown.append(part.kind)
                else:
                    terms.append(
                        KindEstimate(
                            part.kind, part.units, part.units * each, part.kind not in self.each
                        )
                    )
        return Remaining(tuple(terms), tuple(unknown))


def duration_text(seconds: float) -> str:
    """Return a duration as text: "40 s", "12 min", "3.1 h" or "2.5 days"."""
    minutes = seconds / 60
    if minutes < 2:
        return f"{seconds:.0f} s"
    if minutes < 120:
        return f"{minutes:.0f} min"
    if minutes < 2880:
        return f"{minutes / 60:.1f} h"
    return f"{minutes / 1440:.1f} days"
