"""Recognise image files by the endings of their names, and formats that need another library."""

from __future__ import annotations

import os
from functools import cache
from importlib.util import find_spec

from archgrad import extras

JPEG = {".jpg", ".jpeg", ".jpe", ".jfif", ".pjpeg", ".pjp"}
READ = JPEG | {
    ".png",
    ".bmp",
    ".gif",
    ".webp",
    ".tif",
    ".tiff",
    ".ppm",
    ".pgm",
    ".pbm",
    ".pnm",
    ".jp2",
}
BY_EXTRA = {".heic": "HEIC", ".heif": "HEIC", ".hif": "HEIC", ".avif": "AVIF"}
"""Ending -> format that needs the extra `EXTRA`."""
EXTRA = "photos"
"""Extra of the package that reads the formats of `BY_EXTRA`."""
LATER = {".jfif", ".pjpeg", ".pjp"}
"""Endings of images that earlier versions ignored."""


def ending(name: str) -> str:
    """Return the ending of a file's name in lower case, with its dot; empty for a hidden file."""
    name = os.path.basename(name)
    return "" if name.startswith(".") else os.path.splitext(name)[1].lower()


def is_image(name: str) -> bool:
    """Return whether a file's name is that of an image.

    >>> is_image("cat.JPG"), is_image(".hidden.jpg"), is_image("labels.csv")
    (True, False, False)
    """
    return ending(name) in READ or ending(name) in BY_EXTRA


def missing_reader(name: str) -> str | None:
    """Return the reason why this installation cannot read a format, with advice; None if it can."""
    kind = BY_EXTRA.get(ending(name))
    if kind is None or _is_supported(kind):
        return None
    return f"{kind} is read by an extra: pip install 'archgrad[{EXTRA}]', or convert it to JPEG"


def kind_of(name: str) -> str:
    """Return the kind of a file that is no image: an ending, ``hidden``, ``without an ending``."""
    if os.path.basename(name).startswith("."):
        return "hidden"
    return ending(name) or "without an ending"


@cache
def register_heic() -> None:
    """Enable HEIC in Pillow where the extra is installed."""
    if find_spec("pillow_heif"):
        from pillow_heif import register_heif_opener

        register_heif_opener()


@cache
def _is_supported(kind: str) -> bool:
    if kind == "HEIC":
        return find_spec("pillow_heif") is not None
    with extras.named():
        from PIL import features

    return bool(features.check("avif"))
