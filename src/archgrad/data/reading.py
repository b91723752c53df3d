"""The pixels of all parts of a data set, and what becomes of images that cannot be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from archgrad import errors, terminal
from archgrad.data import formats
from archgrad.data.cache import (
    Say,
    Unreadable,
    facts,
    listing,
    pixels,
    record_bad,
    recorded_bad,
    unreadable,
)
from archgrad.data.decode import BadImage
from archgrad.data.preprocess import stored_side
from archgrad.data.source import Source
from archgrad.data.stored import Stored
from archgrad.storage.cache_folder import draft

SKIP = "--data.skip-unreadable"
"""The flag by which a search and a retraining leave out images that cannot be read."""


class Pixels(NamedTuple):
    """What was read, and how."""

    sources: list[Source]  # without the images that cannot be read
    stores: list[Stored]
    size: int  # the side that networks see
    channels: int
    side: float  # the median short side of the training images, in pixels
    left_out: list[BadImage]


class _Several(Exception):
    """What cannot be read of each source."""

    def __init__(self, parts: list[dict[int, BadImage]]) -> None:
        self.parts = parts


def read_parts(
    sources: Sequence[Source],
    size: int | None,
    cache: Path,
    report: Say,
    *,
    channels: int | None = None,
    skip: bool = False,
    flag: str = SKIP,
) -> Pixels:
    """Decodes the images of all sources alike.

    Args:
        sources: The training images first.
        size: The side that networks see; None is to be decided by the images.
        cache: Where decoded images are kept.
        report: Hears of damaged files of the cache.
        channels: Of the images as they are read; None is to be decided by the images.
        skip: Images that cannot be read are left out, and the cache knows them from then on.
        flag: Of the command that leaves them out, for messages; empty where the command has none.

    Returns:
        The pixels.

    Raises:
        ValueError: Images cannot be read and are not left out, or a source has no other; a list in the cache names all of them.
    """
    if not skip:
        check_formats(sources, flag)
    left_out = [recorded_bad(source, cache) if skip else [] for source in sources]
    while True:
        kept = [source.without(indices) for source, indices in zip(sources, left_out)]
        for source, rest in zip(sources, kept):
            if not len(rest):
                raise ValueError(
                    f"none of the {len(source):,} images of {source.name} can be read: {unreadable(source, 0)}"
                )
        try:
            found = _read(kept, size, channels, cache, report)
        except _Several as error:
            if not skip:
                raise complaint(sources, error.parts, cache, flag) from None
            for source, indices, part in zip(sources, left_out, error.parts):
                there = source.rest(indices)
                indices += [there[index] for index in part]
                record_bad(source, indices, cache)
            continue
        bad = [
            unreadable(source, index)
            for source, indices in zip(sources, left_out)
            for index in sorted(indices)
        ]
        return found._replace(left_out=[image for image in bad if image is not None])


def _read(
    sources: list[Source], size: int | None, channels: int | None, cache: Path, report: Say
) -> Pixels:
    heads = [] if size and channels else [facts(source, cache, report) for source in sources]
    side = size or sources[0].size or (32 if heads[0].side <= 48 else 64)
    channels = channels or (1 if all(head.grey for head in heads) else 3)
    stores: list[Stored] = []
    bad: list[dict[int, BadImage]] = []
    for source in sources:
        try:
            stores.append(pixels(source, channels, stored_side(side), cache, report))
            bad.append({})
        except Unreadable as error:
            bad.append(error.images)
    if any(bad):
        raise _Several(bad)
    return Pixels(sources, stores, side, channels, heads[0].side if heads else side, [])


def check_formats(sources: Sequence[Source], flag: str = SKIP) -> None:
    """ValueError where images are of a format that needs a library which is not there: before hours of decoding."""
    lacking = [
        where
        for source in sources
        for where in map(source.where, range(len(source)))
        if formats.lacking(where)
    ]
    if lacking:
        kinds = Counter(formats.lacking(where) for where in lacking)
        raise ValueError(
            f"{errors.listed(lacking)}: {'; '.join(map(str, kinds))}{_way_out(';', flag)}"
        )


def complaint(
    sources: Sequence[Source], parts: Sequence[dict[int, BadImage]], cache: Path, flag: str = SKIP
) -> ValueError:
    """All images that cannot be read, the first ones by name, and where the list of all of them is."""
    bad = [image for part in parts for image in part.values()]
    if len(bad) == 1:
        return ValueError(f"{bad[0]}; mend or remove it{_way_out(',', flag)}")
    first = [
        f"{bad[0].where} ({errors.shortened(bad[0].why, errors.NAMED)})",
        *(image.where for image in bad[1:]),
    ]
    said = f"cannot read {len(bad):,} of {sum(map(len, sources)):,} images: {errors.listed(first)}"
    with suppress(ValueError):  # a cache that cannot be written to
        if (file := listing(sources[0], cache)) is not None:
            with draft(file) as out:
                out.writelines(
                    f"{terminal.visible(f'{image.where}: {image.why}')}\n".encode() for image in bad
                )
            said += f" (all of them: {file})"
    return ValueError(f"{said}; mend or remove them{_way_out(',', flag)}")


def _way_out(mark: str, flag: str) -> str:
    return f"{mark} or leave out such images by {flag}" if flag else ""
