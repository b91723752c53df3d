"""Which files are images, by the endings of their names; and which of them need a library that is not part of the installation."""

from __future__ import annotations

import os
from functools import cache
from importlib.util import find_spec

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
"""Ending -> format that `EXTRA` reads."""
EXTRA = "photos"
LATER = {".jfif", ".pjpeg", ".pjp"}
"""Endings that earlier versions passed over."""


def ending(name: str) -> str:
    """The ending of a file's name in lower case, with its dot; empty where there is none, or the file is hidden."""
    name = os.path.basename(name)
    return "" if name.startswith(".") else os.path.splitext(name)[1].lower()


def is_image(name: str) -> bool:
    """Says whether a file is an image by its name."""
    return ending(name) in READ or ending(name) in BY_EXTRA


def lacking(name: str) -> str | None:
    """Why an image of that name cannot be read by this installation, and the way out; None where it can."""
    kind = BY_EXTRA.get(ending(name))
    return (
        None
        if kind is None or _is_read(kind)
        else f"{kind} is read by an extra: pip install 'archgrad[{EXTRA}]', or convert it to JPEG"
    )


def kind_of(name: str) -> str:
    """What a file that is no image is called in a list of such files."""
    if os.path.basename(name).startswith("."):
        return "hidden"
    return ending(name) or "without an ending"


@cache
def register() -> None:
    """Makes Pillow read HEIC where the extra is installed."""
    if find_spec("pillow_heif"):
        from pillow_heif import register_heif_opener

        register_heif_opener()


@cache
def _is_read(kind: str) -> bool:
    if kind == "HEIC":
        return find_spec("pillow_heif") is not None
    from PIL import features

    return bool(features.check("avif"))
