"""The origin of a patch: the method that made it, its options, and its presets by space."""

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
"""Name of a space, or of a further preset -> the options that differ in it."""


class Origin(NamedTuple):
    """Record the call of a method's function.

    Attributes:
        name: Name of the method.
        options: All options of the call, with defaults.
        by_user: Names of the options that the user set.
        defaults: Defaults of the function.
        presets: Presets of the method.
    """

    name: str
    options: Mapping[str, Any]
    by_user: frozenset[str]
    defaults: Mapping[str, Any]
    presets: Presets

    def differing_options(self, space: str) -> dict[str, Any]:
        """Return the options whose values differ in a space, with their values there.

        Options that the user set do not count.
        """
        there = {**self.defaults, **self.presets.get(space, {})}
        return {
            name: value
            for name, value in there.items()
            if name not in self.by_user and self.options[name] != value
        }


def origin(
    function: Callable[..., Any],
    given: Mapping[str, Any],
    presets: Presets,
    by_user: frozenset[str] | None = None,
) -> Origin:
    """Return the origin of the patch that ``function(**given)`` makes.

    Args:
        function: Function of the method.
        given: Options of the call.
        presets: Presets of the method.
        by_user: Names of the options that the user set; None: all of ``given``.
    """
    parameters = inspect.signature(function).parameters.values()
    usual = {one.name: one.default for one in parameters if one.default is not one.empty}
    return Origin(
        function.__name__,
        {**usual, **given},
        frozenset(given) if by_user is None else by_user,
        usual,
        presets,
    )


def with_origin(
    presets: Presets | None = None,
) -> Callable[[Callable[P, Patch]], Callable[P, Patch]]:
    """Return a decorator of a method's function, so that the patch has its `Origin`.

    Args:
        presets: Options that differ by space; None if the method has the same options everywhere.

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
