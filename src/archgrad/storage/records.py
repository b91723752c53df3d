"""Read and repair the records of a run: JSON objects, one on each line.

A row of the metrics belongs to an epoch, a row of the decisions to a decision. A killed process may
leave an incomplete last line, which is ignored and written again. Any other damage has another
cause: an error names the file and the line, and only `repair` writes the file then. A lost row is
marked as ``missing`` and has no measurements.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from pydantic import BaseModel, Field, ValidationError

from archgrad.errors import command, counted
from archgrad.storage import files

Row = dict[str, Any]
SEARCH = ("genotype",)
"""Columns of a search's metrics that its readers need in each row."""
MISSING = "missing"
"""Column that marks a lost row."""
DAMAGED = ".damaged"
"""Ending of the copy of a damaged file."""
CUT = "it is no JSON"

Text: TypeAlias = str | None
Number: TypeAlias = float | None


class Line(BaseModel, extra="allow", strict=True):
    """Type of a row. Columns that no reader calculates with may have any value."""

    epoch: Annotated[int, Field(ge=0)] | None = None
    note: dict[str, Any] | None = None
    missing: bool = False
    phase: Text = None
    genotype: Text = None
    stop: Text = None
    seconds: Number = None
    cpu_seconds: Number = None
    entropy: Number = None
    train_loss: Number = None
    train_accuracy: Number = None
    val_loss: Number = None
    val_accuracy: Number = None
    draw_accuracy: Number = None
    discrete_accuracy: Number = None
    test_accuracy: Number = None


def read_measured(path: Path) -> list[Row]:
    """Read the rows with measurements.

    Raises:
        ValueError: The file is missing or damaged.
    """
    return measured(read_all(path))


def measured(found: Sequence[Row]) -> list[Row]:
    """Return the rows that are not marked as missing."""
    return [row for row in found if not row.get(MISSING)]


def read_all(path: Path) -> list[Row]:
    """Read all rows, also those marked as missing, without an incomplete last line.

    Args:
        path: The file of metrics or decisions.

    Raises:
        ValueError: The file is missing, or a line before the last one is damaged.
    """
    found = []
    for number, line in enumerate(lines(path), 1):
        if isinstance(line, str):
            raise damage_error(path, number, line)
        found.append(line)
    return found


def finished_epochs(epoch: int, last: int | None, planned: int) -> int:
    """Return the number of finished epochs of a state.

    Args:
        epoch: Counter of the state, which also counts tuning epochs after the last one.
        last: The last epoch of a search that stopped early, or None.
        planned: Number of planned epochs.
    """
    return min(epoch, last or planned)


def read_epochs(path: Path, epochs: int, *columns: str) -> list[Row]:
    """Read the rows of the first epochs.

    Args:
        path: The file of metrics. It may be missing where no epoch is finished.
        epochs: Number of finished epochs. Later rows are ignored.
        columns: Columns that each row with measurements must have.

    Returns:
        A row for each epoch, in order, also those marked as missing.

    Raises:
        ValueError: A line is damaged, or the row of an epoch is missing. The error names the place.
    """
    if not path.exists():
        if epochs:
            raise damage_error(path, None, f"it is missing, and {counted(epochs, 'epoch')} ended")
        return []
    found = read_all(path)[:epochs]
    for number, row in enumerate(found):
        if row.get("epoch") != number:
            raise damage_error(
                path,
                number + 1,
                f'"epoch" is {json.dumps(row.get("epoch"))}, and {number} belongs there',
            )
        if lacks := missing_column(row, columns):
            raise damage_error(path, number + 1, f"it has no {lacks}")
    if len(found) < epochs:
        raise damage_error(
            path,
            len(found) + 1,
            f'the row whose "epoch" is {len(found)} is missing, and {epochs} epochs ended',
        )
    return found


def missing_column(row: Row, columns: Sequence[str]) -> str | None:
    """Return the first of these columns that a row with measurements lacks, or None."""
    return next((name for name in columns if row.get(name) is None and not row.get(MISSING)), None)


def read_tested(path: Path, epochs: int) -> list[Row]:
    """Read the rows with measurements of a finished retraining.

    Args:
        path: The file of metrics.
        epochs: Number of epochs.

    Raises:
        ValueError: The file is damaged, or the last epoch, which has the result, is missing.
    """
    found = read_epochs(path, epochs)
    if found[-1].get("test_accuracy") is None:
        raise ValueError(
            f"{path} lost the test accuracy of the last epoch: "
            f"`{command('evaluate', path.parent)}` measures it"
        )
    return measured(found)


def read_decisions(path: Path, count: int) -> list[Row]:
    """Read the first rows of the decisions.

    Args:
        path: The file of decisions. It is missing in runs of early versions, which have no rows.
        count: Number of rows.

    Raises:
        ValueError: The file is damaged, or has fewer rows.
    """
    found = read_all(path)[:count] if path.exists() else None
    if found is not None and len(found) < count:
        raise damage_error(
            path, len(found) + 1, f"the row is missing, and {count} decisions were taken"
        )
    return found or []


def repair(path: Path, wanted: Sequence[Row], key: Callable[[Row], Hashable]) -> list[Row]:
    """Write a file anew with its good rows, and with marked rows in place of lost ones.

    A copy of the damaged file is kept beside it.

    Args:
        path: The file of metrics or decisions, or its path where the file is missing.
        wanted: The rows that the file must have, in order, with their values that are known from
            other files.
        key: Function that returns the identity of a row, or None for an unusable row.

    Returns:
        The marked rows.

    Raises:
        OSError: A file cannot be written.
    """
    known: dict[Hashable, list[Row]] = {}
    for line in undamaged(path):
        known.setdefault(key(line), []).append(line)
    marked = [row | {MISSING: True} for row in wanted]
    found = [known[key(row)].pop(0) if known.get(key(row)) else row for row in marked]
    if path.exists():
        keep_damaged(path)
    write(path, found)
    return [row for row in found if row.get(MISSING)]


def write(path: Path, found: Sequence[Row]) -> None:
    """Write a file of rows.

    Raises:
        OSError: The file cannot be written. The error names ``path``.
    """
    files.write(path, "".join(json.dumps(row) + "\n" for row in found))


def keep_damaged(path: Path) -> None:
    """Copy a file to the first free name that ends in `DAMAGED` and a number; overwrite nothing."""
    content, number = files.read_bytes(path), 1
    beside = path.with_name(f"{path.name}{DAMAGED}")
    while beside.exists():
        if beside.is_file() and files.read_bytes(beside) == content:  # an earlier repair was killed
            return
        number += 1
        beside = path.with_name(f"{path.name}{DAMAGED}{number}")
    with files.draft(beside) as file:
        file.write(content)


def undamaged(path: Path) -> list[Row]:
    """Return the undamaged rows of a file, whatever else it holds; none for a missing file."""
    return [line for line in lines(path) if not isinstance(line, str)] if path.exists() else []


def lines(path: Path) -> list[Row | str]:
    """Return the row of each line, or the reason why it is none; ignore an incomplete last line."""
    *whole, last = files.read_bytes(path).split(b"\n")
    found = [parsed(line) for line in (*whole, *([last] if last else []))]
    return found[:-1] if found and found[-1] == CUT else found


def parsed(line: bytes) -> Row | str:
    """Return the row of a line, or the reason why it is none."""
    try:
        row = json.loads(line.decode())
    except (ValueError, RecursionError):
        return CUT
    try:
        found = Line.model_validate(row)
    except ValidationError as error:
        one = error.errors()[0]
        return ": ".join(filter(None, (".".join(map(str, one["loc"])), one["msg"])))
    if found.epoch is None and found.note is None:
        return "it has neither an epoch nor a note"
    return dict(row)


def damage_error(path: Path, number: int | None, why: str) -> ValueError:
    """Return the error of a damaged file, with the command that repairs it.

    Args:
        path: The file.
        number: The line, counted from 1, or None.
        why: The damage.
    """
    place = str(path) if number is None else f"{path}, line {number}"
    repairing = command("resume", path.parent, "--repair")
    return ValueError(
        f"{place}: {why}; nothing was changed, and "
        f"`{repairing}` keeps every good row, marks those that are lost, and goes on"
    )
