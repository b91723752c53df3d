"""Decode all parts of a data set, and leave out or refuse images that cannot be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from archgrad import errors, terminal
from archgrad.data import formats
from archgrad.data.cache import (
    Unreadable,
    pixels,
    read_facts,
    record_bad,
    recorded_bad,
    unreadable,
    unreadable_list,
)
from archgrad.data.decode import BadImage
from archgrad.data.pixel_files import Stored
from archgrad.data.preprocess import stored_side
from archgrad.data.source import Source
from archgrad.storage.cache_folder import draft
from archgrad.terminal import Say

SKIP = "--data.skip-unreadable"
"""Flag of a search and a retraining that leaves out images that cannot be read."""


class Pixels(NamedTuple):
    """Decoded images of the parts of a data set.

    Attributes:
        sources: The parts, without images that cannot be read.
        stores: Pixels of each part.
        size: Side in pixels of the network's input.
        channels: Number of channels of the network's input.
        side: Median short side of the training images in pixels.
        left_out: Images that cannot be read.
    """

    sources: list[Source]
    stores: list[Stored]
    size: int
    channels: int
    side: float
    left_out: list[BadImage]


class _UnreadableParts(Exception):
    """Images of each source that cannot be read."""

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
    """Decode the images of all sources to the same size and number of channels.

    Args:
        sources: The parts of a data set, training images first.
        size: Side in pixels of the network's input. None chooses by the images.
        cache: Folder of the cache.
        report: Function that prints a line on a damaged cache file.
        channels: 1 for grey, 3 for RGB. None chooses by the images.
        skip: Leave out images that cannot be read, and record them in the cache.
        flag: Flag of the command that leaves them out, for messages; an empty text for none.

    Returns:
        The decoded images.

    Raises:
        ValueError: Images cannot be read and are not left out, or a source has no readable image.
            A list in the cache names all of them.
    """
    if not skip:
        check_formats(sources, flag)
    left_out = [recorded_bad(source, cache) if skip else [] for source in sources]
    while True:
        kept = [source.without(indices) for source, indices in zip(sources, left_out)]
        for source, rest in zip(sources, kept):
            if not len(rest):
                raise ValueError(
                    f"none of the {len(source):,} images of {source.name} can be read: "
                    f"{unreadable(source, 0)}"
                )
        try:
            found = _decode_sources(kept, size, channels, cache, report)
        except _UnreadableParts as error:
            if not skip:
                raise complaint(sources, error.parts, cache, flag) from None
            for source, indices, part in zip(sources, left_out, error.parts):
                there = source.indices_without(indices)
                indices += [there[index] for index in part]
                record_bad(source, indices, cache)
            continue
        bad = [
            unreadable(source, index)
            for source, indices in zip(sources, left_out)
            for index in sorted(indices)
        ]
        return found._replace(left_out=[image for image in bad if image is not None])


def _decode_sources(
    sources: list[Source], size: int | None, channels: int | None, cache: Path, report: Say
) -> Pixels:
    heads = [] if size and channels else [read_facts(source, cache, report) for source in sources]
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
        raise _UnreadableParts(bad)
    return Pixels(sources, stores, side, channels, heads[0].side if heads else side, [])


def check_formats(sources: Sequence[Source], flag: str = SKIP) -> None:
    """Check, before hours of decoding, that this installation reads the formats of all images.

    Raises:
        ValueError: A format needs a library that is not installed.
    """
    lacking = [
        where
        for source in sources
        for where in map(source.where, range(len(source)))
        if formats.missing_reader(where)
    ]
    if lacking:
        kinds = Counter(formats.missing_reader(where) for where in lacking)
        raise ValueError(
            f"{errors.listed(lacking)}: {'; '.join(map(str, kinds))}{_advice(';', flag)}"
        )


def complaint(
    sources: Sequence[Source], parts: Sequence[dict[int, BadImage]], cache: Path, flag: str = SKIP
) -> ValueError:
    """Return the error on unreadable images: the first names, and a file with all of them.

    Args:
        sources: The parts of a data set.
        parts: Unreadable images of each part.
        cache: Folder of the cache, in which the file is written.
        flag: Flag of the command that leaves them out, for messages; an empty text where the data
            set must stay the same.
    """
    bad = [image for part in parts for image in part.values()]
    if len(bad) == 1:
        return ValueError(f"{bad[0]}; {_remedy('it', flag)}")
    first = [
        f"{bad[0].place} ({errors.shortened(bad[0].reason, errors.NAMED)})",
        *(image.place for image in bad[1:]),
    ]
    text = f"cannot read {len(bad):,} of {sum(map(len, sources)):,} images: {errors.listed(first)}"
    with suppress(ValueError):  # the cache cannot be written
        if (file := unreadable_list(sources[0], cache)) is not None:
            with draft(file) as out:
                out.writelines(
                    f"{terminal.escape_controls(f'{image.place}: {image.reason}')}\n".encode()
                    for image in bad
                )
            text += f" (all of them: {file})"
    return ValueError(f"{text}; {_remedy('them', flag)}")


def _remedy(which: str, flag: str) -> str:
    """Return the way to go on from unreadable images."""
    if not flag:
        return f"restore {which} from a copy, because without {which} the data set is another one"
    return f"mend or remove {which}{_advice(',', flag)}"


def _advice(mark: str, flag: str) -> str:
    return f"{mark} or leave out such images by {flag}" if flag else ""
