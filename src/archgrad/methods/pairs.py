"""The pairs of methods that compose, and the reasons why others do not.

The answers come from the patches, by the rules of `compose` and `Method`.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations
from typing import NamedTuple

from archgrad.arch.space import Space
from archgrad.methods import METHODS
from archgrad.searching.compose import conflicts, idle_patches
from archgrad.searching.patch import SETTLED, Patch
from archgrad.searching.steps import Bilevel

RUNS, ASKS = "+", "?"


class Pair(NamedTuple):
    """The reasons why two methods do not compose. They compose where all are empty.

    Attributes:
        conflicting: Fields and settings that both set, to different values.
        unread: Fields that one sets and the stepper of the other does not read.
        never_acting: The field of one that keeps the other from ever acting.
    """

    conflicting: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    never_acting: tuple[str, ...] = ()

    @property
    def composes(self) -> bool:
        """Return whether the two compose."""
        return self == Pair()

    @property
    def user_can_settle(self) -> bool:
        """Return whether they compose once the user sets the options that both set."""
        decidable = all(field.split(".")[0] in SETTLED for field in self.conflicting)
        return not self.unread and not self.never_acting and decidable

    @property
    def mark(self) -> str:
        """Return the entry of the matrix: ``+``, ``?``, or the first field that prevents the pair.

        ``+``: they compose. ``?``: they compose once the user sets an option.
        """
        if self.user_can_settle:
            return ASKS if self.conflicting else RUNS
        # Fields that are set together are one entry, such as relax/readout/select. Its first
        # counts.
        undecidable = (
            field.split("/")[0] for field in self.conflicting if field.split(".")[0] not in SETTLED
        )
        return next(undecidable, ", ".join(self.unread or self.never_acting))


def compare_patches(first: Patch, second: Patch) -> Pair:
    """Return the reasons why two patches do not compose, empty where they do."""
    stepper = first.stepper or second.stepper or Bilevel()
    unread = tuple(sorted((first.set_fields() | second.set_fields()) - stepper.reads))
    return Pair(
        tuple(conflicts(first, second)),
        unread,
        ("alpha_from",) if idle_patches(first, second) else (),
    )


def compare_all(space: Space, names: Iterable[str] = METHODS) -> dict[tuple[str, str], Pair]:
    """Return the result of `compare_patches` for every two methods with defaults."""
    made = {name: METHODS[name].make_patch(name, space.name, {}) for name in names}
    return {
        (one, other): compare_patches(made[one], made[other])
        for one, other in combinations(made, 2)
    }


def matrix_as_markdown(space: Space) -> str:
    """Return the matrix of ``docs/methods.md``: one row a method, one column for each before it."""
    names = [name for name in METHODS if name != "darts"]  # darts composes with all others
    found = compare_all(space, names)
    rows = [["", *names[:-1]], ["---"] * len(names)]
    for number, row in enumerate(names[1:], 1):
        cells = [f"**{row}**", *(found[column, row].mark for column in names[:number])]
        rows.append(cells + [""] * (len(names) - len(cells)))
    return "".join(f"| {' | '.join(cells)} |\n" for cells in rows)
