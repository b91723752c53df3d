"""Columns of tables: which one has the images, which one the classes, and what the classes are."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from archgrad import errors
from archgrad.data import formats
from archgrad.data.source import Source, listing_key
from archgrad.storage import files

LOOKED_AT = 100
"""Rows by which a column of paths is told."""


def chosen(
    where: str,
    columns: Sequence[str],
    wanted: str | None,
    kind: str,
    tests: Sequence[Callable[[str], bool]],
) -> str:
    """The wanted column, or the only one that passes the first test that any passes.

    Args:
        where: The table, for messages.
        columns: Their names.
        wanted: The name that a user gave.
        kind: Of the column, ``image`` or ``label``, for messages.
        tests: Each says of a column's name whether it may be the one.

    Returns:
        Its name.

    Raises:
        ValueError: There is no such column, or more than one.
    """
    if wanted is not None:
        if (named := errors.match(wanted, columns)) is None:
            raise ValueError(f"{where}: {errors.unknown('column', wanted, columns)}")
        return named
    for test in tests:
        found = [column for column in columns if test(column)]
        if len(found) == 1:
            return found[0]
        if found:
            raise ValueError(
                f"{where}: several {kind} columns ({errors.listed(found, 8)}), choose one with --data.{kind}-column"
            )
    raise ValueError(
        f"{where}: no {kind} column found among {errors.listed(columns, 8)}, name it with --data.{kind}-column"
    )


def are_paths(values: Sequence[Any]) -> bool:
    """Whether a column has names of image files, by its first rows."""
    first = [value for value in values[:LOOKED_AT] if value not in (None, "")]
    return bool(first) and all(
        isinstance(value, str) and formats.is_image(value) for value in first
    )


def classed(where: str, column: str, values: Sequence[Any]) -> tuple[tuple[str, ...], Tensor]:
    """Class names, the sorted distinct values, and labels (N,). ValueError names a row without a label: null, an empty text, or -1."""
    check_labelled(where, column, values)
    distinct = sorted(set(values))
    place = {value: index for index, value in enumerate(distinct)}
    return tuple(str(value) for value in distinct), torch.tensor([place[value] for value in values])


def check_labelled(where: str, column: str, values: Sequence[Any]) -> None:
    """ValueError names a row without a label: null, an empty text, or -1."""
    row = next(
        (row for row, value in enumerate(values) if value is None or value == "" or value == -1),
        None,
    )
    if row is not None:
        raise ValueError(f"{where}: row {row} has no label in column {column!r}")


def from_paths(
    where: str,
    root: Path,
    column: str,
    paths: Sequence[str | None],
    classes: tuple[str, ...],
    labels: Tensor,
) -> Source:
    """The images at paths relative to ``root``, in the order of the rows. ValueError names a row without a path."""
    names = [path for path in paths if path]
    if len(names) < len(paths):
        raise ValueError(
            f"{where}: row {[bool(path) for path in paths].index(False)} has no path in column {column!r}"
        )

    def place(index: int) -> str:
        return os.path.join(root, names[index])

    return Source(
        where,
        classes,
        labels,
        open=lambda index: files.opened(Path(place(index))),
        where=place,
        key=listing_key(root, names),
    )


def columns_of(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Mapping[str, list[Any]]:
    """The values of each column, whole numbers where all of a column's values are."""
    found = {name: [row[place] for row in rows] for place, name in enumerate(header)}
    return {
        name: [int(value) for value in values] if all(map(_is_whole, values)) else values
        for name, values in found.items()
    }


def _is_whole(text: str) -> bool:
    return text.removeprefix("-").isdecimal() and len(text) < 19
