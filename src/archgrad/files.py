"""Files of ours: written whole or not at all, and read only where they are plain files. Every file that archgrad leaves is written here.

A file in the making is a draft beside it, with a random name that ends in `DRAFT`. Nobody can know that name beforehand, so no link that was
planted there is followed. A kill may leave a draft behind; whoever holds the folder's lock may `sweep` it away.
"""

from __future__ import annotations

import json
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, TextIO

DRAFT = ".part"
LIMIT = 2**27  # bytes of a text file of ours: a study of thousands of epochs has some megabytes
ALONE = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def draft(path: Path) -> Iterator[BinaryIO]:
    """A new file that becomes ``path`` in one step where the block ends well, and vanishes where it does not.

    Args:
        path: The file to write. A link there is replaced, never followed.

    Yields:
        The draft, open for writing bytes.

    Raises:
        OSError: It cannot be written; the error names ``path``.
    """
    beside = path.with_name(f"{path.name}.{secrets.token_hex(4)}{DRAFT}")
    with named(path):
        descriptor = os.open(beside, ALONE, 0o666)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, path)
        except BaseException:
            with suppress(OSError):
                beside.unlink()
            raise
        sync(path.parent)


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


def open_unlinked(path: Path) -> TextIO:
    """A file open for reading and appending, made if it is not there. OSError where ``path`` is a link, which might lead anywhere."""
    return os.fdopen(os.open(path, os.O_CREAT | os.O_APPEND | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666), "a+", encoding="utf-8")


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
    check_plain(path)
    with named(path), path.open("rb") as file:
        if os.fstat(file.fileno()).st_size > limit:
            raise ValueError(f"{path} is too large to be a file of archgrad: more than {limit:,} bytes")
        return file.read(limit)


def check_plain(path: Path) -> None:
    """ValueError where ``path`` is no plain file: reading a pipe would wait for ever."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise ValueError(f"no such file: {path}") from None
    if not stat.S_ISREG(mode):
        raise ValueError(f"{path} is {'a folder' if stat.S_ISDIR(mode) else 'no plain file'}: a file is expected there")


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


def sweep(folder: Path) -> None:
    """Removes the drafts that a kill left in ``folder``. Only for whoever holds its lock."""
    for left in folder.glob(f"*{DRAFT}"):
        if is_draft(left):
            left.unlink(missing_ok=True)


def is_draft(path: Path) -> bool:
    """Whether a file is a draft that was not finished."""
    return path.name.endswith(DRAFT) and not path.is_dir()


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
