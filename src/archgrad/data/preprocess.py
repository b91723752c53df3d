"""From a file to what a network of this run reads: all that a fresh process needs to treat an image as training did."""

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
"""From this side on images are photos: ImageNet stem, random-resized crops, and a margin around the centre crop."""


def stem_for(size: int, stems: Collection[str] = ("cifar", "imagenet")) -> str:
    """Of a space's ``stems``: ``"imagenet"`` from 96 pixels on, ``"small"`` from 48 on where there is one, else ``"cifar"``."""
    if size >= LARGE:
        return "imagenet"
    return "small" if size >= LARGE // 2 and "small" in stems else "cifar"


def stored_side(size: int) -> int:
    """Side of the squares kept for networks of ``size``: photos keep the usual margin (256 for 224), small images none."""
    return size if size < LARGE else round(size * 8 / 7)


@dataclass(frozen=True)
class Preprocess:
    """Size and channels of the images, statistics per channel in [0, 1], and the class names in the order of the logits."""

    size: int
    in_channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: tuple[str, ...]

    def images(self, pixels: Tensor) -> Tensor:
        """uint8 (B, C, H, W), at least ``size`` wide -> normalised float (B, C, size, size): the centre crop."""
        top, left = (pixels.shape[-2] - self.size) // 2, (pixels.shape[-1] - self.size) // 2
        return self.normalised(pixels[..., top : top + self.size, left : left + self.size])

    def normalised(self, pixels: Tensor) -> Tensor:
        """Values 0..255 (B, C, H, W) -> (x / 255 - mean) / std, float32, channels last in memory."""
        mean, std = (
            torch.tensor(values, device=pixels.device)[:, None, None] * 255
            for values in (self.mean, self.std)
        )
        # in this order: arithmetic over three adjacent channels is ten times as slow as over rows
        return pixels.float().sub_(mean).div_(std).contiguous(memory_format=torch.channels_last)

    def files(self, paths: Sequence[str | Path]) -> Tensor:
        """Image files -> uint8 (N, C, S, S), as `images` takes them; ValueError names a file that cannot be read."""
        if not paths:
            raise ValueError("no image files given")
        return torch.from_numpy(
            np.stack(
                [read(str(path), partial(files.opened, Path(path)), self._decode) for path in paths]
            )
        )

    def _decode(self, file: BinaryIO) -> np.ndarray:
        with opened(file) as image:
            return decode(image, self.in_channels, stored_side(self.size))

    def to_json(self) -> dict[str, Any]:
        """Plain lists and numbers, as json reads them back."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Preprocess:
        """Inverse of `to_json`."""
        return cls(
            size=int(data["size"]),
            in_channels=int(data["in_channels"]),
            mean=tuple(data["mean"]),
            std=tuple(data["std"]),
            classes=tuple(data["classes"]),
        )
