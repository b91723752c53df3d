"""Turn an image file into the input of a network, exactly as training did."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from archgrad.data.decode import decode, opened, read
from archgrad.storage import files

LARGE = 96
"""Side in pixels from which images are photos: they have the ImageNet stem, random resized crops,
and a margin around the centre crop."""


def stem_for(size: int, stems: Collection[str] = ("cifar", "imagenet")) -> str:
    """Return the name of the stem for images of a side.

    Args:
        size: Side in pixels.
        stems: Stems of the space.

    Returns:
        ``"imagenet"`` from 96 pixels on, ``"small"`` from 48 on where the space has it, else
        ``"cifar"``.
    """
    if size >= LARGE:
        return "imagenet"
    return "small" if size >= LARGE // 2 and "small" in stems else "cifar"


def stored_side(size: int) -> int:
    """Return the side of stored squares for an input side: photos have a margin (256 for 224)."""
    return size if size < LARGE else round(size * 8 / 7)


@dataclass(frozen=True)
class Preprocess:
    """Conversion of images into the input of a network, and the classes of its output.

    Attributes:
        size: Side of the input in pixels.
        in_channels: Number of channels.
        mean: Mean of each channel, of values from 0 to 1.
        std: Standard deviation of each channel, of values from 0 to 1.
        classes: Names of the classes, in the order of the logits.
    """

    size: int
    in_channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: tuple[str, ...]

    def crop_and_normalise(self, pixels: Tensor) -> Tensor:
        """Crop the centre of images and normalise it.

        Args:
            pixels: uint8 (B, C, H, W), with sides of at least ``size``.

        Returns:
            float32 (B, C, size, size).
        """
        top, left = (pixels.shape[-2] - self.size) // 2, (pixels.shape[-1] - self.size) // 2
        return self.normalise(pixels[..., top : top + self.size, left : left + self.size])

    def normalise(self, pixels: Tensor) -> Tensor:
        """Return (x / 255 - mean) / std of pixels (B, C, H, W) as float32, channels_last."""
        mean, std = (
            torch.tensor(values, device=pixels.device)[:, None, None] * 255
            for values in (self.mean, self.std)
        )
        # Memory format last: arithmetic over three adjacent channels is ten times as slow.
        return pixels.float().sub_(mean).div_(std).contiguous(memory_format=torch.channels_last)

    def read_files(self, paths: Sequence[str | Path]) -> Tensor:
        """Read image files.

        Args:
            paths: The files.

        Returns:
            uint8 (N, C, S, S), the input of `crop_and_normalise`.

        Raises:
            ValueError: A file cannot be read, or there is none.
        """
        if not paths:
            raise ValueError("no image files given")
        return torch.from_numpy(
            np.stack(
                [
                    read(str(path), partial(files.open_regular, Path(path)), self._decode)
                    for path in paths
                ]
            )
        )

    def _decode(self, file: BinaryIO) -> np.ndarray:
        with opened(file) as image:
            return decode(image, self.in_channels, stored_side(self.size))

    def to_json(self) -> dict[str, Any]:
        """Return the fields as lists and numbers, as `json` reads them."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Preprocess:
        """Return the object that `to_json` wrote."""
        return cls(
            size=int(data["size"]),
            in_channels=int(data["in_channels"]),
            mean=tuple(data["mean"]),
            std=tuple(data["std"]),
            classes=tuple(data["classes"]),
        )
