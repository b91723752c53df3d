"""Every image is decoded once, into one file of bytes per split that later runs map into memory."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median
from typing import Annotated, Any, BinaryIO, NamedTuple, TypeVar

from PIL import Image
from pydantic import Field, TypeAdapter
from rich.markup import escape
from rich.progress import track

from archgrad import files, terminal
from archgrad.data import stored
from archgrad.data.cache_folder import checked, draft
from archgrad.data.decode import GREY, RULE, decode, read
from archgrad.data.sources import Source
from archgrad.data.stored import Decoded, Stored

T = TypeVar("T")
Say = Callable[[str], Any]


class Facts(NamedTuple):
    """What the headers of a source say: is every image grey, and the median of their short sides in pixels."""

    grey: bool
    side: Annotated[float, Field(gt=0, allow_inf_nan=False)]


def facts(source: Source, cache: Path, report: Say) -> Facts:
    """Read from the header of every image, once. ``report`` hears of a damaged file, which is written anew."""
    file = _file(source, cache, "headers", "json")
    if file is not None and file.exists():
        try:
            return _read_facts(file)
        except ValueError:
            report(f"the cached facts about {source.name} were damaged: the images are looked at again")
    headers = [header for chunk in _each(source, "looking at", _header) for header in chunk]
    found = Facts(all(grey for grey, _ in headers), float(median(side for _, side in headers)))
    if file is not None:
        with draft(file) as out:
            out.write(json.dumps({**found._asdict(), "checksum": _checksum(file, found)}).encode())
    return found


def pixels(source: Source, channels: int, side: int, cache: Path, report: Say) -> Stored:
    """Every image as uint8 (C, side, side): mapped from the cache file, which is written first if it is not there, or not what was written."""
    shape = (len(source), channels, side, side)
    file = _file(source, cache, f"{channels}x{side}", "npy")
    decoded = partial(_each, source, "decoding", partial(_decoded, channels, side))
    if file is None:
        return stored.gathered(decoded())
    if file.exists():
        try:
            return stored.read(file, shape)
        except ValueError as error:
            report(f"the cached images of {source.name} {error}: they are decoded again")
    _check_room(cache, math.prod(shape))
    with draft(file) as out:
        stored.write(out, file.name, shape, decoded())
    return stored.read(file, shape)


def _header(file: BinaryIO) -> tuple[bool, int]:
    with Image.open(file) as image:
        return image.mode in GREY, min(image.size)


def _decoded(channels: int, side: int, file: BinaryIO) -> Decoded:
    content = file.read()
    with Image.open(io.BytesIO(content)) as image:
        return Decoded(decode(image, channels, side), hashlib.sha256(content).digest())


def _read_facts(file: Path) -> Facts:
    found = files.read_json(file, *Facts._fields, "checksum")
    checksum = found.pop("checksum")
    known = TypeAdapter(Facts).validate_python(found, strict=True)
    if checksum != _checksum(file, known):
        raise ValueError("were damaged")
    return known


def _checksum(file: Path, found: Facts) -> str:
    return hashlib.sha256(f"{file.name} {found}".encode()).hexdigest()


def _each(source: Source, doing: str, what: Callable[[BinaryIO], T]) -> Iterator[list[T]]:
    """``what`` of every image, in order, in blocks; ValueError names an image that cannot be read."""

    def block(start: int) -> list[T]:
        indices = range(start, min(start + stored.BLOCK, len(source)))
        return [read(source.where(index), partial(source.open, index), what) for index in indices]

    console = terminal.console(stderr=True)
    quiet = not console.is_terminal or len(source) < 2000
    starts = range(0, len(source), stored.BLOCK)
    # Threads, not processes: decoding and resizing of photos release the interpreter lock, and nothing has to be pickled.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        done = pool.map(block, starts)
        title = escape(terminal.visible(f"{doing} {source.name}"))
        yield from track(done, title, total=len(starts), console=console, transient=True, disable=quiet)


def _file(source: Source, cache: Path, what: str, suffix: str) -> Path | None:
    if source.key is None:
        return None
    key = hashlib.sha256(f"{RULE} {source.key}".encode()).hexdigest()[:20]
    return checked(cache) / f"{key}-{what}.{suffix}"


def _check_room(folder: Path, needed: int) -> None:
    """ValueError before hours of decoding, not after them."""
    parent = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(parent).free
    if needed > free:
        raise ValueError(
            f"the decoded images take {needed / 2**30:.1f} GiB, {folder} has {free / 2**30:.1f} GiB free: choose another --data.cache"
        )
