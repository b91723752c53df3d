"""Write and read decoded images in one file, with a checksum that each reading verifies.

The file begins as an ordinary ``.npy`` of the pixels (N, C, S, S). The digests (N, 32) of the image
files and the checksum (32 bytes) follow. SHA-256 reads 1.3 GB/s on a core and blake2b 0.5 GB/s,
because processors have instructions for SHA-256. Blocks of images are verified in parallel, so a
set larger than the memory costs one reading, which the first epoch needs as well.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

BLOCK = 64
"""Number of images in a block."""
DIGEST = 32
"""Number of bytes of a digest."""


class Decoded(NamedTuple):
    """Pixels of an image, uint8 (C, S, S), and the SHA-256 of its file."""

    pixels: np.ndarray
    digest: bytes


class Stored(NamedTuple):
    """Pixels (N, C, S, S) of the images of a source and digests (N, 32) of their files, uint8."""

    pixels: np.ndarray
    digests: np.ndarray


def gathered(blocks: Iterable[Sequence[Decoded]]) -> Stored:
    """Return images in memory."""
    images = [image for block in blocks for image in block]
    return Stored(_stack(images), _digest_array(b"".join(image.digest for image in images)))


def write(
    file: BinaryIO, name: str, shape: tuple[int, ...], blocks: Iterable[Sequence[Decoded]]
) -> None:
    """Write images in blocks of `BLOCK` images; the last block may be smaller.

    Args:
        file: The file, open for writing.
        name: Name of the file at its reading. It is part of the checksum, so that a file of another
            set is refused.
        shape: Shape (N, C, S, S) of the pixels.
        blocks: The images in their order.
    """
    digests: list[bytes] = []
    sums: list[bytes] = []
    np.lib.format.write_array_header_1_0(
        file, {"descr": "|u1", "fortran_order": False, "shape": shape}
    )
    for block in blocks:
        pixels = _stack(block)
        file.write(pixels.data)
        sums.append(sha256(pixels.data).digest())
        digests += [image.digest for image in block]
    contents = b"".join(digests)
    file.write(contents + _checksum(name, sums, contents))


def read(path: Path, shape: tuple[int, ...]) -> Stored:
    """Read the images of a file and verify them.

    Args:
        path: The file.
        shape: Shape (N, C, S, S) of the pixels.

    Returns:
        The images. Their pixels are mapped; a change stays in memory.

    Raises:
        ValueError: The file is damaged. The message is the predicate of "the cached images".
    """
    if not path.is_file():  # opening a pipe would never end
        raise ValueError("were damaged")
    count = shape[0]
    with path.open("rb") as file:
        start = _pixels_start(file, shape)
        end, length = start + math.prod(shape), os.fstat(file.fileno()).st_size
        if length == end:
            raise ValueError("have no checksum (an earlier version wrote them)")
        if length != end + (count + 1) * DIGEST:
            raise ValueError("were damaged")
        pixels = np.memmap(file, np.uint8, "c", start, shape)
        file.seek(end)
        contents, checksum = file.read(count * DIGEST), file.read(DIGEST)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        sums = list(
            pool.map(
                lambda place: sha256(pixels[place : place + BLOCK].data).digest(),
                range(0, count, BLOCK),
            )
        )
    if checksum != _checksum(path.name, sums, contents):
        raise ValueError("were damaged")
    return Stored(pixels, _digest_array(contents))


def _pixels_start(file: BinaryIO, shape: tuple[int, ...]) -> int:
    """Return the place in the file at which the pixels begin."""
    try:
        np.lib.format.read_magic(file)
        found = np.lib.format.read_array_header_1_0(file)
    except Exception:  # numpy parses the header as a Python literal, which may raise many types
        found = None
    if found != (shape, False, np.dtype(np.uint8)):
        raise ValueError("were damaged")
    return file.tell()


def _checksum(name: str, sums: Sequence[bytes], contents: bytes) -> bytes:
    return sha256(b"\n".join([name.encode(), *sums, contents])).digest()


def _stack(images: Sequence[Decoded]) -> np.ndarray:
    # Without it numpy would keep the images' order of axes in memory.
    return np.ascontiguousarray(np.stack([image.pixels for image in images]))


def _digest_array(digests: bytes) -> np.ndarray:
    return np.frombuffer(digests, np.uint8).reshape(-1, DIGEST)
