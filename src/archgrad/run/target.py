"""One budget as a user writes it, such as ``macs=300M``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from archgrad.errors import short_repr

FORM = re.compile(r"\s*([\w.-]+)\s*=\s*([-+]?[\d_.]+(?:e[-+]?\d+)?)\s*([A-Za-z%]*)\s*")


@dataclass(frozen=True)
class Target:
    """The largest cost that a found network may have.

    Attributes:
        name: The cost: ``macs``, ``params``, ``latency``, or a device of a latency table.
        number: The largest value, in ``unit``.
        unit: The unit, such as ``M`` or ``ms``. ``%`` means a share of the largest network of the
            space, and an empty unit means a plain count.
    """

    name: str
    number: float
    unit: str

    @classmethod
    def parse(cls, text: str) -> Target:
        """Read a budget from its text.

        >>> Target.parse("macs=300M")
        Target(name='macs', number=300.0, unit='M')

        Args:
            text: ``NAME=NUMBER`` and a unit.

        Returns:
            The budget.

        Raises:
            ValueError: The text has another form, or its number is not finite and above 0.
        """
        found = FORM.fullmatch(text)
        if not found:
            raise ValueError(
                f"{short_repr(text)} is not of the form NAME=NUMBER with a unit, "
                "such as macs=300M, params=60% or latency=15ms"
            )
        name, number, unit = found.groups()
        try:
            value = float(number)
        except ValueError:
            raise ValueError(f"{short_repr(text)}: {number!r} is not a number") from None
        if not 0 < value < float("inf"):
            raise ValueError(f"{short_repr(text)}: a budget must be a finite number above 0")
        return cls(name, value, unit)

    def __str__(self) -> str:
        """Return the text that `parse` reads as this budget."""
        return f"{self.name}={repr(self.number).removesuffix('.0')}{self.unit}"


def parse_target(given: Any) -> Target:
    """Return a budget as it is, or parse its text. A ValueError refuses anything else."""
    return given if isinstance(given, Target) else Target.parse(str(given))


def check_one_of_each(targets: tuple[Target, ...]) -> tuple[Target, ...]:
    """Return the budgets, or raise a ValueError where two of them limit the same cost."""
    names = [one.name for one in targets]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"one budget of each cost is expected, and {twice[0]} has several")
    return targets
