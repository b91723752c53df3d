"""Find the columns of images and classes in a table, and read the classes."""

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
"""Number of rows that are read to recognise a column of paths."""


def choose_column(
    where: str,
    columns: Sequence[str],
    wanted: str | None,
    kind: str,
    tests: Sequence[Callable[[str], bool]],
) -> str:
    """Return the name of a column: the wanted one, or the only one that passes a test.

    Tests are tried in order until any column passes one.

    Args:
        where: The table, for messages.
        columns: Names of all columns.
        wanted: The column that the user named, or None.
        kind: ``image`` or ``label``, for messages.
        tests: Functions of a column's name that return whether the column is suitable.

    Raises:
        ValueError: There is no such column, or several ones pass the same test.
    """
    if wanted is not None:
        if (named := errors.find_name(wanted, columns)) is None:
            raise ValueError(f"{where}: {errors.unknown_name('column', wanted, columns)}")
        return named
    for test in tests:
        found = [column for column in columns if test(column)]
        if len(found) == 1:
            return found[0]
        if found:
            raise ValueError(
                f"{where}: several {kind} columns ({errors.listed(found, 8)}), "
                f"choose one with --data.{kind}-column"
            )
    raise ValueError(
        f"{where}: no {kind} column found among {errors.listed(columns, 8)}, "
        f"name it with --data.{kind}-column"
    )


def are_paths(values: Sequence[Any]) -> bool:
    """Return whether the first rows of a column are names of image files."""
    first = [value for value in values[:LOOKED_AT] if value not in (None, "")]
    return bool(first) and all(
        isinstance(value, str) and formats.is_image(value) for value in first
    )


def read_classes(where: str, column: str, values: Sequence[Any]) -> tuple[tuple[str, ...], Tensor]:
    """Return the classes of a column of labels.

    Args:
        where: The table, for messages.
        column: Name of the column.
        values: Values of the column.

    Returns:
        Class names, which are the sorted distinct values, and labels (N,), int64.

    Raises:
        ValueError: A row has no label.
    """
    check_labelled(where, column, values)
    distinct = sorted(set(values))
    place = {value: index for index, value in enumerate(distinct)}
    return tuple(str(value) for value in distinct), torch.tensor([place[value] for value in values])


def check_labelled(where: str, column: str, values: Sequence[Any]) -> None:
    """Check that each row has a label.

    Raises:
        ValueError: The label of a row is null, an empty text, or -1.
    """
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
    """Return the images of a table of paths.

    Args:
        where: The table, for messages.
        root: Folder from which the paths start.
        column: Name of the column of paths.
        paths: Paths in the order of the rows.
        classes: Names of the classes.
        labels: Labels (N,).

    Raises:
        ValueError: A row has no path.
    """
    names = [path for path in paths if path]
    if len(names) < len(paths):
        raise ValueError(
            f"{where}: row {[bool(path) for path in paths].index(False)} "
            f"has no path in column {column!r}"
        )

    def place(index: int) -> str:
        return os.path.join(root, names[index])

    return Source(
        where,
        classes,
        labels,
        open=lambda index: files.open_regular(Path(place(index))),
        where=place,
        key=listing_key(root, names),
    )


def columns_of(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Mapping[str, list[Any]]:
    """Return the values of each column; a column of whole numbers is converted."""
    found = {name: [row[place] for row in rows] for place, name in enumerate(header)}
    return {
        name: [int(value) for value in values] if all(map(_is_whole, values)) else values
        for name, values in found.items()
    }


def _is_whole(text: str) -> bool:
    return text.removeprefix("-").isdecimal() and len(text) < 19
