"""Decode an image file of any mode and size into a square of bytes."""

from __future__ import annotations

import errno
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import BinaryIO, TypeVar

import numpy as np

from archgrad import extras
from archgrad.data import formats

with extras.named():
    from PIL import Image, ImageOps, UnidentifiedImageError

S = TypeVar("S")
T = TypeVar("T")
GREY = {"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N"}
"""Pillow modes with one channel of brightness; palettes count as colour."""

FAULTS = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.ESTALE}
"""Error numbers of the machine, which do not mean that the image is damaged."""

RULE = 1
"""Version of the decoding. A change that alters pixels raises it, so that old cache files are not
read."""


class BadImage(ValueError):
    """An image that cannot be read.

    Attributes:
        place: Place of the image.
        reason: Reason.
    """

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(f"cannot read the image {place}: {reason}")
        self.place, self.reason = place, reason


def read(where: str, opened: Callable[[], AbstractContextManager[S]], what: Callable[[S], T]) -> T:
    """Apply a function to an open image or image file.

    Args:
        where: Place of the image, for messages.
        opened: Function that opens it.
        what: Function of the open image or file.

    Returns:
        The result of ``what``.

    Raises:
        BadImage: The image cannot be read.
        ValueError: The machine failed, for example because it has no memory left.
    """
    try:
        with opened() as image:
            return what(image)
    except UnidentifiedImageError:
        raise BadImage(
            where, formats.missing_reader(where) or "Pillow does not support its format"
        ) from None
    except Exception as error:  # for a damaged file Pillow's plugins raise any type
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in FAULTS):
            raise ValueError(f"cannot read the image {where}: {error}") from error
        raise BadImage(where, str(error)) from error


def opened(file: BinaryIO) -> Image.Image:
    """Open an image of any installed format."""
    formats.register_heic()
    return Image.open(file)


def decode(image: Image.Image, channels: int, side: int) -> np.ndarray:
    """Return an open image as a square of bytes.

    The image is turned upright (EXIF), its short side is resized to ``side``, and the centre is
    cropped. Transparency is composited on white, and of 16 bits the high byte is kept.

    Args:
        image: An open image.
        channels: 1 for grey, 3 for RGB.
        side: Side of the square in pixels.

    Returns:
        uint8 (C, side, side).

    Raises:
        Exception: Pillow raises any type for a damaged file.
    """
    # A JPEG decoder can halve a photo at no cost; twice the side leaves enough for the resize.
    image.draft(image.mode, (2 * side, 2 * side))
    upright = ImageOps.exif_transpose(image)
    square = ImageOps.fit(
        _to_mode(upright, "L" if channels == 1 else "RGB"), (side, side), Image.Resampling.BILINEAR
    )
    pixels = np.asarray(square)
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


def _to_mode(image: Image.Image, mode: str) -> Image.Image:
    if image.mode.startswith("I"):
        high = np.asarray(image).astype(np.int64) >> 8
        return Image.fromarray(high.clip(0, 255).astype(np.uint8)).convert(mode)
    if image.mode == "F":
        raise ValueError("floating-point pixels have no fixed range: save it with 8 or 16 bits")
    if image.mode in {"RGBA", "RGBa", "LA", "La", "PA"} or "transparency" in image.info:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image.convert(mode)
