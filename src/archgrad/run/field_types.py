"""The fields of a pydantic model as plain data, and back: types, bounds, choices, defaults, descriptions.

A type is written as its name (``"int"``, ``"Span"``), or as one entry: ``{"choices": [...]}``, ``{"any": [types]}``, ``{"tuple": [types]}``,
``{"tuple of": type}``, ``{"dict of": type}`` and ``{"mapping of": type}`` by text, or ``{"of": type, "gt": 0, ...}`` with bounds.
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


def described(model: type[BaseModel]) -> dict[str, Any]:
    """Name -> ``type``, and ``default`` and ``help`` where there are any. Plain data."""
    return {name: _described(field) for name, field in model.model_fields.items()}


def fields(described: Mapping[str, Any]) -> dict[str, Any]:
    """Inverse of `described`: what pydantic's ``create_model`` takes."""
    return {name: (kind(one["type"]), _made(one)) for name, one in described.items()}


def written(annotation: Any, metadata: tuple[Any, ...] = ()) -> Any:
    """A type as plain data. TypeError for one that has no form here."""
    for name, known in CHECKED.items():
        if any(check in get_args(known) for check in metadata):
            return name
    if bounds := {
        name: getattr(part, name)
        for part in metadata
        for name in BOUNDS
        if getattr(part, name, None) is not None
    }:
        return {"of": written(annotation), **bounds}
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return written(
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
        return {"any": [written(one) for one in arguments]}
    if origin is tuple:
        return (
            {"tuple of": written(arguments[0])}
            if arguments[1:] == (...,)
            else {"tuple": [written(one) for one in arguments]}
        )
    if origin in (dict, Mapping) and arguments[0] is str:
        return {"dict of" if origin is dict else "mapping of": written(arguments[1])}
    for name, plain in PLAIN.items():
        if annotation is plain:
            return name
    raise TypeError(
        f"an option of the type {annotation} has no form in the catalogue: add it to {__name__}"
    )


def kind(data: Any) -> Any:
    """Inverse of `written`."""
    if isinstance(data, str):
        return {**PLAIN, **CHECKED}[data]
    (form, inner), *bounds = data.items()
    match form:
        case "of":
            return Annotated[kind(inner), Field(**dict(bounds))]
        case "choices":
            return Literal[tuple(inner)]
        case "any":
            return Union[tuple(kind(one) for one in inner)]  # noqa: UP007
        case "tuple of":
            return GenericAlias(tuple, (kind(inner), ...))
        case "tuple":
            return GenericAlias(tuple, tuple(kind(one) for one in inner))
        case "dict of":
            return GenericAlias(dict, (str, kind(inner)))
    return Mapping[str, kind(inner)]  # type: ignore[misc]


def _described(field: FieldInfo) -> dict[str, Any]:
    found = {"type": written(field.annotation, tuple(field.metadata))}
    found |= {} if field.is_required() else {"default": field.default}
    return found | ({"help": field.description} if field.description else {})


def _made(one: Mapping[str, Any]) -> Any:
    return Field(
        default=_tuples(one["default"]) if "default" in one else ..., description=one.get("help")
    )


def _tuples(value: Any) -> Any:
    """A default as it was before JSON made lists of its tuples."""
    return tuple(_tuples(one) for one in value) if isinstance(value, list) else value
