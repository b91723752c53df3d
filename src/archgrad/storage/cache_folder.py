"""Find, create and check the folder of a cache, and remove what killed processes left in it."""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from archgrad.storage import files

OURS = re.compile(r"[0-9a-f]{20}-\w+\.(npy|json|txt)\.([0-9a-f]{8}\.part|\d+\.tmp)")
"""Names of drafts of cache files. Those of earlier versions end in .tmp."""
FRESH = 60
"""Seconds within which a new draft may still lack its lock."""
FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
"""Error numbers where the user may not write."""
DAY = 24 * 60 * 60
"""Seconds of a day."""


def default_cache() -> Path:
    """Return ``$XDG_CACHE_HOME/archgrad``, by default ``~/.cache/archgrad``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "archgrad"


def check_owner(folder: Path) -> Path:
    """Return a folder of a cache after a check that it may be read.

    Raises:
        ValueError: The folder lies in the default cache, which belongs to another user.
    """
    own = default_cache()
    if own in (folder, *folder.parents):
        _check_owner(own)
    return folder


def create(folder: Path) -> None:
    """Create a folder of a cache. The default cache is private to its owner.

    Raises:
        ValueError: The folder cannot be created, or the default cache belongs to another user.
    """
    own = default_cache()
    if own in (folder, *folder.parents):
        create_private(own)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)


def create_private(folder: Path) -> Path:
    """Create a folder that only the user reads and writes.

    Args:
        folder: Path of the folder. A link there must belong to the user.

    Returns:
        ``folder``.

    Raises:
        ValueError: The folder belongs to another user, or cannot be created.
    """
    with writing(folder):
        folder.mkdir(0o700, parents=True, exist_ok=True)
        _check_owner(folder)
        if folder.stat().st_mode & 0o077:  # an earlier version created it
            folder.chmod(0o700)
    return folder


def _check_owner(folder: Path) -> None:
    for follow in (False, True):
        with suppress(FileNotFoundError):
            if os.stat(folder, follow_symlinks=follow).st_uid != os.getuid():
                raise ValueError(
                    f"the cache {folder} belongs to another user, who could change its files: "
                    "choose another with --data.cache"
                )


@contextmanager
def draft(file: Path) -> Iterator[BinaryIO]:
    """Open a new file of a cache for writing, as `files.draft` does.

    Raises:
        ValueError: The file cannot be written. The message names the folder and the flag to change.
    """
    create(file.parent)
    with writing(file.parent):
        sweep(file.parent)
        with files.draft(file) as out:
            yield out


class ReadOnly(ValueError):
    """The user may not write to a cache."""


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn an OSError of the block into a ValueError.

    Raises:
        ReadOnly: The user may not write to the folder.
        ValueError: Another OSError. The message names the folder and the flag to change.
    """
    try:
        yield
    except OSError as error:
        kind = ReadOnly if error.errno in FORBIDDEN else ValueError
        raise kind(
            f"cannot write the cache {folder}: {error.strerror or error}; "
            "choose another with --data.cache"
        ) from error


def sweep(folder: Path) -> None:
    """Remove the drafts that killed processes left in a cache.

    A cache has no lock, so only drafts without a lock of their own are removed.
    """
    now = time.time()
    for left in folder.iterdir():
        if not OURS.fullmatch(left.name):
            continue
        with suppress(OSError):  # it belongs to another user, or is gone
            age = now - left.lstat().st_mtime
            if age > (DAY if left.suffix == ".tmp" else FRESH) and not files.is_held(left):
                left.unlink()
