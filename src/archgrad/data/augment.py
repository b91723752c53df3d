"""Augment a whole batch at once, on its device.

Random numbers are drawn on the CPU, so that every device computes the same batch. Crop, flip and
cutout are one gather and one mask; they are exact and three times as fast as kornia's modules.
Kornia computes the augmentations that interpolate or change colours.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from archgrad import extras
from archgrad.data.preprocess import Preprocess
from archgrad.seeds import generator, seeded


@dataclass(frozen=True)
class Augment:
    """Augmentation of a training batch. Padding is black, and cutout follows normalisation.

    Attributes:
        padding: Pixels of black around the image, from which a crop of the image's size is taken.
        resized: Crop 8 to 100 % of the area at an aspect of 3/4 to 4/3, and resize it (for photos).
        flip: Mirror half of the images.
        cutout: Side of the erased square in pixels.
        jitter: Strength of the change in brightness, contrast and saturation; hue changes by half
            of it.
    """

    padding: int = 0
    resized: bool = False
    flip: bool = True
    cutout: int = 0
    jitter: float = 0.0

    def __call__(self, pixels: Tensor, preprocess: Preprocess, *place: object) -> Tensor:
        """Augment and normalise a batch.

        Args:
            pixels: uint8 (B, C, H, W).
            preprocess: Size of the result and statistics for the normalisation.
            place: Seed and place of the batch in the run; all draws are a function of them.

        Returns:
            float32 (B, C, size, size).
        """
        rng = generator(*place)
        pixels = padded_crop(pixels, self.padding, self.flip, rng)
        if self.resized or self.jitter:
            pixels = photographic(pixels, preprocess.size, self.resized, self.jitter, *place)
        images = preprocess.normalise(pixels)
        return cutout(images, self.cutout, rng) if self.cutout else images


def padded_crop(pixels: Tensor, padding: int, flip: bool, rng: Generator) -> Tensor:
    """Pad images with zeros, crop each at random, and flip each with probability 1/2.

    One gather does all of it: a flip is a crop whose columns are read in reverse order.

    Args:
        pixels: uint8 (B, C, H, W).
        padding: Number of zeros at each border.
        flip: Whether images are flipped.
        rng: Generator of the draws.

    Returns:
        uint8 (B, C, H, W).
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
    """Apply kornia's random resized crop and colour jitter.

    Args:
        pixels: Values from 0 to 255 (B, C, H, W).
        size: Side of the crop's result.
        resized: Whether to crop.
        jitter: Strength of the colour jitter; 0 is none.
        place: Seed and place of the batch in the run.

    Returns:
        float32 from 0 to 255 (B, C, size, size).
    """
    with extras.named():
        import kornia.augmentation as K

    values = pixels.float() / 255
    with seeded(*place, "photographic", device=pixels.device):
        if resized:
            values = K.RandomResizedCrop((size, size), scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3))(
                values
            )
        if jitter:
            values = K.ColorJitter(jitter, jitter, jitter, jitter / 2)(values)
    return values * 255


def cutout(images: Tensor, side: int, rng: Generator) -> Tensor:
    """Set a square in each image to 0 (Cutout, https://arxiv.org/abs/1708.04552).

    Args:
        images: Normalised images (B, C, H, W).
        side: Side of the square in pixels. Its centre is uniform in the image; the border clips it.
        rng: Generator of the draws.

    Returns:
        The images (B, C, H, W).
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
