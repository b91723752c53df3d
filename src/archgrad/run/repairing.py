"""Repair of damaged metrics and decisions: good rows stay, and lost rows are marked as missing.

The checkpoint decides which rows there must be.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any

from archgrad.retraining.card import WEIGHTS, read_card
from archgrad.run import alpha_record
from archgrad.run.folder import RunFolder
from archgrad.searching import checkpoint
from archgrad.storage import records
from archgrad.storage.records import Row
from archgrad.terminal import Say


def repair_search(folder: RunFolder, say: Say, *, previous: bool = False) -> None:
    """Repair the metrics and decisions of a search. The caller must hold the lock.

    Args:
        folder: The run folder.
        say: Takes a line for each file.
        previous: If true, the checkpoint before the last one decides which rows there must be.

    Raises:
        ValueError: The checkpoint is damaged, so the necessary rows are unknown.
        OSError: A file cannot be written.
    """
    place = checkpoint.checkpoint_to_resume(folder.checkpoint, previous)
    saved = checkpoint.read(place) if place.exists() else None
    if saved is None and not folder.metrics.exists():
        say(
            f"{folder.metrics} is missing, and no checkpoint tells which rows it had: "
            "nothing to repair"
        )
    elif saved is None:
        epochs = (
            folder.count_epochs() if folder.genotype.exists() else 0
        )  # 0: the search starts anew
        repair_metrics(folder.metrics, epochs, say, columns=records.SEARCH)
    else:
        epochs = records.finished_epochs(
            saved["epoch"], saved.get("ended"), saved["plan"]["epochs"]
        )
        repair_metrics(folder.metrics, epochs, say, saved["stopped"], columns=records.SEARCH)
        notes = [json.loads(one["note"]) for one in saved["decisions"]]
        alpha_record.set_aside(folder.alphas, say)
        repair_if_damaged(
            folder.decisions,
            lambda: records.read_decisions(folder.decisions, len(notes)),
            [{"note": note} for note in notes],
            by_note,
            say,
        )


def repair_retraining(folder: Path, say: Say, *, previous: bool = False) -> None:
    """Repair the metrics of a retraining.

    Raises:
        ValueError: The checkpoint is damaged, or another process has locked the folder.
        OSError: The file cannot be written.
    """
    home = RunFolder(folder)
    with home.lock():
        if (folder / WEIGHTS).exists():
            epochs = read_card(folder).settings.epochs
        else:
            place = checkpoint.checkpoint_to_resume(home.checkpoint, previous)
            epochs = checkpoint.read(place)["epoch"] if place.exists() else 0
        repair_metrics(home.metrics, epochs, say)


def repair_metrics(
    path: Path, epochs: int, say: Say, stopped: str | None = None, *, columns: Sequence[str] = ()
) -> None:
    """Repair a file of metrics.

    Args:
        path: The file.
        epochs: The number of epochs that ended.
        say: Takes a line about the repair.
        stopped: The reason for an early end, if a rule ended the search.
        columns: The columns that each row must have.
    """
    wanted: list[Row] = [{"epoch": epoch} for epoch in range(epochs)]
    if wanted and stopped:
        wanted[-1]["stop"] = stopped

    def epoch_of(row: Row) -> int | None:
        return None if records.missing_column(row, columns) else row.get("epoch")

    repair_if_damaged(
        path, lambda: records.read_epochs(path, epochs, *columns), wanted, epoch_of, say
    )


def repair_if_damaged(
    path: Path,
    check: Callable[[], Any],
    wanted: Sequence[Row],
    key: Callable[[Row], Hashable],
    say: Say,
) -> None:
    """Repair a file if it is damaged.

    Args:
        path: The file.
        check: Raises a ValueError if the file is damaged.
        wanted: The rows that there must be.
        key: Returns the value by which a row is matched with a wanted one.
        say: Takes a line about the repair.
    """
    try:
        check()
    except ValueError:
        lost = records.repair(path, wanted, key)
        say(
            f"{path} is repaired: {len(lost)} of {len(wanted)} rows were lost "
            "and are marked as missing"
        )
    else:
        say(f"{path} is whole: nothing to repair")


def by_note(row: Row) -> str:
    """Return the note of a decision as text, by which the decision is matched."""
    return json.dumps(row.get("note"), sort_keys=True)
