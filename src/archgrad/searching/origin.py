"""Where a patch comes from: the method that made it, with which options, and what the method's presets say of these options in a space."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import wraps
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec

if TYPE_CHECKING:
    from archgrad.searching.patch import Patch

P = ParamSpec("P")
Presets = Mapping[str, Mapping[str, Any]]
"""Options that differ in a space, by its name, and further sets of options, by theirs."""


class Origin(NamedTuple):
    """The call of a method's function. ``options`` are all it had, defaults included; ``said`` names those of which the user decided."""

    name: str
    options: Mapping[str, Any]
    said: frozenset[str]
    usual: Mapping[str, Any]  # the defaults of the function
    presets: Presets

    def differs(self, space: str) -> dict[str, Any]:
        """The options that the method has otherwise in a space, with their values there; those of the user are his own."""
        there = {**self.usual, **self.presets.get(space, {})}
        return {
            name: value
            for name, value in there.items()
            if name not in self.said and self.options[name] != value
        }


def origin(
    function: Callable[..., Any],
    given: Mapping[str, Any],
    presets: Presets,
    said: frozenset[str] | None = None,
) -> Origin:
    """The origin of what ``function(**given)`` makes; by default the user decided on all that was given."""
    parameters = inspect.signature(function).parameters.values()
    usual = {one.name: one.default for one in parameters if one.default is not one.empty}
    return Origin(
        function.__name__,
        {**usual, **given},
        frozenset(given) if said is None else said,
        usual,
        presets,
    )


def marked(presets: Presets | None = None) -> Callable[[Callable[P, Patch]], Callable[P, Patch]]:
    """Decorates the function of a method, so that what it makes carries its `Origin`.

    Args:
        presets: The options that differ by space; none where the method has the same everywhere.

    Returns:
        A decorator. The function keeps its name, its arguments and its docstring.
    """

    def mark(function: Callable[P, Patch]) -> Callable[P, Patch]:
        @wraps(function)
        def made(*arguments: P.args, **given: P.kwargs) -> Patch:
            return replace(
                function(*arguments, **given), origins=(origin(function, given, presets or {}),)
            )

        return made

    return mark
