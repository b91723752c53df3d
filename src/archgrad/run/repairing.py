"""Damaged metrics and decisions, mended: every good row is kept, and each lost one is marked. The checkpoint says which rows there must be."""

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


def mend(folder: RunFolder, say: Say, *, previous: bool = False) -> None:
    """Mends metrics and decisions of a search. Only for whoever holds the lock.

    Args:
        folder: The run folder.
        say: Takes a line for each file.
        previous: The checkpoint before the last says which rows there must be.

    Raises:
        ValueError: The checkpoint is damaged, so that nobody knows which rows there must be.
        OSError: A file cannot be written.
    """
    place = checkpoint.wanted(folder.checkpoint, previous)
    saved = checkpoint.read(place) if place.exists() else None
    if saved is None and not folder.metrics.exists():
        say(
            f"{folder.metrics} is not there, and no checkpoint says which rows it had: nothing to repair"
        )
    elif saved is None:
        epochs = folder.epochs() if folder.genotype.exists() else 0  # none of what begins again
        mend_metrics(folder.metrics, epochs, say, columns=records.SEARCH)
    else:
        epochs = records.ended(saved["epoch"], saved.get("ended"), saved["plan"]["epochs"])
        mend_metrics(folder.metrics, epochs, say, saved["stopped"], columns=records.SEARCH)
        notes = [json.loads(one["note"]) for one in saved["decisions"]]
        alpha_record.set_aside(folder.alphas, say)
        mended(
            folder.decisions,
            lambda: records.first(folder.decisions, len(notes)),
            [{"note": note} for note in notes],
            by_note,
            say,
        )


def mend_retraining(folder: Path, say: Say, *, previous: bool = False) -> None:
    """Mends the metrics of a retraining. ValueError and OSError as `mend`, ValueError too while another process works there."""
    home = RunFolder(folder)
    with home.locked():
        if (folder / WEIGHTS).exists():
            epochs = read_card(folder).settings.epochs
        else:
            place = checkpoint.wanted(home.checkpoint, previous)
            epochs = checkpoint.read(place)["epoch"] if place.exists() else 0
        mend_metrics(home.metrics, epochs, say)


def mend_metrics(
    path: Path, epochs: int, say: Say, stopped: str | None = None, *, columns: Sequence[str] = ()
) -> None:
    """The metrics of so many ``epochs``, each row with these ``columns``. ``stopped``: why they ended early."""
    wanted: list[Row] = [{"epoch": epoch} for epoch in range(epochs)]
    if wanted and stopped:
        wanted[-1]["stop"] = stopped

    def which(row: Row) -> int | None:
        return None if records.lacking(row, columns) else row.get("epoch")

    mended(path, lambda: records.kept(path, epochs, *columns), wanted, which, say)


def mended(
    path: Path,
    check: Callable[[], Any],
    wanted: Sequence[Row],
    key: Callable[[Row], Hashable],
    say: Say,
) -> None:
    """Mends a file in which ``check`` finds something wrong."""
    try:
        check()
    except ValueError:
        lost = records.repair(path, wanted, key)
        say(
            f"{path} is repaired: {len(lost)} of {len(wanted)} rows were lost and are marked as missing"
        )
    else:
        say(f"{path} is whole: nothing to repair")


def by_note(row: Row) -> str:
    """A decision is known by what it noted."""
    return json.dumps(row.get("note"), sort_keys=True)
