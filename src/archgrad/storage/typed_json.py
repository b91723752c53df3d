"""Read JSON files of archgrad and check their content against a type.

Each package declares the types of its own files in its module ``schemas``. A field that older
versions did not write is `NotRequired`. Unknown fields are ignored by types with the configuration
`OPEN` and refused by types with `CLOSED`.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from archgrad.bounds import WHOLE
from archgrad.errors import short_repr
from archgrad.storage import files

T = TypeVar("T")

LIMIT = 2**24
"""Largest size of a file in bytes. The comparison of a long study has some hundred thousand."""

OPEN = ConfigDict(strict=True, extra="allow")
"""Configuration of a type that ignores unknown fields."""

CLOSED = ConfigDict(strict=True, extra="forbid")
"""Configuration of a type that refuses unknown fields, because its fields become arguments."""

Number = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=WHOLE)]


def read(path: Path, kind: type[T]) -> T:
    """Read a JSON file and check its content.

    Args:
        path: The file.
        kind: The type of its content, a `TypedDict` of a module ``schemas``.

    Returns:
        The content, unchanged.

    Raises:
        ValueError: The file is missing, damaged, or of another type. The message is one line and
            names the file and the field.
    """
    content = files.read_json(path, limit=LIMIT)
    try:
        return check(content, kind)
    except ValueError as error:
        raise files.damaged(path, str(error)) from None


def check(content: Any, kind: type[T]) -> T:
    """Return ``content`` itself if it is of type ``kind``.

    Raises:
        ValueError: A field is wrong; the message names the first such field.
    """
    try:
        _adapter(kind).validate_python(content)  # type: ignore[arg-type]  # mypy: no type is hashable
    except ValidationError as error:
        raise ValueError(complaint(error)) from None
    return cast(T, content)


def complaint(error: ValidationError) -> str:
    """Return pydantic's first error as one line: the path of the field, the reason, the value."""
    first = error.errors(include_url=False)[0]
    *above, last = map(str, first["loc"] or ("it",))
    if first["type"] == "missing":
        return f"{'.'.join(above) or 'it'} lacks {last}"
    place = short_repr(".".join([*above, last]))[1:-1]
    return (
        f"{place}: {first['msg'].removeprefix('Value error, ')}, not {short_repr(first['input'])}"
    )


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
