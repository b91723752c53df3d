"""The folder of a cache: where it lies, whose it is, and what killed processes left in it."""

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
"""Drafts of cache files; those of earlier versions end in .tmp."""
FRESH = 60  # seconds in which a draft may not have its lock yet
FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
DAY = 24 * 60 * 60


def default_cache() -> Path:
    """``$XDG_CACHE_HOME/archgrad``, by default ``~/.cache/archgrad``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "archgrad"


def checked(folder: Path) -> Path:
    """``folder``, which may be read. ValueError where it lies in the default cache, and that belongs to another user."""
    own = default_cache()
    if own in (folder, *folder.parents):
        _check_owner(own)
    return folder


def made(folder: Path) -> None:
    """Makes ``folder`` where it is not there, and the default cache for its owner alone. ValueError where it cannot, or as `checked`."""
    own = default_cache()
    if own in (folder, *folder.parents):
        private(own)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)


def private(folder: Path) -> Path:
    """A folder that nobody but the user reads and writes, made where it is not there.

    Args:
        folder: Its path. A link there has to be the user's own.

    Returns:
        ``folder``.

    Raises:
        ValueError: It belongs to another user, or cannot be made.
    """
    with writing(folder):
        folder.mkdir(0o700, parents=True, exist_ok=True)
        _check_owner(folder)
        if folder.stat().st_mode & 0o077:  # made by an earlier version
            folder.chmod(0o700)
    return folder


def _check_owner(folder: Path) -> None:
    for follow in (False, True):
        with suppress(FileNotFoundError):
            if os.stat(folder, follow_symlinks=follow).st_uid != os.getuid():
                raise ValueError(
                    f"the cache {folder} belongs to another user, who could change what is read: choose another with --data.cache"
                )


@contextmanager
def draft(file: Path) -> Iterator[BinaryIO]:
    """A new file of a cache, as `files.draft`. ValueError where it cannot be written names the folder, and the way out."""
    made(file.parent)
    with writing(file.parent):
        sweep(file.parent)
        with files.draft(file) as out:
            yield out


class ReadOnly(ValueError):
    """A cache that this user may not write to."""


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """An OSError inside is a ValueError that names ``folder``, and the way out; `ReadOnly` where the user may not write there."""
    try:
        yield
    except OSError as error:
        kind = ReadOnly if error.errno in FORBIDDEN else ValueError
        raise kind(
            f"cannot write the cache {folder}: {error.strerror or error}; choose another with --data.cache"
        ) from error


def sweep(folder: Path) -> None:
    """Removes the drafts that killed processes left in a cache, which has no lock: those that nobody writes any more."""
    now = time.time()
    for left in folder.iterdir():
        if not OURS.fullmatch(left.name):
            continue
        with suppress(OSError):  # of another user, or gone meanwhile
            age = now - left.lstat().st_mtime
            if age > (DAY if left.suffix == ".tmp" else FRESH) and not files.is_held(left):
                left.unlink()
