"""Write files completely or not at all, and read them only where they are regular files.

Every file that archgrad leaves is written here. An unfinished file is a draft beside it, with a
random name that ends in `DRAFT`. Nobody can predict this name, so nobody can place a link there in
advance. A killed process may leave a draft, which the holder of the folder's lock removes with
`sweep`.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Literal, TextIO

from archgrad.errors import shortened

DRAFT = ".part"
"""Ending of the name of a draft."""
RANDOM = re.compile(rf"(.+)\.[0-9a-f]{{8}}{re.escape(DRAFT)}")
LIMIT = 2**27
"""Largest size in bytes of a text file. A study of thousands of epochs has some megabytes."""
DETAIL = 200
"""Largest number of characters of the fault in the message on a damaged file."""
UNLINKABLE = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
"""Error numbers of file systems without hard links, or without a further one for a file."""
ALONE = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def draft(path: Path, previous: Path | None = None) -> Iterator[BinaryIO]:
    """Open a draft that replaces ``path`` in one step after the block; an error removes it.

    Args:
        path: The file to write. A link there is replaced, never followed.
        previous: Path for the previous content of ``path``; None does not keep it.

    Yields:
        The draft, open for writing bytes.

    Raises:
        OSError: The file cannot be written. The error names ``path``.
    """
    beside = _draft_path(path)
    with naming_path(path):
        descriptor = os.open(beside, ALONE, 0o666)
        try:
            with os.fdopen(descriptor, "wb") as file:
                with suppress(OSError):  # a file system without locks
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                yield file
                file.flush()
                os.fsync(file.fileno())
            if previous is not None and path.exists():
                keep(path, previous)
            os.replace(beside, path)
        except BaseException:
            with suppress(OSError):
                beside.unlink()
            raise
        sync(path.parent)


def previous_path(path: Path) -> Path:
    """Return the path of a file's previous content.

    >>> previous_path(Path("run/checkpoint.pt")).name
    'checkpoint.previous.pt'
    """
    return path.with_stem(f"{path.stem}.previous")


def keep(path: Path, copy: Path) -> None:
    """Make ``copy`` a second name of the file ``path``, or a copy of it, in one step.

    Raises:
        OSError: ``copy`` cannot be written. The error names it.
    """
    beside = _draft_path(copy)
    with naming_path(copy):
        try:
            os.link(path, beside)
        except OSError as error:
            if error.errno not in UNLINKABLE:
                raise
            with draft(copy) as new, path.open("rb") as old:
                shutil.copyfileobj(old, new)
            return
        try:
            os.replace(beside, copy)
        finally:
            beside.unlink(missing_ok=True)  # a rename between two names of one file keeps both
        sync(copy.parent)


def write(path: Path, text: str) -> None:
    """Write a text file through a `draft`.

    Raises:
        OSError: The file cannot be written. The error names ``path``.
    """
    with draft(path) as file:
        file.write(text.encode())


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON object with a line for each entry.

    Raises:
        OSError: The file cannot be written. The error names ``path``.
    """
    lines = (f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in content.items())
    write(path, "{\n" + ",\n".join(lines) + "\n}\n")


def append(path: Path, line: str) -> None:
    """Append a line, which is on the disk when this function returns.

    Raises:
        OSError: ``path`` is a link or cannot be written. The error names ``path``.
    """
    with naming_path(path), open_unlinked(path) as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())


def open_unlinked(path: Path, mode: Literal["a+", "r+"] = "a+") -> TextIO:
    """Open a file for reading and appending, and create it where it is missing.

    Args:
        path: The file.
        mode: ``a+`` appends, ``r+`` writes anywhere.

    Raises:
        OSError: ``path`` is a link, which might lead anywhere, or no regular file.
    """
    place = os.O_APPEND if mode == "a+" else 0
    descriptor = os.open(
        path, os.O_CREAT | place | os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666
    )
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EEXIST, "it is no plain file", str(path))
    return os.fdopen(descriptor, mode, encoding="utf-8")


def damaged(path: Path, why: str) -> ValueError:
    """Return the error of a damaged file, with a way to go on.

    Args:
        path: The file.
        why: The fault in it.

    >>> damaged(Path("a.json"), "it lacks run")
    ValueError('a.json is damaged (it lacks run): restore it from a copy, or begin again')
    """
    return ValueError(
        f"{path} is damaged ({shortened(why, DETAIL)}): restore it from a copy, or begin again"
    )


def read_text(path: Path, limit: int = LIMIT) -> str:
    """Read the text of a regular file.

    Args:
        path: The file, or a link to it.
        limit: Largest size in bytes.

    Raises:
        ValueError: The file is missing, a folder, a pipe, larger than ``limit``, or no UTF-8.
    """
    try:
        return read_bytes(path, limit).decode()
    except UnicodeDecodeError as error:
        raise damaged(path, f"it is no UTF-8 text, byte {error.start}") from None


def read_bytes(path: Path, limit: int = LIMIT) -> bytes:
    """Read the bytes of a regular file.

    Args:
        path: The file, or a link to it.
        limit: Largest size in bytes.

    Raises:
        ValueError: The file is missing, a folder, a pipe, or larger than ``limit``.
    """
    with naming_path(path), open_regular(path) as file:
        if os.fstat(file.fileno()).st_size > limit:
            raise ValueError(
                f"{path} is too large to be a file of archgrad: more than {limit:,} bytes"
            )
        return file.read(limit)


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading.

    Raises:
        ValueError: The path does not exist, or it is a folder or a pipe.
    """
    check_plain(path)
    return path.open("rb")


def check_plain(path: Path) -> None:
    """Check that a path is a regular file. Reading a pipe would never end.

    Raises:
        ValueError: The path does not exist, or it is a folder or a pipe.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise ValueError(f"no such file: {path}") from None
    if not stat.S_ISREG(mode):
        found = "a folder" if stat.S_ISDIR(mode) else "no plain file"
        raise ValueError(f"{path} is {found}: a file is expected there")


def read_json(path: Path, *keys: str, limit: int = LIMIT) -> dict[str, Any]:
    """Read a JSON object.

    Args:
        path: The file.
        keys: Entries that the object must have.
        limit: Largest size in bytes.

    Raises:
        ValueError: The file is missing, too large or damaged, or the object lacks one of ``keys``.
    """
    found = parse_json(path, read_text(path, limit))
    if not isinstance(found, dict) or not set(keys) <= found.keys():
        raise damaged(path, f"it lacks {' or '.join(keys) or 'an object'}")
    return found


def parse_json(path: Path, written: str) -> Any:
    """Parse JSON that was read from a file.

    Args:
        path: The file, for messages.
        written: Its text.

    Raises:
        ValueError: The text is no JSON.
    """
    try:
        return json.loads(written)
    except RecursionError:
        raise damaged(path, "it is nested too deeply") from None
    except ValueError as error:  # also for integers of thousands of digits
        raise damaged(path, str(error)) from None


def sweep(folder: Path, names: Collection[str] = ()) -> None:
    """Remove the drafts that killed processes left in a folder, but none that is being written.

    Args:
        folder: The folder. Its subfolders are not searched.
        names: Names of files whose drafts had no random part in earlier versions.

    Raises:
        OSError: A draft cannot be removed.
    """
    for left in folder.glob(f"*{DRAFT}"):
        if (RANDOM.fullmatch(left.name) or is_draft(left, names)) and not is_held(left):
            left.unlink(missing_ok=True)


def is_draft(path: Path, names: Collection[str]) -> bool:
    """Return whether a file is a draft of one of ``names``, by this or an earlier version."""
    found = RANDOM.fullmatch(path.name)
    return (
        (found[1] if found else path.name.removesuffix(DRAFT)) in names
        and path.name.endswith(DRAFT)
        and not path.is_dir()
    )


@contextmanager
def sharing(folder: Path) -> Iterator[None]:
    """Work in a folder in which other processes may work as well.

    The first process removes the drafts that killed processes left there and in its subfolders.
    Without locks of the file system no draft is removed.

    Args:
        folder: The folder, which must exist.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for one in (folder, *(inside for inside in folder.iterdir() if inside.is_dir())):
                sweep(one)
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def is_held(path: Path) -> bool:
    """Return whether a process is writing a draft. The system releases the lock of a dead process.

    Raises:
        OSError: The file system does not tell.
    """
    if path.is_symlink() or not path.exists():
        return False
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)


def _draft_path(path: Path) -> Path:
    """Return the path of a new draft, which nobody can predict."""
    return path.with_name(f"{path.name}.{secrets.token_hex(4)}{DRAFT}")


def sync(folder: Path) -> None:
    """Wait until the renames in a folder are on the disk, where the file system supports it."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def naming_path(path: Path) -> Iterator[None]:
    """Make an OSError of the block name ``path`` where it names no file or a draft."""
    try:
        yield
    except OSError as error:
        if error.filename is None or str(error.filename).endswith(DRAFT):
            error.filename, error.filename2 = str(path), None
        raise
