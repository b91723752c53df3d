"""One budget as a user writes it, such as ``macs=300M``, and the limit that it sets."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from archgrad.arch.edges import Groups
from archgrad.errors import short_repr, unknown_name

if TYPE_CHECKING:
    from archgrad.cost.cost import Cost
    from archgrad.cost.limits import Limit

FORM = re.compile(r"\s*([\w.-]+)\s*=\s*([-+]?[\d_.]+(?:e[-+]?\d+)?)\s*([A-Za-z%]*)\s*")

UNITS = {"": {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}, "ms": {"ms": 1.0, "us": 1e-3, "s": 1e3}}
"""Unit of a cost -> unit of a budget -> its size in units of the cost.

Every cost also takes ``%``, a share of the cost of the largest network.
"""


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


def limit(target: Target, cost: Cost, groups: Groups) -> Limit:
    """Turn a budget into an upper bound on a cost.

    Args:
        target: The budget.
        cost: The cost that it names.
        groups: The edge groups of the space, of which ``%`` takes the largest network.

    Returns:
        The bound, in units of the cost.

    Raises:
        ValueError: The cost does not have the unit, or the share is above 100 %.
    """
    from archgrad.cost.limits import Limit, most_expensive  # imports scipy

    if target.unit == "%":
        if target.number > 100:
            raise ValueError(f"budget {target}: the largest network of the space is 100%")
        largest = most_expensive(cost, groups)
        assert largest is not None  # no limit excludes it
        return Limit(cost, target.number / 100 * cost.sum_over_ops(largest))
    if target.unit in UNITS[cost.unit]:
        return Limit(cost, target.number * UNITS[cost.unit][target.unit])
    units = [*filter(None, UNITS[cost.unit]), "%"]
    if target.unit:
        raise unknown_name(f"unit in budget {target}:", target.unit, units)
    raise ValueError(f"budget {target} needs a unit ({', '.join(units)})")
