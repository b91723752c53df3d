"""Options by signature: what a function takes is what a user may set, checked and converted by pydantic, refused in one line."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import ConfigDict, ValidationError, validate_call

from archgrad.errors import unknown

T = TypeVar("T")


def names(function: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(function).parameters)


def call(owner: str, function: Callable[..., T], options: Mapping[str, Any]) -> T:
    """``function(**options)`` with values converted to its annotations. ValueError: ``owner.option: what is wrong, not 'value'``."""
    for name in options:
        if name not in names(function):
            raise unknown(f"option of {owner}", name, names(function))
    try:
        return validate_call(function, config=ConfigDict(arbitrary_types_allowed=True))(**options)
    except ValidationError as error:
        raise ValueError(one_line(error, owner)) from None


def one_line(error: ValidationError, owner: str) -> str:
    """The first complaint of pydantic as one line: where, what, and the value."""
    first = error.errors()[0]
    where = ".".join([owner, *(str(part) for part in first["loc"])]).strip(".")
    return f"{where}: {first['msg'].removeprefix('Value error, ')}, not {first['input']!r}"
