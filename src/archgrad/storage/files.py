"""Files of ours: written whole or not at all, and read only where they are plain files. Every file that archgrad leaves is written here.

A file in the making is a draft beside it, with a random name that ends in `DRAFT`. Nobody can know that name beforehand, so no link that was
planted there is followed. A kill may leave a draft behind; whoever holds the folder's lock may `sweep` it away.
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

DRAFT = ".part"
RANDOM = re.compile(rf"(.+)\.[0-9a-f]{{8}}{re.escape(DRAFT)}")
LIMIT = 2**27  # bytes of a text file of ours: a study of thousands of epochs has some megabytes
UNLINKABLE = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
"""Where a file system knows no second name of a file, or no further one."""
ALONE = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def draft(path: Path, previous: Path | None = None) -> Iterator[BinaryIO]:
    """A new file that becomes ``path`` in one step where the block ends well, and vanishes where it does not.

    Args:
        path: The file to write. A link there is replaced, never followed.
        previous: Where the file is kept that ``path`` was until now; None where it is not kept.

    Yields:
        The draft, open for writing bytes.

    Raises:
        OSError: It cannot be written; the error names ``path``.
    """
    beside = _beside(path)
    with named(path):
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


def previous(path: Path) -> Path:
    """Where the file is kept that ``path`` was before the last one: ``checkpoint.previous.pt`` of ``checkpoint.pt``."""
    return path.with_stem(f"{path.stem}.previous")


def keep(path: Path, copy: Path) -> None:
    """``copy`` becomes the file that ``path`` is, in one step; ``path`` stays where it is. OSError names ``copy``."""
    beside = _beside(copy)
    with named(copy):
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
            beside.unlink(missing_ok=True)  # of two names of one file a rename leaves both
        sync(copy.parent)


def write(path: Path, text: str) -> None:
    """Writes a text file as a `draft`. OSError names ``path``."""
    with draft(path) as file:
        file.write(text.encode())


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes a JSON object, one line per entry. OSError names ``path``."""
    lines = (f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in content.items())
    write(path, "{\n" + ",\n".join(lines) + "\n}\n")


def append(path: Path, line: str) -> None:
    """Adds a line, which is on the disk when this returns. A link at ``path`` is refused. OSError names ``path``."""
    with named(path), open_unlinked(path) as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())


def open_unlinked(path: Path, mode: Literal["a+", "r+"] = "a+") -> TextIO:
    """A file open for reading and appending (``r+``: for writing anywhere), made if it is not there. OSError where ``path`` is a link, which
    might lead anywhere, or no plain file."""
    place = os.O_APPEND if mode == "a+" else 0
    descriptor = os.open(
        path, os.O_CREAT | place | os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666
    )
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EEXIST, "it is no plain file", str(path))
    return os.fdopen(descriptor, mode, encoding="utf-8")


def text(path: Path, limit: int = LIMIT) -> str:
    """The text of a plain file.

    Args:
        path: The file to read; a link to a plain file is one.
        limit: Most bytes that are read.

    Returns:
        Its text.

    Raises:
        ValueError: There is no such file, it is a folder or a pipe, larger than ``limit``, or no UTF-8.
    """
    try:
        return content(path, limit).decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is damaged: it is no UTF-8 text (byte {error.start})") from None


def content(path: Path, limit: int = LIMIT) -> bytes:
    """The bytes of a plain file. ValueError as `text`."""
    with named(path), opened(path) as file:
        if os.fstat(file.fileno()).st_size > limit:
            raise ValueError(
                f"{path} is too large to be a file of archgrad: more than {limit:,} bytes"
            )
        return file.read(limit)


def opened(path: Path) -> BinaryIO:
    """A plain file, open for reading. ValueError as `text`."""
    check_plain(path)
    return path.open("rb")


def check_plain(path: Path) -> None:
    """ValueError where ``path`` is no plain file: reading a pipe would wait for ever."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise ValueError(f"no such file: {path}") from None
    if not stat.S_ISREG(mode):
        raise ValueError(
            f"{path} is {'a folder' if stat.S_ISDIR(mode) else 'no plain file'}: a file is expected there"
        )


def read_json(path: Path, *keys: str, limit: int = LIMIT) -> dict[str, Any]:
    """The JSON object in a file. ValueError in one line if it is missing, larger than ``limit`` bytes, cut short, or lacks one of ``keys``."""
    found = parsed(path, text(path, limit))
    if not isinstance(found, dict) or not set(keys) <= found.keys():
        raise ValueError(f"{path} is damaged: it lacks {' or '.join(keys) or 'an object'}")
    return found


def parsed(path: Path, written: str) -> Any:
    """The value of JSON that was read from ``path``. ValueError in one line if it is none."""
    try:
        return json.loads(written)
    except RecursionError:
        raise ValueError(f"{path} is damaged: it is nested too deeply") from None
    except ValueError as error:  # of a number of thousands of digits, too
        raise ValueError(f"{path} is damaged: {error}") from None


def sweep(folder: Path, names: Collection[str] = ()) -> None:
    """Removes the drafts that a kill left in ``folder``, and none that a process still writes.

    Args:
        folder: The folder; those inside it are left alone.
        names: Files that earlier versions wrote there: their drafts had no random part.

    Raises:
        OSError: A draft cannot be removed.
    """
    for left in folder.glob(f"*{DRAFT}"):
        if (RANDOM.fullmatch(left.name) or is_draft(left, names)) and not is_held(left):
            left.unlink(missing_ok=True)


def is_draft(path: Path, names: Collection[str]) -> bool:
    """Whether a file is an unfinished draft of one of these ``names``, by this version or an earlier one."""
    found = RANDOM.fullmatch(path.name)
    return (
        (found[1] if found else path.name.removesuffix(DRAFT)) in names
        and path.name.endswith(DRAFT)
        and not path.is_dir()
    )


@contextmanager
def shared(folder: Path) -> Iterator[None]:
    """Work in a folder in which other processes may work too. Whoever comes first removes the drafts that a kill left there and one level below.

    Args:
        folder: The folder, which must exist.

    Yields:
        Nothing. Where the file system has no such locks no draft is removed.
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
    """Whether a process is still writing a draft: the system lets go of a dead one's lock. A link is none's. OSError where it cannot be told."""
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


def _beside(path: Path) -> Path:
    """A name for a draft of ``path`` that nobody can know beforehand."""
    return path.with_name(f"{path.name}.{secrets.token_hex(4)}{DRAFT}")


def sync(folder: Path) -> None:
    """A rename in ``folder`` is on the disk when this returns, where the file system can say so."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def named(path: Path) -> Iterator[None]:
    """An OSError inside names ``path``, where it names none or a draft of it."""
    try:
        yield
    except OSError as error:
        if error.filename is None or str(error.filename).endswith(DRAFT):
            error.filename, error.filename2 = str(path), None
        raise
