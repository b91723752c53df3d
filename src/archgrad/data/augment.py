"""Augmentation of a whole batch at once, on the device.

Our draws are made on the CPU, so that every device sees the same batch. Crop, flip and cutout are one gather and one mask, exact, and
three times as fast as kornia's modules; kornia does what has to interpolate or change colours.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from archgrad.data.preprocess import Preprocess
from archgrad.seeds import forked, generator


@dataclass(frozen=True)
class Augment:
    """What is done to a training batch. The padding is black, as in the field's recipes; cutout comes after normalisation."""

    padding: int = 0  # pixels of black around the image before a crop of its own size
    resized: bool = (
        False  # a crop of 8 to 100 % of the area, aspect 3/4 to 4/3, resized: for photos
    )
    flip: bool = True
    cutout: int = 0  # side of the erased square, in pixels
    jitter: float = (
        0.0  # strength of the change in brightness, contrast and saturation (half of it in hue)
    )

    def __call__(self, pixels: Tensor, preprocess: Preprocess, *place: object) -> Tensor:
        """uint8 (B, C, H, W) -> normalised float (B, C, size, size); all draws are a function of ``place``."""
        rng = generator(*place)
        pixels = padded_crop(pixels, self.padding, self.flip, rng)
        if self.resized or self.jitter:
            pixels = photographic(pixels, preprocess.size, self.resized, self.jitter, *place)
        images = preprocess.normalised(pixels)
        return cutout(images, self.cutout, rng) if self.cutout else images


def padded_crop(pixels: Tensor, padding: int, flip: bool, rng: Generator) -> Tensor:
    """uint8 (B, C, H, W) -> the same shape: padded by zeros, cropped at random and flipped by a fair coin, each sample by itself.

    One gather does it: a flip is a crop whose columns are read backwards.
    """
    B, C, H, W = pixels.shape
    top, left = torch.randint(0, 2 * padding + 1, (2, B, 1), generator=rng)
    mirrored = (torch.rand(B, 1, generator=rng) < 0.5) & flip
    rows = top + torch.arange(H)
    columns = left + torch.where(mirrored, torch.arange(W).flip(0), torch.arange(W))
    places = (
        (rows[:, :, None] * (W + 2 * padding) + columns[:, None, :])
        .view(B, 1, H * W)
        .to(pixels.device)
    )
    return (
        F.pad(pixels, [padding] * 4).flatten(2).gather(2, places.expand(-1, C, -1)).view(B, C, H, W)
    )


def photographic(pixels: Tensor, size: int, resized: bool, jitter: float, *place: object) -> Tensor:
    """Values 0..255 (B, C, H, W) -> float, 0..255, (B, C, size, size): kornia's random-resized crop and colour jitter."""
    import kornia.augmentation as K

    values = pixels.float() / 255
    with forked(*place, "photographic", device=pixels.device):
        if resized:
            values = K.RandomResizedCrop((size, size), scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3))(
                values
            )
        if jitter:
            values = K.ColorJitter(jitter, jitter, jitter, jitter / 2)(values)
    return values * 255


def cutout(images: Tensor, side: int, rng: Generator) -> Tensor:
    """Images (B, C, H, W) with a square of ``side`` pixels set to 0, its centre anywhere, clipped at the border.

    Cutout, https://arxiv.org/abs/1708.04552.
    """
    B, _, H, W = images.shape
    y, x = torch.randint(0, H, (B, 1), generator=rng), torch.randint(0, W, (B, 1), generator=rng)
    rows, columns = _within(y, side, H), _within(x, side, W)
    return images.masked_fill(
        (rows[:, None, :, None] & columns[:, None, None, :]).to(images.device), 0.0
    )


def _within(centre: Tensor, side: int, length: int) -> Tensor:
    places = torch.arange(length)
    return (places >= centre - side // 2) & (places < centre - side // 2 + side)
