"""The fields of a pydantic model as plain data and back: types, bounds, defaults, descriptions.

The data of a type are its name (``"int"``, ``"Span"``) or a dictionary:

- ``{"choices": [...]}`` for a `Literal`, ``{"any": [types]}`` for a union,
- ``{"tuple": [types]}`` and ``{"tuple of": type}``,
- ``{"dict of": type}`` and ``{"mapping of": type}``, with text as keys,
- ``{"of": type, "gt": 0, ...}`` for a type with bounds.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import GenericAlias, NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, Field
from pydantic.fields import FieldInfo

from archgrad.components.schedules import Interval, Span

PLAIN: dict[str, Any] = {
    "int": int,
    "float": float,
    "str": str,
    "bool": bool,
    "path": Path,
    "null": NoneType,
}
CHECKED: dict[str, Any] = {"Span": Span, "Interval": Interval}
"""Types whose check is a function."""
BOUNDS = ("gt", "ge", "lt", "le", "allow_inf_nan")


def field_data(model: type[BaseModel]) -> dict[str, Any]:
    """Return the fields of a model as plain data.

    Args:
        model: The model.

    Returns:
        Name of a field -> its ``type``, and its ``default`` and ``help`` if it has them.

    Raises:
        TypeError: A type has no form in plain data.
    """
    return {name: _described(field) for name, field in model.model_fields.items()}


def fields_of(described: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of plain data, the arguments of pydantic's ``create_model``.

    Args:
        described: The result of `field_data`.

    Returns:
        Name of a field -> (type, field).
    """
    return {name: (type_of(one["type"]), _made(one)) for name, one in described.items()}


def type_data(annotation: Any, metadata: tuple[Any, ...] = ()) -> Any:
    """Return a type as plain data.

    Args:
        annotation: The type.
        metadata: The bounds and checks of the type, as pydantic keeps them apart.

    Returns:
        The name of the type, or a dictionary.

    Raises:
        TypeError: The type has no form in plain data.
    """
    for name, known in CHECKED.items():
        if any(check in get_args(known) for check in metadata):
            return name
    if bounds := {
        name: getattr(part, name)
        for part in metadata
        for name in BOUNDS
        if getattr(part, name, None) is not None
    }:
        return {"of": type_data(annotation), **bounds}
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return type_data(
            arguments[0],
            tuple(
                part
                for given in arguments[1:]
                for part in (getattr(given, "metadata", None) or (given,))
            ),
        )
    if origin is Literal:
        return {"choices": list(arguments)}
    if origin in (Union, UnionType):
        return {"any": [type_data(one) for one in arguments]}
    if origin is tuple:
        return (
            {"tuple of": type_data(arguments[0])}
            if arguments[1:] == (...,)
            else {"tuple": [type_data(one) for one in arguments]}
        )
    if origin in (dict, Mapping) and arguments[0] is str:
        return {"dict of" if origin is dict else "mapping of": type_data(arguments[1])}
    for name, plain in PLAIN.items():
        if annotation is plain:
            return name
    raise TypeError(
        f"an option of the type {annotation} has no form in the catalogue: add it to {__name__}"
    )


def type_of(data: Any) -> Any:
    """Return the type of plain data, the inverse of `type_data`."""
    if isinstance(data, str):
        return {**PLAIN, **CHECKED}[data]
    (form, inner), *bounds = data.items()
    match form:
        case "of":
            return Annotated[type_of(inner), Field(**dict(bounds))]
        case "choices":
            return Literal[tuple(inner)]
        case "any":
            return Union[tuple(type_of(one) for one in inner)]  # noqa: UP007
        case "tuple of":
            return GenericAlias(tuple, (type_of(inner), ...))
        case "tuple":
            return GenericAlias(tuple, tuple(type_of(one) for one in inner))
        case "dict of":
            return GenericAlias(dict, (str, type_of(inner)))
    return Mapping[str, type_of(inner)]  # type: ignore[misc]


def _described(field: FieldInfo) -> dict[str, Any]:
    found = {"type": type_data(field.annotation, tuple(field.metadata))}
    found |= {} if field.is_required() else {"default": field.default}
    return found | ({"help": field.description} if field.description else {})


def _made(one: Mapping[str, Any]) -> Any:
    return Field(
        default=_tuples(one["default"]) if "default" in one else ..., description=one.get("help")
    )


def _tuples(value: Any) -> Any:
    """Return a default with tuples in the place of the lists that JSON made of them."""
    return tuple(_tuples(one) for one in value) if isinstance(value, list) else value
