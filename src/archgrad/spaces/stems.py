"""The stems and the auxiliary head of DARTS networks. Their BatchNorms are affine."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from archgrad.spaces.primitives import Conv, Style

AFFINE = Style(affine=True)


class CifarStem(nn.Module):
    """A 3x3 convolution to 3 * channels, whose output is both inputs of the first cell."""

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        self.conv = Conv(inputs, 3 * channels, 3, 1, AFFINE)
        self.channels = (3 * channels, 3 * channels)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return twice (B, 3 * channels, H, W) for images (B, C, H, W)."""
        x = self.conv(images)
        return x, x


class ImageNetStem(nn.Module):
    """Three 3x3 convolutions of stride 2; the first cell reads 1/4 and 1/8 of the image size."""

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        self.conv1 = Conv(inputs, channels // 2, 3, 2, AFFINE)
        self.conv2 = Conv(channels // 2, channels, 3, 2, AFFINE)
        self.conv3 = Conv(channels, channels, 3, 2, AFFINE)
        self.channels = (channels, channels)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return (B, channels, H / 4, W / 4) and (B, channels, H / 8, W / 8) for images."""
        first = self.conv2(F.relu(self.conv1(images)))
        return first, self.conv3(F.relu(first))


class Auxiliary(nn.Module):
    """The auxiliary head of DARTS: a pool to 2x2 pixels, 128 channels, 768 channels, the classes.

    The head for ImageNet has stride 2, and no BatchNorm behind the 768 channels unless `normalise`
    adds it. The pool adapts to any size. For feature maps of 8x8 (CIFAR, 32 pixels) and 7x7
    (ImageNet, 224 pixels) it equals that of the official code.
    """

    def __init__(self, inputs: int, classes: int, stem: str) -> None:
        super().__init__()
        self.stride = 3 if stem == "cifar" else 2
        self.conv1 = nn.Conv2d(inputs, 128, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(128)
        self.conv2 = nn.Conv2d(128, 768, 2, bias=False)
        self.bn2 = nn.BatchNorm2d(768) if stem == "cifar" else nn.Identity()
        self.classifier = nn.Linear(768, classes)

    def normalise(self) -> None:
        """Add a BatchNorm behind the 768 channels, as in the ImageNet head of P-DARTS's code.

        The head for CIFAR already has one.
        """
        self.bn2 = nn.BatchNorm2d(768)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, classes) for x (B, inputs, H, W)."""
        window = (min(5, x.shape[2]), min(5, x.shape[3]))
        x = F.adaptive_avg_pool2d(F.avg_pool2d(F.relu(x), window, self.stride), 2)
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        logits: Tensor = self.classifier(x.flatten(1))
        return logits
