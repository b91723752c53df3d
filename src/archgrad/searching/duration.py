"""How long the rest takes: what parts of each kind took so far, and how many of each kind are to come. Pure; nobody reads a clock here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

STEP = 6.0
"""Forward passes of an image in a step of DARTS: two halves, each forward and backward, and a backward pass counts as two."""

EIGENVALUE = 120.0
"""Forward passes of an image that one measurement of curvature takes: as 15 to 21 steps of DARTS on as many images (docs/guide.md)."""

RECENT = 20
"""A unit's cost is a moving average over about so many observations of its kind."""


class Part(NamedTuple):
    """``units`` of one kind that are to come. Until one of them was timed, each is taken as ``times`` units of the kind ``like``."""

    kind: str
    units: float
    like: str | None = None
    times: float = 1.0


class Term(NamedTuple):
    """What all units to come of a kind will take; ``guessed``: none of them was timed yet."""

    kind: str
    units: float
    seconds: float
    guessed: bool


@dataclass(frozen=True)
class Left:
    """What is to come, part by part, and the kinds whose cost nobody can tell yet."""

    terms: tuple[Term, ...]
    unknown: tuple[str, ...]

    @property
    def seconds(self) -> float:
        return sum(term.seconds for term in self.terms)

    def of(self, *beginnings: str) -> float:
        """Seconds of the kinds whose names begin so."""
        return sum(term.seconds for term in self.terms if term.kind.startswith(beginnings))


@dataclass
class Costs:
    """Seconds a unit of each kind: a moving average, in which the first unit of a kind, that pays for warming up, lasts until the second."""

    each: dict[str, float] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)

    def add(self, kind: str, seconds: float, units: float = 1.0) -> None:
        """So many units of a kind took so long together."""
        if units <= 0:
            return
        count, rate = self.seen.get(kind, 0), seconds / units
        share = 1.0 if count < 2 else max(1 / count, 1 / RECENT)
        self.each[kind] = rate if count < 2 else self.each[kind] + share * (rate - self.each[kind])
        self.seen[kind] = count + 1

    def cost(self, kind: str | None, likes: Mapping[str, tuple[str | None, float]]) -> float | None:
        """Seconds of a unit: timed, or guessed by what it is like; None where that leads nowhere."""
        times, passed = 1.0, set[str]()
        while kind is not None and kind not in passed:
            if kind in self.each:
                return times * self.each[kind]
            passed.add(kind)
            kind, factor = likes.get(kind, (None, 1.0))
            times *= factor
        return None

    def left(self, parts: Iterable[Part]) -> Left:
        """The parts to come by what such parts took. A part of no units still says by its ``like`` how kinds compare."""
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
                        Term(part.kind, part.units, part.units * each, part.kind not in self.each)
                    )
        return Left(tuple(terms), tuple(unknown))


def span(seconds: float) -> str:
    """``40 s``, ``12 min``, ``3.1 h``, ``2.5 days``"""
    minutes = seconds / 60
    if minutes < 2:
        return f"{seconds:.0f} s"
    return (
        f"{minutes:.0f} min"
        if minutes < 120
        else f"{minutes / 60:.1f} h"
        if minutes < 2880
        else f"{minutes / 1440:.1f} days"
    )
