"""Decode each image once, into a file for each split that later runs map into memory."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from statistics import median
from typing import Annotated, Any, BinaryIO, NamedTuple, TypeVar

from pydantic import Field, TypeAdapter
from rich.markup import escape
from rich.progress import track

from archgrad import terminal
from archgrad.cost import process_memory
from archgrad.data import pixel_files
from archgrad.data.decode import GREY, RULE, BadImage, decode, opened, read
from archgrad.data.pixel_files import Decoded, Stored
from archgrad.data.source import Source
from archgrad.storage import files
from archgrad.storage.cache_folder import ReadOnly, check_owner, draft
from archgrad.terminal import Say

T = TypeVar("T")


class Facts(NamedTuple):
    """Facts from the headers of a source's images.

    Attributes:
        grey: Whether all images are grey.
        side: Median of the short sides in pixels.
    """

    grey: bool
    side: Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Bad(NamedTuple):
    """Indices of the images of a source that cannot be read."""

    images: list[Annotated[int, Field(ge=0)]]


class Unreadable(ValueError):
    """All images of a source that cannot be read: index -> error."""

    def __init__(self, images: Mapping[int, BadImage]) -> None:
        super().__init__(f"{len(images):,} images cannot be read")
        self.images = dict(sorted(images.items()))


def read_facts(source: Source, cache: Path, report: Say) -> Facts:
    """Return facts from the headers of all images, which are read once and cached.

    Images without a readable header are ignored here; `pixels` names them.

    Args:
        source: The images.
        cache: Folder of the cache.
        report: Function that prints a line on a damaged cache file, which is written anew.
    """
    file = _cache_file(source, cache, "headers", "json")
    if file is not None and file.exists():
        try:
            return Facts(**_read_checked(file, Facts))
        except ValueError:
            report(f"the cached facts about {source.name} were damaged: the images are read again")
    bad: dict[int, BadImage] = {}
    headers = [
        header
        for block in _apply_in_blocks(source, "reading headers of", _read_header, bad)
        for header in block
    ]
    if not headers:
        return Facts(grey=True, side=1.0)  # `pixels` will name them
    found = Facts(all(grey for grey, _ in headers), float(median(side for _, side in headers)))
    if file is not None and not bad:
        _write_checked(file, found)
    return found


def recorded_bad(source: Source, cache: Path) -> list[int]:
    """Return the images that `record_bad` recorded; an empty list if one can be read again."""
    file = _cache_file(source, cache, "unreadable", "json")
    if file is None or not file.exists():
        return []
    with suppress(ValueError):  # a damaged file
        known: list[int] = _read_checked(file, Bad)["images"]
        if known and max(known) < len(source) and all(unreadable(source, index) for index in known):
            return known
    return []


def record_bad(source: Source, images: Collection[int], cache: Path) -> None:
    """Record which images cannot be read, so that later runs need not search for them."""
    file = _cache_file(source, cache, "unreadable", "json")
    if file is not None:
        _write_checked(file, Bad(sorted(images)))


def unreadable(source: Source, index: int) -> BadImage | None:
    """Return the reason why an image cannot be read; None if it can be read."""
    try:
        read(source.where(index), partial(source.open, index), partial(_decode_file, 3, 8))
    except BadImage as error:
        return error
    return None


def unreadable_list(source: Source, cache: Path) -> Path | None:
    """Return the text file of unreadable images; None for a source that is not cached."""
    return _cache_file(source, cache, "unreadable", "txt")


def pixels(source: Source, channels: int, side: int, cache: Path, report: Say) -> Stored:
    """Return all images of a source, decoded.

    They are mapped from the cache file, which is written first where it is missing or damaged.

    Args:
        source: The images.
        channels: 1 for grey, 3 for RGB.
        side: Side in pixels.
        cache: Folder of the cache.
        report: Function that prints a line on a damaged or read-only cache.

    Returns:
        Pixels (N, C, side, side), uint8, and the digests of the files.

    Raises:
        Unreadable: Some images cannot be read; all of them are named.
        ValueError: The cache cannot be written, or has too little space.
    """
    shape = (len(source), channels, side, side)
    file = _cache_file(source, cache, f"{channels}x{side}", "npy")
    decoded = partial(_apply_to_all, source, "decoding", partial(_decode_file, channels, side))
    if file is None:
        return pixel_files.gathered(decoded())
    if file.exists():
        try:
            return pixel_files.read(file, shape)
        except ValueError as error:
            report(f"the cached images of {source.name} {error}: they are decoded again")
    try:
        _check_room(cache, math.prod(shape))
        with draft(file) as out:
            pixel_files.write(out, file.name, shape, decoded())
    except ReadOnly as error:
        memory, needed = (
            process_memory.available_bytes(),
            2 * math.prod(shape),
        )  # the images, and a copy while stacking
        if memory is not None and needed > memory - process_memory.used_bytes():
            raise
        report(
            f"{str(error).partition(';')[0]}: "
            f"the images of {source.name} are decoded into memory, in each run anew"
        )
        return pixel_files.gathered(decoded())
    return pixel_files.read(file, shape)


def _read_header(file: BinaryIO) -> tuple[bool, int]:
    with opened(file) as image:
        return image.mode in GREY, min(image.size)


def _decode_file(channels: int, side: int, file: BinaryIO) -> Decoded:
    content = file.read()
    with opened(io.BytesIO(content)) as image:
        return Decoded(decode(image, channels, side), hashlib.sha256(content).digest())


def _read_checked(file: Path, kind: type[NamedTuple]) -> dict[str, Any]:
    """Return the fields of a file that `_write_checked` wrote; raise a ValueError for damage."""
    found = files.read_json(file, *kind._fields, "checksum")
    checksum = found.pop("checksum")
    known = TypeAdapter(kind).validate_python(found, strict=True)
    if checksum != _checksum(file, known):
        raise ValueError("were damaged")
    return known._asdict()


def _write_checked(file: Path, found: NamedTuple) -> None:
    """Write a file for `_read_checked`; skip it in a read-only cache: it only saves time."""
    with suppress(ReadOnly), draft(file) as out:
        out.write(json.dumps({**found._asdict(), "checksum": _checksum(file, found)}).encode())


def _checksum(file: Path, found: NamedTuple) -> str:
    return hashlib.sha256(f"{file.name} {found}".encode()).hexdigest()


def _apply_to_all(
    source: Source, doing: str, function: Callable[[BinaryIO], T]
) -> Iterator[list[T]]:
    """Yield ``function`` of all images in blocks; raise `Unreadable` in the end for bad images."""
    bad: dict[int, BadImage] = {}
    yield from (block for block in _apply_in_blocks(source, doing, function, bad) if not bad)
    if bad:
        raise Unreadable(bad)


def _apply_in_blocks(
    source: Source, doing: str, function: Callable[[BinaryIO], T], bad: dict[int, BadImage]
) -> Iterator[list[T]]:
    """Yield ``function`` of all images in blocks; put unreadable images into ``bad`` instead."""

    def block(start: int) -> list[T]:
        found = []
        for index in range(start, min(start + pixel_files.BLOCK, len(source))):
            try:
                found.append(read(source.where(index), partial(source.open, index), function))
            except BadImage as error:
                bad[index] = error
        return found

    console = terminal.console(stderr=True)
    quiet = not console.is_terminal or len(source) < 2000
    starts = range(0, len(source), pixel_files.BLOCK)
    # Threads, not processes: decoding and resizing release the interpreter lock without pickling.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        done = pool.map(block, starts)
        title = escape(terminal.escape_controls(f"{doing} {source.name}"))
        yield from track(
            done, title, total=len(starts), console=console, transient=True, disable=quiet
        )


def _cache_file(source: Source, cache: Path, name: str, suffix: str) -> Path | None:
    if source.key is None:
        return None
    key = hashlib.sha256(f"{RULE} {source.key}".encode()).hexdigest()[:20]
    return check_owner(cache) / f"{key}-{name}.{suffix}"


def _check_room(folder: Path, needed: int) -> None:
    """Check the free space before hours of decoding, not after them."""
    parent = next(
        parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists()
    )
    free = shutil.disk_usage(parent).free
    if needed > free:
        raise ValueError(
            f"the decoded images take {needed / 2**30:.1f} GiB, "
            f"{folder} has {free / 2**30:.1f} GiB free: choose another --data.cache"
        )
