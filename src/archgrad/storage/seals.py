"""A file that ends with a digest of all before it: a flipped bit is found before anything in the file is used.

Readers of zip archives, torch among them, pass over bytes behind an archive. So a sealed archive is still an archive.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from archgrad.storage import files

MARK = b"archgrad:sha-256"
LENGTH = len(MARK) + sha256().digest_size
END = b"PK\x05\x06"
"""How the last record of a zip archive begins."""
END_LENGTH = 22
BLOCK = 2**20


class Sealing:
    """A file open for writing that digests what passes. It keeps the error that ended a write: torch raises another one in its place."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.digest = file, sha256()
        self.error: BaseException | None = None

    def write(self, data: bytes | memoryview) -> int:
        """Writes all of ``data``. OSError as the file raises it."""
        try:
            self.digest.update(data)
            return self.file.write(data)
        except BaseException as error:
            self.error = error
            raise

    def flush(self) -> None:
        self.file.flush()


@contextmanager
def sealed(path: Path, previous: Path | None = None) -> Iterator[Sealing]:
    """A `files.draft` that ends with its seal.

    Args:
        path: The file to write.
        previous: Where the file is kept that ``path`` was until now; None where it is not kept.

    Yields:
        The draft, open for writing.

    Raises:
        OSError: It cannot be written; the error names ``path``.
    """
    with files.draft(path, previous) as file:
        sealing = Sealing(file)
        try:
            yield sealing
        except RuntimeError:
            if sealing.error is not None:
                raise sealing.error from None
            raise
        file.write(MARK + sealing.digest.digest())


def check(file: BinaryIO) -> None:
    """ValueError where a byte of a sealed file is not the one that was written. An archive without a seal is held to its own checksums.

    Args:
        file: Open for reading; afterwards it stands at its beginning.

    Raises:
        ValueError: The file is damaged, or neither sealed nor an archive.
    """
    size = file.seek(0, 2)
    file.seek(max(size - LENGTH, 0))
    end = file.read()
    file.seek(0)
    if len(end) == LENGTH and end.startswith(MARK):
        if _digest(file, size - LENGTH) != end[len(MARK) :]:
            raise ValueError("its bytes are not those that were written")
    elif end[-END_LENGTH:][: len(END)] != END:  # bytes behind an archive that are no seal were one
        raise ValueError("its end is cut off or changed")
    elif not _whole(file):
        raise ValueError("a checksum in it is wrong")
    file.seek(0)


def _digest(file: BinaryIO, length: int) -> bytes:
    found = sha256()
    while length > 0 and (block := file.read(min(length, BLOCK))):
        found.update(block)
        length -= len(block)
    return found.digest()


def _whole(file: BinaryIO) -> bool:
    """Whether all entries of an archive have the checksums that it states."""
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.testzip() is None
    except MemoryError:
        raise
    except Exception:  # of a damaged archive zipfile raises half a dozen kinds
        return False
