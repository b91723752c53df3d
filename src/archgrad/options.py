"""Options by signature: what a function takes is what a user may set, checked and converted by pydantic, refused in one line.

What an option means stands in the function's docstring, under "Args:" in Google's style, or in its type.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Annotated, Any, TypeVar, get_type_hints

from docstring_parser import Docstring, DocstringStyle, parse
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.fields import FieldInfo

from archgrad.bounds import WHOLE
from archgrad.errors import shown, unknown

T = TypeVar("T")


def model(function: Callable[..., Any], **more: Any) -> type[BaseModel]:
    """A pydantic model of the options of a function or a dataclass, made once.

    Args:
        function: The function or dataclass. Each parameter is a field of the model. The field's
            description is that of its type (``Field(description=...)``), else that of the
            parameter in the docstring ("Args:", of a dataclass "Attributes:").
        more: Further fields, each (type, default); they win.

    Returns:
        The model. It refuses names that are no fields.
    """
    return _model(function, tuple(more.items()))


def about(function: Callable[..., Any]) -> str:
    """The docstring of a function before its "Args:"; empty where there is none."""
    return (_docstring(function).description or "").strip()


@cache
def _model(function: Callable[..., Any], more: tuple[tuple[str, Any], ...]) -> type[BaseModel]:
    hints = get_type_hints(
        function.__init__ if inspect.isclass(function) else function, include_extras=True
    )
    meanings = {
        one.arg_name: " ".join((one.description or "").split()).removesuffix(".")
        for one in _docstring(function).params
    }
    fields: dict[str, Any] = {
        name: (
            _described(hints.get(name, Any), meanings.get(name)),
            ... if parameter.default is inspect.Parameter.empty else parameter.default,
        )
        for name, parameter in inspect.signature(function).parameters.items()
    }
    return create_model(
        "Options",
        __config__=ConfigDict(arbitrary_types_allowed=True, extra="forbid"),
        **(fields | dict(more)),
    )


def _docstring(function: Callable[..., Any]) -> Docstring:
    return parse(inspect.getdoc(function) or "", DocstringStyle.GOOGLE)


def _described(hint: Any, meaning: str | None) -> Any:
    """A type with its own description, or with ``meaning`` where it has none."""
    return Annotated[
        hint, Field(description=FieldInfo.from_annotation(hint).description or meaning)
    ]


def call(owner: str, function: Callable[..., T], options: Mapping[str, Any]) -> T:
    """``function(**options)`` with values converted to its annotations. ValueError: ``owner.option: what is wrong, not 'value'``."""
    return function(**values(owner, model(function), options))


def values(owner: str, kind: type[BaseModel], options: Mapping[str, Any]) -> dict[str, Any]:
    """The options as the fields of a model convert them. ValueError as `call`, and for true or false where the field is none of the two:
    Python, and so pydantic, takes them for 1 and 0."""
    check_names(owner, kind, options)
    for name, given in options.items():
        check_sizes(".".join(filter(None, [owner, name])), given)
    try:
        checked = kind(**options)
    except ValidationError as error:
        raise ValueError(one_line(error, owner)) from None
    found = {name: getattr(checked, name) for name in options}
    for name, given in options.items():
        if _turned(given, found[name]):
            raise ValueError(
                f"{'.'.join(filter(None, [owner, name]))}: true and false mean nothing here, not {shown(given)}"
            )
    return found


def check_names(owner: str, kind: type[BaseModel], names: Iterable[str]) -> None:
    """ValueError for a name that is no field of the model."""
    for name in names:
        if name not in kind.model_fields:
            raise unknown(f"option of {owner}", name, kind.model_fields)


def check_sizes(where: str, given: Any) -> None:
    """ValueError for a whole number, here or within lists and mappings, beyond what torch can count with."""
    if isinstance(given, int) and abs(given) > WHOLE:
        raise ValueError(f"{where}: this number is too large, {shown(given)}")
    for inner in (
        given.values()
        if isinstance(given, Mapping)
        else given
        if isinstance(given, list | tuple)
        else ()
    ):
        check_sizes(where, inner)


def _turned(given: Any, made: Any) -> bool:
    """Whether true or false, here or at the same place of a list or mapping, was taken for something else."""
    if isinstance(given, bool):
        return not isinstance(made, bool)
    if isinstance(given, Mapping) and isinstance(made, Mapping):
        return any(_turned(inner, made[name]) for name, inner in given.items() if name in made)
    if isinstance(given, list | tuple) and isinstance(made, Sequence):
        return any(map(_turned, given, made))
    return False


def one_line(error: ValidationError, owner: str) -> str:
    """The first complaint of pydantic as one line: where, what, and the value."""
    first = error.errors(include_url=False)[0]
    where = ".".join([owner, *map(str, first["loc"][:1])]).strip(
        "."
    )  # deeper parts name branches of a union
    says, given = first["msg"].removeprefix("Value error, "), shown(first["input"])
    ours = first["type"] == "value_error"  # such words may name the value themselves
    return f"{where}: {says}" if ours and given in says else f"{where}: {says}, not {given}"
