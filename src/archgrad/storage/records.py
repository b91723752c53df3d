"""The rows that a run leaves, a JSON object a line: an epoch each in its metrics, a decision each in its decisions.

A kill may cut the last line, which is then left out and written anew. Anything else that is wrong with such a file was not done by archgrad:
it is named by file and line, and nothing but `repair` writes then. A row that was lost is marked as ``missing`` and has no measurement.
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
"""Columns that readers of a search's metrics calculate with in every row."""
MISSING = "missing"
DAMAGED = ".damaged"
CUT = "it is no JSON"

Text: TypeAlias = str | None
Number: TypeAlias = float | None


class Line(BaseModel, extra="allow", strict=True):
    """What a row may be. Columns that no reader calculates with may be anything."""

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


def rows(path: Path) -> list[Row]:
    """The rows with measurements. ValueError as `every`."""
    return measured(every(path))


def measured(found: Sequence[Row]) -> list[Row]:
    """Those that were not lost."""
    return [row for row in found if not row.get(MISSING)]


def every(path: Path) -> list[Row]:
    """All rows, those that are marked as missing too; a last line cut short by a kill is left out.

    Args:
        path: The file of metrics or decisions.

    Returns:
        A row a line.

    Raises:
        ValueError: There is no such file, or another line than the last one is damaged: the error names it.
    """
    found = []
    for number, line in enumerate(lines(path), 1):
        if isinstance(line, str):
            raise damaged(path, number, line)
        found.append(line)
    return found


def ended(epoch: int, last: int | None, planned: int) -> int:
    """How many epochs ended, by the numbers of a state: what is tuned behind the ``last`` epoch, or the planned ones, counts on in ``epoch``."""
    return min(epoch, last or planned)


def kept(path: Path, epochs: int, *columns: str) -> list[Row]:
    """The rows of the first ``epochs`` epochs.

    Args:
        path: The file of metrics; it may be missing where no epoch has ended.
        epochs: How many epochs ended. Later rows are left out.
        columns: Columns that every row with measurements must have.

    Returns:
        A row an epoch, each once and in order, those that are marked as missing too.

    Raises:
        ValueError: A line is damaged, or the row of an epoch is missing: the error names the place.
    """
    if not path.exists():
        if epochs:
            raise damaged(path, None, f"it is missing, and {counted(epochs, 'epoch')} ended")
        return []
    found = every(path)[:epochs]
    for number, row in enumerate(found):
        if row.get("epoch") != number:
            raise damaged(
                path,
                number + 1,
                f'"epoch" is {json.dumps(row.get("epoch"))}, and {number} belongs there',
            )
        if lacks := lacking(row, columns):
            raise damaged(path, number + 1, f"it has no {lacks}")
    if len(found) < epochs:
        raise damaged(
            path,
            len(found) + 1,
            f'the row whose "epoch" is {len(found)} is missing, and {epochs} epochs ended',
        )
    return found


def lacking(row: Row, columns: Sequence[str]) -> str | None:
    """The first of these columns that a row with measurements does not have."""
    return next((name for name in columns if row.get(name) is None and not row.get(MISSING)), None)


def tested(path: Path, epochs: int) -> list[Row]:
    """The rows with measurements of a retraining of so many ``epochs``, the last of which has the result. ValueError as `kept`, and where that
    one was lost."""
    found = kept(path, epochs)
    if found[-1].get("test_accuracy") is None:
        raise ValueError(
            f"{path} lost the test accuracy of the last epoch: `{command('evaluate', path.parent)}` measures it"
        )
    return measured(found)


def first(path: Path, count: int) -> list[Row]:
    """The first ``count`` rows of decisions; none where there is no file, as in runs of old. ValueError where there are fewer, or as `every`."""
    found = every(path)[:count] if path.exists() else None
    if found is not None and len(found) < count:
        raise damaged(path, len(found) + 1, f"the row is missing, and {count} decisions were taken")
    return found or []


def repair(path: Path, wanted: Sequence[Row], key: Callable[[Row], Hashable]) -> list[Row]:
    """Writes a file anew with every good row that is wanted, and marked rows for those that are lost; the damaged file stays beside it.

    Args:
        path: The file of metrics or decisions, or where it was.
        wanted: The rows that the file must have, in order, with all that is known of them from elsewhere.
        key: Says of a row which one it is; None of one that is not good enough.

    Returns:
        The marked rows that were written.

    Raises:
        OSError: A file cannot be written.
    """
    known: dict[Hashable, list[Row]] = {}
    for line in good(path):
        known.setdefault(key(line), []).append(line)
    marked = [row | {MISSING: True} for row in wanted]
    found = [known[key(row)].pop(0) if known.get(key(row)) else row for row in marked]
    if path.exists():
        keep(path)
    write(path, found)
    return [row for row in found if row.get(MISSING)]


def write(path: Path, found: Sequence[Row]) -> None:
    """A file of these rows. OSError names ``path``."""
    files.write(path, "".join(json.dumps(row) + "\n" for row in found))


def keep(path: Path) -> None:
    """Copies a file beside itself, to the first free name that ends in `DAMAGED` and a number; none is written over."""
    content, number = files.content(path), 1
    while (
        beside := path.with_name(f"{path.name}{DAMAGED}{'' if number == 1 else number}")
    ).exists():
        if beside.is_file() and files.content(beside) == content:  # a repair that a kill ended
            return
        number += 1
    with files.draft(beside) as file:
        file.write(content)


def good(path: Path) -> list[Row]:
    """The rows that are not damaged, whatever stands between them; none where there is no file."""
    return [line for line in lines(path) if not isinstance(line, str)] if path.exists() else []


def lines(path: Path) -> list[Row | str]:
    """Each line as its row, or as the reason why it is none. A last line that is no JSON is left out: a kill may have cut it."""
    *whole, last = files.content(path).split(b"\n")
    found = [parsed(line) for line in (*whole, *([last] if last else []))]
    return found[:-1] if found and found[-1] == CUT else found


def parsed(line: bytes) -> Row | str:
    """The row of a line, or the reason why it is none."""
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


def damaged(path: Path, number: int | None, why: str) -> ValueError:
    """The error of a file, with the line and with the command that mends it."""
    place = str(path) if number is None else f"{path}, line {number}"
    how = f"`{command('resume', path.parent, '--repair')}` keeps every good row, marks those that are lost, and goes on"
    return ValueError(f"{place}: {why}; nothing was changed, and {how}")
