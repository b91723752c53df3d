"""Decoded images in one file: the pixels, a digest of each image's own file, and a checksum over all, verified whenever it is read.

The file begins as an ordinary ``.npy`` of the pixels (N, C, S, S); the digests (N, 32) and the checksum (32 bytes) come behind it. SHA-256
reads 1.3 GB/s on a core, blake2b 0.5: processors have instructions for the first. Blocks of images are verified side by side, so that a
set larger than the memory costs no more than to read it once, which the first epoch does anyway.
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

BLOCK = 64  # images
DIGEST = 32  # bytes


class Decoded(NamedTuple):
    """One image: uint8 (C, S, S), and the SHA-256 of the bytes it was decoded from."""

    pixels: np.ndarray
    digest: bytes


class Stored(NamedTuple):
    """All images of a source: uint8 (N, C, S, S), and their digests, uint8 (N, 32)."""

    pixels: np.ndarray
    digests: np.ndarray


def gathered(blocks: Iterable[Sequence[Decoded]]) -> Stored:
    """In memory."""
    images = [image for block in blocks for image in block]
    return Stored(_stacked(images), _array(b"".join(image.digest for image in images)))


def write(
    file: BinaryIO, name: str, shape: tuple[int, ...], blocks: Iterable[Sequence[Decoded]]
) -> None:
    """Writes images block by block, `BLOCK` in each but the last.

    Args:
        file: Where to.
        name: Of the file as it will be read: part of the checksum, so that no other set's file passes for it.
        shape: (N, C, S, S)
        blocks: The images in their order.
    """
    digests: list[bytes] = []
    sums: list[bytes] = []
    np.lib.format.write_array_header_1_0(
        file, {"descr": "|u1", "fortran_order": False, "shape": shape}
    )
    for block in blocks:
        pixels = _stacked(block)
        file.write(pixels.data)
        sums.append(sha256(pixels.data).digest())
        digests += [image.digest for image in block]
    contents = b"".join(digests)
    file.write(contents + _checksum(name, sums, contents))


def read(path: Path, shape: tuple[int, ...]) -> Stored:
    """The images in a file; their pixels are mapped, and may be changed in memory only.

    Args:
        path: The file.
        shape: (N, C, S, S)

    Returns:
        The images, verified.

    Raises:
        ValueError: They are not what was written there; the message goes on from "the cached images".
    """
    if not path.is_file():  # opening a pipe would wait for ever
        raise ValueError("were damaged")
    count = shape[0]
    with path.open("rb") as file:
        start = _start(file, shape)
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
    return Stored(pixels, _array(contents))


def _start(file: BinaryIO, shape: tuple[int, ...]) -> int:
    """Where the pixels begin."""
    try:
        np.lib.format.read_magic(file)
        found = np.lib.format.read_array_header_1_0(file)
    except (
        Exception
    ):  # numpy evaluates the header as a literal of Python, which may fail in many ways
        found = None
    if found != (shape, False, np.dtype(np.uint8)):
        raise ValueError("were damaged")
    return file.tell()


def _checksum(name: str, sums: Sequence[bytes], contents: bytes) -> bytes:
    return sha256(b"\n".join([name.encode(), *sums, contents])).digest()


def _stacked(images: Sequence[Decoded]) -> np.ndarray:
    return np.ascontiguousarray(
        np.stack([image.pixels for image in images])
    )  # numpy keeps the order of the axes in memory otherwise


def _array(digests: bytes) -> np.ndarray:
    return np.frombuffer(digests, np.uint8).reshape(-1, DIGEST)
