"""Options from signatures: the parameters of a function are the options that a user can set.

pydantic checks and converts their values, and an error is one line. The help of an option is its
line under "Args:" in the function's docstring (Google style), or the description of its type.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.fields import FieldInfo

from archgrad.bounds import WHOLE
from archgrad.errors import short_repr, unknown_name

if TYPE_CHECKING:
    from docstring_parser import Docstring

T = TypeVar("T")


def model(function: Callable[..., Any], **more: Any) -> type[BaseModel]:
    """Return a pydantic model of the options of a function or a dataclass, created once.

    Args:
        function: The function or dataclass. Each parameter is a field of the model. The help of a
            field is the description of its type (``Field(description=...)``), else its line in the
            docstring ("Args:", "Attributes:" in a dataclass), else its entry in the dictionary
            ``option_help`` of the dataclass.
        more: Further fields, each (type, default), which replace fields of the same name.

    Returns:
        The model. It refuses names that are no fields.
    """
    return _model(function, tuple(more.items()))


def description(function: Callable[..., Any]) -> str:
    """Return the docstring of a function before its "Args:"; empty if it has none."""
    found = _docstring(function)
    return ((found and found.description) or "").strip()


@cache
def _model(function: Callable[..., Any], more: tuple[tuple[str, Any], ...]) -> type[BaseModel]:
    hints = get_type_hints(
        function.__init__ if inspect.isclass(function) else function, include_extras=True
    )
    parsed = _docstring(function)
    meanings = getattr(function, "option_help", {}) | {
        one.arg_name: " ".join((one.description or "").split()).removesuffix(".")
        for one in (parsed.params if parsed else ())
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


def _docstring(function: Callable[..., Any]) -> Docstring | None:
    """Return the parsed docstring; None without the extra ``cli``, which alone prints help."""
    try:
        from docstring_parser import DocstringStyle, parse
    except ModuleNotFoundError:
        return None
    return parse(inspect.getdoc(function) or "", DocstringStyle.GOOGLE)


def _described(hint: Any, meaning: str | None) -> Any:
    """Return a type with its own description, or with ``meaning`` if it has none."""
    return Annotated[
        hint, Field(description=FieldInfo.from_annotation(hint).description or meaning)
    ]


def call(owner: str, function: Callable[..., T], options: Mapping[str, Any]) -> T:
    """Call a function with options whose values are converted to its annotations.

    Args:
        owner: Section of the options, for messages.
        function: The function.
        options: The options by name.

    Returns:
        The result of the function.

    Raises:
        ValueError: An option is unknown or its value is wrong. The message has the form
            ``owner.option: REASON, not VALUE``.
    """
    return function(**values(owner, model(function), options))


def values(owner: str, kind: type[BaseModel], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options with the values to which the fields of a model convert them.

    Args:
        owner: Section of the options, for messages.
        kind: The model.
        options: The options by name.

    Returns:
        The given options with converted values.

    Raises:
        ValueError: As in `call`. It is also raised for true or false in a field of another type,
            which Python, and so pydantic, would convert to 1 and 0.
    """
    check_names(owner, kind, options)
    for name, given in options.items():
        check_sizes(".".join(filter(None, [owner, name])), given)
    try:
        checked = kind(**options)
    except ValidationError as error:
        raise ValueError(error_line(error, owner)) from None
    found = {name: getattr(checked, name) for name in options}
    for name, given in options.items():
        if _turned(given, found[name]):
            where = ".".join(filter(None, [owner, name]))
            raise ValueError(
                f"{where}: true and false have no meaning for this option, not {short_repr(given)}"
            )
    return found


def check_names(owner: str, kind: type[BaseModel], names: Iterable[str]) -> None:
    """Raise ValueError for a name that is no field of a model."""
    for name in names:
        if name not in kind.model_fields:
            raise unknown_name(f"option of {owner}", name, kind.model_fields)


def check_sizes(where: str, given: Any) -> None:
    """Raise ValueError for a whole number that is larger than torch's integers.

    Args:
        where: Name of the option, for the message.
        given: The value; numbers within lists and mappings are checked too.
    """
    if isinstance(given, int) and abs(given) > WHOLE:
        raise ValueError(f"{where}: this number is too large, {short_repr(given)}")
    inner: Iterable[Any] = ()
    if isinstance(given, Mapping):
        inner = given.values()
    elif isinstance(given, list | tuple):
        inner = given
    for part in inner:
        check_sizes(where, part)


def _turned(given: Any, made: Any) -> bool:
    """Return whether true or false, alone or within a list or mapping, became another type."""
    if isinstance(given, bool):
        return not isinstance(made, bool)
    if isinstance(given, Mapping) and isinstance(made, Mapping):
        return any(_turned(inner, made[name]) for name, inner in given.items() if name in made)
    if isinstance(given, list | tuple) and isinstance(made, Sequence):
        return any(map(_turned, given, made))
    return False


def error_line(error: ValidationError, owner: str) -> str:
    """Return the first error of pydantic as one line with the option, the reason and the value."""
    first = error.errors(include_url=False)[0]
    # Deeper parts of the location are branches of a union.
    where = ".".join([owner, *map(str, first["loc"][:1])]).strip(".")
    reason, given = first["msg"].removeprefix("Value error, "), short_repr(first["input"])
    ours = first["type"] == "value_error"  # these messages may contain the value already
    return f"{where}: {reason}" if ours and given in reason else f"{where}: {reason}, not {given}"
