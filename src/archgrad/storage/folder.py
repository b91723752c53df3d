"""Lock a folder for one process, and name the files that each long job leaves in its folder."""

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

from archgrad.option_types import NotNegativeFloat
from archgrad.storage.files import is_draft, open_unlinked, read_bytes, sweep, write_json
from archgrad.storage.typed_json import OPEN, Number

SETTINGS, METRICS, CHECKPOINT, ESTIMATE = (
    "config.yaml",
    "metrics.jsonl",
    "checkpoint.pt",
    "estimate.json",
)
LOCK = "lock"
OWNER = b"pid "
"""Beginning of the content of a lock."""


@contextmanager
def locked(folder: Path, names: Collection[str] = ()) -> Iterator[None]:
    """Work in a folder alone, after removing the drafts that killed processes left.

    The system releases the lock of a dead process.

    Args:
        folder: The folder; it is created where it is missing.
        names: Names of files whose drafts had no random part in earlier versions.

    Raises:
        ValueError: Another process works in the folder.
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
        file.truncate()  # after the line, so that the content always begins with OWNER
        os.fsync(file.fileno())
        sweep(folder, names)
        yield


@with_config(OPEN)
class EstimateFile(TypedDict):
    """The file ``estimate.json``: seconds left, seconds in all, and the time of writing."""

    left: NotNegativeFloat
    total: NotNegativeFloat
    when: Number


def write_estimate(folder: Path, left: float, total: float) -> None:
    """Write ``estimate.json``, which a study reads to estimate the time of its jobs.

    Args:
        folder: Folder of the job.
        left: Seconds until the job ends.
        total: Seconds that the job takes in all.
    """
    write_json(folder / ESTIMATE, {"left": left, "total": total, "when": time()})


def leftovers(folder: Path, mark: Path, before: Collection[Path] = ()) -> list[Path]:
    """Return the files that a killed process left in a folder before its job began.

    Args:
        folder: The folder, which need not exist.
        mark: The file whose existence shows that the job began.
        before: Files that are written before ``mark``, under a lock.

    Returns:
        Drafts of these files, and the files ``before`` themselves where there is a lock.

    Raises:
        ValueError: The folder is a file, or holds other files.
    """
    if not folder.is_dir():
        if folder.exists():
            raise ValueError(f"{folder} is a file: choose another --out")
        return []
    lock, found = folder / LOCK, []
    owner = read_bytes(lock)[: len(OWNER)] if lock.is_file() and not lock.is_symlink() else None
    for item in folder.iterdir():
        if is_draft(item, [one.name for one in (mark, *before)]) or (
            owner == OWNER and item in before and item.is_file()
        ):
            found.append(item)
        # A kill may have cut the lock's line.
        elif item != lock or owner is None or not OWNER.startswith(owner):
            raise ValueError(
                f"{folder} is not empty and holds no {mark.name}: choose another --out"
            )
    return found
