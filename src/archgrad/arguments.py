"""Turn the TypeErrors of wrong arguments into a ValueError of one line.

A function decorated by `named_if_wrong` checks nothing in advance: the diagnosis begins where
Python has refused an argument. So the types that a function takes stay as wide as they are.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Mapping
from functools import wraps
from numbers import Integral, Real
from os import PathLike
from typing import Any, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

from archgrad.errors import short_repr, unknown_name

P = ParamSpec("P")
T = TypeVar("T")

NOUNS: Mapping[Any, tuple[str, tuple[type, ...]]] = {
    int: ("a whole number", (Integral,)),
    float: ("a number", (Real,)),
    str: ("a text", (str,)),
    bool: ("true or false", (bool,)),
    type(None): ("None", (type(None),)),
}
"""A type in a signature -> its noun in messages, and the types of values that it takes."""


def named_if_wrong(function: Callable[P, T]) -> Callable[P, T]:
    """Return a function whose errors of wrong arguments are ValueErrors.

    A TypeError or an AttributeError becomes a ValueError if the names of the arguments do not fit
    the signature, or if a value does not have the type in the signature. The message names the
    argument. Any other error passes unchanged.

    Args:
        function: The function.
    """

    @wraps(function)
    def called(*arguments: P.args, **given: P.kwargs) -> T:
        try:
            return function(*arguments, **given)
        except (TypeError, AttributeError) as error:
            wrong = _complaint(function, arguments, given)
            if wrong is None:
                raise
            raise wrong from error

    return called


def _complaint(
    function: Callable[..., Any], arguments: tuple[Any, ...], given: Mapping[str, Any]
) -> ValueError | None:
    """Return the error that names the first wrong argument; None if all of them fit."""
    name, signature = _name_of(function), inspect.signature(function)
    parameters = signature.parameters
    open_ended = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
    for key in given:
        if key not in parameters and not open_ended:
            return unknown_name(f"argument of {name}", key, _names(parameters))
    try:
        bound = signature.bind(*arguments, **given).arguments
    except TypeError as error:
        return ValueError(f"{name}: {error} (it takes {', '.join(_names(parameters))})")
    hints = get_type_hints(function)
    for key, value in bound.items():
        kind = parameters[key].kind
        if kind is inspect.Parameter.VAR_KEYWORD or key not in hints:
            continue
        for one in value if kind is inspect.Parameter.VAR_POSITIONAL else (value,):
            if not _fits(one, hints[key]):
                wanted = " or ".join(dict.fromkeys(_nouns(hints[key])))
                return ValueError(f"{name}: {key} must be {wanted}, not {short_repr(one)}")
    return None


def _name_of(function: Callable[..., Any]) -> str:
    return function.__qualname__.removesuffix(".__init__")


def _names(parameters: Mapping[str, inspect.Parameter]) -> list[str]:
    return [name for name in parameters if name != "self"]


def _parts(hint: Any) -> tuple[Any, ...]:
    """Return the members of a union, or the type alone."""
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _fits(value: Any, hint: Any) -> bool:
    """Return whether a value has a type; parts of containers are not looked at."""
    return any(_is_one(value, part) for part in _parts(hint))


def _is_one(value: Any, part: Any) -> bool:
    if part in NOUNS:
        return isinstance(value, NOUNS[part][1])
    kind = get_origin(part) or part
    if kind is Any or not inspect.isclass(kind) or getattr(kind, "_is_protocol", False):
        return True  # these say nothing about the class of a value
    return isinstance(value, kind)


def _nouns(hint: Any) -> list[str]:
    return [
        NOUNS[part][0]
        if part in NOUNS
        else "a path"
        if inspect.isclass(part) and issubclass(part, PathLike)
        else "a function"
        if get_origin(part) is Callable
        else f"a {getattr(get_origin(part) or part, '__name__', part)}"
        for part in _parts(hint)
    ]
