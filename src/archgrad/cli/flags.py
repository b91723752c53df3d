"""Flags made of the settings' own models: ``--section.name``, with the model's types, descriptions and defaults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field, fields, is_dataclass, make_dataclass
from pathlib import Path
from types import GenericAlias, NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from cyclopts import Group, Parameter
from pydantic import BaseModel, create_model

Given = dict[str, Any]
AsJson = Annotated[
    bool,
    Parameter(name="--json", help="one JSON object on one line", negative="", show_default=False),
]


def overwriting(flag: str) -> Parameter:
    """The flag ``--overwrite`` of a command that writes the file which ``flag`` names."""
    return Parameter(
        name="--overwrite",
        help=f"replace the file of {flag} if it is there",
        negative="",
        show_default=False,
    )


def flags(
    sections: Mapping[str, type[BaseModel]],
    scalars: type[BaseModel],
    about: Mapping[str, str],
    floating: tuple[str, ...] = (),
) -> type:
    """A dataclass with a field for each flag, None where it was not given. ``about``: what the help says above a section;
    ``floating``: sections whose defaults depend on more than themselves, and are not shown."""
    own = _fields(scalars, {})
    for place, (name, model) in enumerate(sections.items()):
        shared: dict[str, Any] = {
            "group": Group(name, help=about.get(name, ""), sort_key=place + 10)
        }
        section = _dataclass(
            name.title(),
            _fields(model, shared | ({"show_default": False} if name in floating else {})),
        )
        own.append((name, Annotated[section, Parameter(name=name)], field(default_factory=section)))
    return _dataclass("Flags", own)


def some(model: type[BaseModel], *names: str) -> type[BaseModel]:
    """A part of a model: the settings that a command reads."""
    fields: dict[str, Any] = {
        name: (model.model_fields[name].annotation, model.model_fields[name]) for name in names
    }
    return create_model(model.__name__, **fields)


def said(value: Any) -> Given:
    """What was given of such a dataclass, as `archgrad.run.config.read` takes it."""
    found = {each.name: getattr(value, each.name) for each in fields(value)}
    nested = {name: said(part) if is_dataclass(part) else part for name, part in found.items()}
    return {name: part for name, part in nested.items() if part is not None and part != {}}


def _fields(model: type[BaseModel], shared: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    found = []
    for name, info in model.model_fields.items():
        kind = plain(info.annotation)
        if kind is not None:
            shown = (
                {"show_default": _saying(info.default)}
                | shared
                | ({"converter": whole} if kind is int else {})
            )
            parameter = Parameter(
                help=info.description or "", negative_iterable=(), consume_multiple=True, **shown
            )
            found.append((name, Annotated[kind | None, parameter], field(default=None)))
    return found


def whole(kind: Any, tokens: Sequence[Any]) -> int:
    """A whole number; cyclopts would round others. ValueError."""
    try:
        return int(tokens[0].value)
    except ValueError:
        raise ValueError(f"{tokens[0].value!r} is no whole number") from None


def _saying(default: Any) -> Any:
    """A default shown in the help though the flag itself has none, so that it is known what was said."""
    return False if default in (None, ()) else lambda value: str(default)


def plain(annotation: Any) -> Any:
    """The type of a flag: numbers, text, truth and choices as they are, several names or numbers as lists; None for what only a file can say."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return plain(arguments[0])
    if origin in (Union, UnionType):
        kinds = [
            kind for one in arguments if one is not NoneType and (kind := plain(one)) is not None
        ]
        words = [
            kind for kind in kinds[1:] if get_origin(kind) is Literal
        ]  # a number, or a word in its place
        return Union[(kinds[0], *words)] if kinds else None
    if origin is tuple:
        kind = plain(arguments[0])
        return GenericAlias(list, (kind,)) if kind in (int, float, str) else None
    if hasattr(annotation, "parse"):
        return str  # a type that is written as text, such as a budget
    return annotation if annotation in (int, float, str, bool, Path) or origin is Literal else None


def _dataclass(name: str, entries: list[tuple[str, Any, Any]]) -> type:
    # cyclopts takes a class of the standard library's modules for a plain value, and make_dataclass says "types"
    return make_dataclass(name, entries, kw_only=True, namespace={"__module__": __name__})
