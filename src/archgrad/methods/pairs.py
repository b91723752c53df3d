"""Which methods compose, and what two that do not both want to decide: read off their patches, as `compose` and `Method` do."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations
from typing import NamedTuple

from archgrad.arch.space import Space
from archgrad.methods import METHODS
from archgrad.searching.compose import conflicts, idle
from archgrad.searching.patch import SETTLED, Patch
from archgrad.searching.steps import Bilevel

RUNS, ASKS = "+", "?"


class Pair(NamedTuple):
    """``both``: what both set, differently; ``unread``: fields one sets and the other's stepper does not read; ``idle``: where one can never
    act, the field of the other that keeps it from acting. Empty: they compose."""

    both: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    idle: tuple[str, ...] = ()

    @property
    def composes(self) -> bool:
        """Whether nothing keeps them apart."""
        return self == Pair()

    @property
    def settled(self) -> bool:
        """Whether options of the user's own make them compose: he says what both set."""
        return (
            not self.unread
            and not self.idle
            and all(what.split(".")[0] in SETTLED for what in self.both)
        )

    @property
    def mark(self) -> str:
        """``+`` composes, ``?`` the user must say which; else what refuses, the first thing."""
        if self.settled:
            return ASKS if self.both else RUNS
        hard = (
            what.split("/")[0] for what in self.both if what.split(".")[0] not in SETTLED
        )  # a unit by its first field
        return next(hard, ", ".join(self.unread or self.idle))


def pair(first: Patch, second: Patch) -> Pair:
    """What keeps two patches from running together."""
    stepper = first.stepper or second.stepper or Bilevel()
    unread = tuple(sorted((first.sets() | second.sets()) - stepper.reads))
    return Pair(
        tuple(conflicts(first, second)), unread, ("alpha_from",) if idle(first, second) else ()
    )


def pairs(space: Space, names: Iterable[str] = METHODS) -> dict[tuple[str, str], Pair]:
    """Every two of the methods, with their defaults in a space."""
    made = {name: METHODS[name].made(name, space.name, {}) for name in names}
    return {(one, other): pair(made[one], made[other]) for one, other in combinations(made, 2)}


def markdown(space: Space) -> str:
    """The matrix as it stands in ``docs/methods.md``: a row a method, a column for each before it."""
    names = [name for name in METHODS if name != "darts"]  # composes with all: it changes nothing
    found = pairs(space, names)
    rows = [["", *names[:-1]], ["---"] * len(names)]
    rows += [
        [
            f"**{row}**",
            *(found[column, row].mark if column != row else "" for column in names[: k + 1]),
        ]
        for k, row in enumerate(names)
    ][1:]
    return "".join(
        f"| {' | '.join([*cells, *[''] * (len(names) - len(cells))])} |\n" for cells in rows
    )
