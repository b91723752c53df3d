"""Read CSV and TSV files with a column of paths, relative to the file, and a column of classes."""

from __future__ import annotations

import csv
import io
from functools import partial
from pathlib import Path

from archgrad import errors
from archgrad.data import formats
from archgrad.data.columns import are_paths, choose_column, columns_of, from_paths, read_classes
from archgrad.data.source import Source, Splits
from archgrad.storage import files

LIMIT = 2**30
"""Largest size of a file in bytes."""
LABEL_COLUMNS = ("label", "labels", "class", "category", "target")
"""Names of columns of classes."""


def splits(file: Path, image: str | None, label: str | None) -> Splits:
    """Return the split of a file, called train.

    Args:
        file: The file.
        image: Name of the column of paths, or None.
        label: Name of the column of classes, or None.

    Raises:
        ValueError: Reading the split shows that the file is no table, or that the columns of paths
            and classes are not clear.
    """
    return {"train": partial(_table_source, file, image, label)}


def _table_source(file: Path, image: str | None, label: str | None) -> Source:
    header, rows = _read_table(file)
    columns = columns_of(header, rows)
    where = str(file)
    pictures = choose_column(where, header, image, "image", [lambda name: are_paths(columns[name])])
    others = header if label else [name for name in header if name != pictures]
    names = choose_column(
        where,
        others,
        label,
        "label",
        [lambda name: name.casefold() in LABEL_COLUMNS, lambda name: True],
    )
    classes, labels = read_classes(where, names, columns[names])
    return from_paths(
        where, file.parent, pictures, [str(path) for path in columns[pictures]], classes, labels
    )


def _read_table(file: Path) -> tuple[list[str], list[list[str]]]:
    """Return the names of the columns and the cells.

    A file whose first line holds the path of an image has no header. Its columns are 1, 2, ...
    """
    text = files.read_text(file, LIMIT).removeprefix("\ufeff")
    first = text.partition("\n")[0]
    mark = "\t" if file.suffix.lower() == ".tsv" else max(",;\t", key=first.count)
    try:
        lines = [line for line in csv.reader(io.StringIO(text, newline=""), delimiter=mark) if line]
    except csv.Error as error:
        raise ValueError(f"cannot read the table {file}: {error}") from None
    if not lines:
        raise ValueError(
            f"{file} is empty: a table with a column of paths and one of classes is expected"
        )
    if any(map(formats.is_image, lines[0])):
        lines.insert(0, [str(place) for place in range(1, len(lines[0]) + 1)])
    header, *rows = lines
    header = [name.strip() for name in header]
    if twice := sorted({name for name in header if header.count(name) > 1}):
        raise ValueError(
            f"{file} has two columns called {errors.short_repr(twice[0])}: rename one of them"
        )
    for number, row in enumerate(rows):
        if len(row) != len(header):
            raise ValueError(
                f"{file}: row {number} has {len(row)} cells, and there are {len(header)} columns"
            )
    if not rows:
        raise ValueError(f"{file} has no row: a line for each image is expected")
    return header, [[cell.strip() for cell in row] for row in rows]
