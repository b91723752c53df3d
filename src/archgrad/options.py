"""Options by signature: what a function takes is what a user may set, checked and converted by pydantic, refused in one line."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, TypeVar, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from archgrad.errors import unknown

T = TypeVar("T")


def model(function: Callable[..., Any], **more: Any) -> type[BaseModel]:
    """A pydantic model with one field per parameter of a function or a dataclass, and ``more``, each (type, default), which win. Made once."""
    return _model(function, tuple(more.items()))


@cache
def _model(function: Callable[..., Any], more: tuple[tuple[str, Any], ...]) -> type[BaseModel]:
    hints = get_type_hints(function.__init__ if inspect.isclass(function) else function, include_extras=True)
    fields: dict[str, Any] = {
        name: (hints.get(name, Any), ... if parameter.default is inspect.Parameter.empty else parameter.default)
        for name, parameter in inspect.signature(function).parameters.items()
    }
    return create_model("Options", __config__=ConfigDict(arbitrary_types_allowed=True, extra="forbid"), **(fields | dict(more)))


def call(owner: str, function: Callable[..., T], options: Mapping[str, Any]) -> T:
    """``function(**options)`` with values converted to its annotations. ValueError: ``owner.option: what is wrong, not 'value'``."""
    return function(**values(owner, model(function), options))


def values(owner: str, kind: type[BaseModel], options: Mapping[str, Any]) -> dict[str, Any]:
    """The options as the fields of a model convert them. ValueError as `call`."""
    for name in options:
        if name not in kind.model_fields:
            raise unknown(f"option of {owner}", name, kind.model_fields)
    try:
        checked = kind(**options)
    except ValidationError as error:
        raise ValueError(one_line(error, owner)) from None
    return {name: getattr(checked, name) for name in options}


def one_line(error: ValidationError, owner: str) -> str:
    """The first complaint of pydantic as one line: where, what, and the value."""
    first = error.errors()[0]
    where = ".".join([owner, *map(str, first["loc"][:1])]).strip(".")  # deeper parts name branches of a union
    return f"{where}: {first['msg'].removeprefix('Value error, ')}, not {first['input']!r}"
