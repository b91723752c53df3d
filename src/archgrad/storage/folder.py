"""Folders in which one process works at a time, and the files that every long job leaves in its own."""

from __future__ import annotations

import fcntl
import os
import platform
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import time

from pydantic import with_config
from typing_extensions import TypedDict

from archgrad.storage.files import content, is_draft, open_unlinked, sweep, write_json
from archgrad.storage.typed_json import OPEN, NotNegative, Number

SETTINGS, METRICS, CHECKPOINT, ESTIMATE = (
    "config.yaml",
    "metrics.jsonl",
    "checkpoint.pt",
    "estimate.json",
)
LOCK = "lock"
OWNER = b"pid "  # how a lock of ours begins


@contextmanager
def locked(folder: Path, names: Collection[str] = ()) -> Iterator[None]:
    """Work in a folder alone.

    Args:
        folder: The folder; it is made where there is none.
        names: Files of earlier versions there, whose drafts had no random part.

    Yields:
        Nothing. The drafts that a kill left are gone, and the system lets go of a dead process's lock by itself.

    Raises:
        ValueError: Another process works there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open_unlinked(folder / LOCK, "r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise ValueError(
                f"another process ({file.read().strip() or 'unknown'}) is working in {folder}"
            ) from None
        file.write(f"{OWNER.decode()}{os.getpid()} on {platform.node()}\n")
        file.truncate()  # behind the line: at no moment is it a lock that nobody knows as ours
        os.fsync(file.fileno())
        sweep(folder, names)
        yield


@with_config(OPEN)
class EstimateFile(TypedDict):
    """The file ``estimate.json`` of a run: seconds left, seconds in all, and the time of writing."""

    left: NotNegative
    total: NotNegative
    when: Number


def expect(folder: Path, left: float, total: float) -> None:
    """Write how many seconds a job has left, and how many it takes in all, for whoever waits for several jobs."""
    write_json(folder / ESTIMATE, {"left": left, "total": total, "when": time()})


def leftovers(folder: Path, mark: Path, before: Collection[Path] = ()) -> list[Path]:
    """The files that a kill left in a folder before anything began there.

    Args:
        folder: The folder, which need not exist.
        mark: The file that says that something began.
        before: The files that are written before it, under a lock.

    Returns:
        Drafts of these files, and the files ``before`` themselves where there is a lock of ours.

    Raises:
        ValueError: The folder is a file, or anything else is in it.
    """
    if not folder.is_dir():
        if folder.exists():
            raise ValueError(f"{folder} is a file: choose another --out")
        return []
    lock, found = folder / LOCK, []
    words = content(lock)[: len(OWNER)] if lock.is_file() and not lock.is_symlink() else None
    for item in folder.iterdir():
        if is_draft(item, [one.name for one in (mark, *before)]) or (
            words == OWNER and item in before and item.is_file()
        ):
            found.append(item)
        elif (
            item != lock or words is None or not OWNER.startswith(words)
        ):  # a kill may have cut the line
            raise ValueError(
                f"{folder} is not empty and holds no {mark.name}: choose another --out"
            )
    return found
