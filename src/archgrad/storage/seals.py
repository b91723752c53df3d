"""Seal a file with a digest of its content at the end, and check the seal before the file is used.

Readers of zip archives, torch among them, ignore bytes after an archive. So a sealed archive is
still an archive.
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
"""Beginning of the last record of a zip archive."""
END_LENGTH = 22
BLOCK = 2**20


class Sealing:
    """A file open for writing that digests all written bytes.

    It keeps the error of a failed write in ``error``, because torch raises another error instead.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.digest = file, sha256()
        self.error: BaseException | None = None

    def write(self, data: bytes | memoryview) -> int:
        """Write all of ``data`` and return its length."""
        try:
            self.digest.update(data)
            return self.file.write(data)
        except BaseException as error:
            self.error = error
            raise

    def flush(self) -> None:
        """Flush the file."""
        self.file.flush()


@contextmanager
def sealed(path: Path, previous: Path | None = None) -> Iterator[Sealing]:
    """Open a `files.draft` that receives a seal at its end.

    Args:
        path: The file to write.
        previous: Path for the previous content of ``path``; None does not keep it.

    Yields:
        The draft, open for writing.

    Raises:
        OSError: The file cannot be written. The error names ``path``.
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


def check_seal(file: BinaryIO) -> None:
    """Check the bytes of a sealed file. An archive without a seal is checked by its own checksums.

    Args:
        file: The file, open for reading. Afterwards its position is the beginning.

    Raises:
        ValueError: The file is damaged, or neither sealed nor an archive.
    """
    size = file.seek(0, 2)
    file.seek(max(size - LENGTH, 0))
    end = file.read()
    file.seek(0)
    if len(end) == LENGTH and end.startswith(MARK):
        if _digest_of(file, size - LENGTH) != end[len(MARK) :]:
            raise ValueError("its bytes are not those that were written")
    elif end[-END_LENGTH:][: len(END)] != END:  # bytes after an archive can only be a damaged seal
        raise ValueError("its end is cut off or changed")
    elif not _has_valid_checksums(file):
        raise ValueError("a checksum in it is wrong")
    file.seek(0)


def _digest_of(file: BinaryIO, length: int) -> bytes:
    found = sha256()
    while length > 0 and (block := file.read(min(length, BLOCK))):
        found.update(block)
        length -= len(block)
    return found.digest()


def _has_valid_checksums(file: BinaryIO) -> bool:
    """Return whether all entries of an archive have their recorded checksums."""
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.testzip() is None
    except MemoryError:
        raise
    except Exception:  # for a damaged archive zipfile raises many types
        return False
