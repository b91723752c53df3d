"""One image file to a square of bytes: every mode, every size, one rule."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TypeVar

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

S = TypeVar("S")
T = TypeVar("T")
GREY = {"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N"}
"""Pillow modes with one channel of light; palettes count as colour."""

RULE = 1
"""Number of the rules below: raised when a change of them changes pixels, so that old cache files are not read."""


def read(where: str, opened: Callable[[], AbstractContextManager[S]], what: Callable[[S], T]) -> T:
    """``what`` of an image, or of its file, while it is open; ValueError names ``where`` it lies if it cannot be read."""
    try:
        with opened() as image:
            return what(image)
    except UnidentifiedImageError:
        raise ValueError(f"cannot read the image {where}: it is of no kind that Pillow knows") from None
    except Exception as error:  # Pillow's plugins raise whatever they like on a damaged file
        raise ValueError(f"cannot read the image {where}: {error}") from error


def decode(image: Image.Image, channels: int, side: int) -> np.ndarray:
    """An opened image -> uint8 (C, side, side): upright (EXIF), short side resized to ``side``, centre cropped.

    Alpha is composited on white, 16 bits keep their high byte. Raises whatever Pillow raises on a damaged file.
    """
    # A JPEG decoder can halve a photo for free; twice the target keeps what the resize needs.
    image.draft(image.mode, (2 * side, 2 * side))
    upright = ImageOps.exif_transpose(image)
    square = ImageOps.fit(_plain(upright, "L" if channels == 1 else "RGB"), (side, side), Image.Resampling.BILINEAR)
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
