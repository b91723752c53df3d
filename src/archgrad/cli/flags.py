"""Flags from the models of the settings.

A flag ``--section.name`` has the type, description and default of its field in the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import field, fields, is_dataclass, make_dataclass
from pathlib import Path
from types import GenericAlias, NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from cyclopts import Group, Parameter
from pydantic import BaseModel, create_model

Given = dict[str, Any]
AsJson = Annotated[
    bool,
    Parameter(
        name="--json", help="JSON output of one object on one line", negative="", show_default=False
    ),
]


def overwriting(flag: str) -> Parameter:
    """Return the flag ``--overwrite`` of a command that writes the file of another flag."""
    return Parameter(
        name="--overwrite",
        help=f"replacement of the file of {flag} if it exists",
        negative="",
        show_default=False,
    )


def flags(
    sections: Mapping[str, type[BaseModel]],
    scalars: type[BaseModel],
    about: Mapping[str, str],
    floating: tuple[str, ...] = (),
) -> type:
    """Return a dataclass with a field for each flag; the value of an omitted flag is None.

    Args:
        sections: Section name -> its model.
        scalars: The model of the settings outside sections.
        about: Section name -> the text above its options in the help.
        floating: Sections whose defaults depend on other settings, so that the help omits them.

    Returns:
        A dataclass whose fields are the scalars and, for each section, a nested dataclass.
    """
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


def part_of(
    model: type[BaseModel], *names: str, about: Mapping[str, str] | None = None
) -> type[BaseModel]:
    """Return a model with some of the fields of another: those that a command reads.

    Args:
        model: The whole model.
        names: The fields to keep.
        about: Field -> a description that replaces its own.
    """
    parts: dict[str, Any] = {}
    for name in names:
        info = copy(model.model_fields[name])
        info.description = (about or {}).get(name, info.description)
        parts[name] = (info.annotation, info)
    return create_model(model.__name__, **parts)


def given_flags(value: Any) -> Given:
    """Return the given flags of such a dataclass, as `archgrad.run.config.read` takes them."""
    found = {each.name: getattr(value, each.name) for each in fields(value)}
    nested = {
        name: given_flags(part) if is_dataclass(part) else part for name, part in found.items()
    }
    return {name: part for name, part in nested.items() if part is not None and part != {}}


def _fields(model: type[BaseModel], shared: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    found = []
    for name, info in model.model_fields.items():
        kind = flag_type(info.annotation)
        if kind is not None:
            shown = (
                {"show_default": _default_text(info.default)}
                | shared
                | ({"converter": whole} if kind is int else {})
            )
            parameter = Parameter(
                help=info.description or "", negative_iterable=(), consume_multiple=True, **shown
            )
            found.append((name, Annotated[kind | None, parameter], field(default=None)))
    return found


def whole(kind: Any, tokens: Sequence[Any]) -> int:
    """Return a whole number; cyclopts alone would round a fraction.

    Raises:
        ValueError: The text is no whole number.
    """
    try:
        return int(tokens[0].value)
    except ValueError:
        raise ValueError(f"{tokens[0].value!r} is no whole number") from None


def _default_text(default: Any) -> Any:
    """Return the default as cyclopts prints it in the help.

    The flag itself has no default, so that an omitted flag differs from one that gives the default.
    """
    return False if default in (None, ()) else lambda value: str(default)


def flag_type(annotation: Any) -> Any:
    """Return the type of a flag from the annotation of a setting.

    Numbers, texts, booleans and choices keep their type, and tuples become lists. The result is
    None for a setting that only a file can give.
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return flag_type(arguments[0])
    if origin in (Union, UnionType):
        kinds = [
            kind
            for one in arguments
            if one is not NoneType and (kind := flag_type(one)) is not None
        ]
        # a union of a number and a choice takes the number, or a word in its place
        words = [kind for kind in kinds[1:] if get_origin(kind) is Literal]
        return Union[(kinds[0], *words)] if kinds else None
    if origin is tuple:
        kind = flag_type(arguments[0])
        return GenericAlias(list, (kind,)) if kind in (int, float, str) else None
    if hasattr(annotation, "parse"):
        return str  # a type that is written as text, such as a budget
    return annotation if annotation in (int, float, str, bool, Path) or origin is Literal else None


def _dataclass(name: str, entries: list[tuple[str, Any, Any]]) -> type:
    # cyclopts reads a class from the standard library as a plain value, and the module of a class
    # from make_dataclass is "types" by default
    return make_dataclass(name, entries, kw_only=True, namespace={"__module__": __name__})
