"""One image file to a square of bytes: every mode, every size, one rule."""

from __future__ import annotations

import errno
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import BinaryIO, TypeVar

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from archgrad.data import formats

S = TypeVar("S")
T = TypeVar("T")
GREY = {"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N"}
"""Pillow modes with one channel of light; palettes count as colour."""

FAULTS = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.ESTALE}
"""Of the machine: they say nothing of the image that was to be read."""

RULE = 1
"""Number of the rules below: raised when a change of them changes pixels, so that old cache files are not read."""


class BadImage(ValueError):
    """An image that cannot be read: where it lies, and why."""

    def __init__(self, where: str, why: str) -> None:
        super().__init__(f"cannot read the image {where}: {why}")
        self.where, self.why = where, why


def read(where: str, opened: Callable[[], AbstractContextManager[S]], what: Callable[[S], T]) -> T:
    """``what`` of an image, or of its file, while it is open; `BadImage` if it cannot be read, another ValueError where the machine failed."""
    try:
        with opened() as image:
            return what(image)
    except UnidentifiedImageError:
        raise BadImage(
            where, formats.lacking(where) or "it is of no kind that Pillow knows"
        ) from None
    except Exception as error:  # Pillow's plugins raise whatever they like on a damaged file
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in FAULTS):
            raise ValueError(f"cannot read the image {where}: {error}") from error
        raise BadImage(where, str(error)) from error


def opened(file: BinaryIO) -> Image.Image:
    """An image of any format that is installed."""
    formats.register()
    return Image.open(file)


def decode(image: Image.Image, channels: int, side: int) -> np.ndarray:
    """An opened image -> uint8 (C, side, side): upright (EXIF), short side resized to ``side``, centre cropped.

    Alpha is composited on white, 16 bits keep their high byte. Raises whatever Pillow raises on a damaged file.
    """
    # A JPEG decoder can halve a photo for free; twice the target keeps what the resize needs.
    image.draft(image.mode, (2 * side, 2 * side))
    upright = ImageOps.exif_transpose(image)
    square = ImageOps.fit(
        _plain(upright, "L" if channels == 1 else "RGB"), (side, side), Image.Resampling.BILINEAR
    )
    pixels = np.asarray(square)
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


def _plain(image: Image.Image, mode: str) -> Image.Image:
    if image.mode.startswith("I"):
        high = np.asarray(image).astype(np.int64) >> 8
        return Image.fromarray(high.clip(0, 255).astype(np.uint8)).convert(mode)
    if image.mode == "F":
        raise ValueError("floating-point pixels have no fixed range: save it with 8 or 16 bits")
    if image.mode in {"RGBA", "RGBa", "LA", "La", "PA"} or "transparency" in image.info:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image.convert(mode)
