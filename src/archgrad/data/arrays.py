"""A `Dataset` of what a script has in memory: tensors, numpy arrays, or a torch Dataset of images and labels."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from archgrad.data import fingerprint, places
from archgrad.data.dataset import Dataset, Images
from archgrad.data.decode import decode
from archgrad.data.loading import TEST_SHARE, measured
from archgrad.data.preprocess import stored_side
from archgrad.data.split import others, stratified
from archgrad.errors import shown

Pixels = np.ndarray[Any, np.dtype[np.uint8]]


def dataset(
    images: Any, labels: Any = None, *, test: Any = None, classes: Sequence[str] | None = None, size: int | None = None, seed: int = 0,
    name: str = "arrays",
) -> Dataset:  # fmt: skip
    """Images in memory as `load` gives those of files.

    Args:
        images: A tensor or an array (N, H, W), (N, C, H, W) or (N, H, W, C) with 1 or 3 channels, uint8 or floats from 0 to 1; or a torch
            Dataset whose items are such an image, or one of Pillow, and its label.
        labels: Whole numbers from 0 on (N,). None for a torch Dataset, which has its own.
        test: The test set: another torch Dataset, or a pair of images and labels. None: a fifth of each class is held out.
        classes: Their names; by default "0", "1", ..., or the ``classes`` of a torch Dataset.
        size: Side in pixels that networks see. By default the short side of the first image.
        seed: It decides which images are held out.
        name: Of the set, in what is said and recorded.

    Returns:
        The set, without files: a search on it goes by `archgrad.search`, and its run has no folder that could be resumed.

    Raises:
        ValueError: Images, labels or classes cannot be used.
    """
    parts = [
        _read(images, labels),
        *(
            [_read(*(test if isinstance(test, tuple) else (test, None)))]
            if test is not None
            else []
        ),
    ]
    names = tuple(
        map(
            str,
            classes
            if classes is not None
            else getattr(images, "classes", range(int(parts[0][1].max()) + 1)),
        )
    )
    for _, own in parts:
        if len(outside := own[(own < 0) | (own >= len(names))]):
            raise ValueError(
                f"labels are numbers from 0 to {len(names) - 1}, one for each of {len(names)} classes, not {int(outside[0])}"
            )
    counts = torch.bincount(parts[0][1], minlength=len(names)).tolist()
    least = 1 if test is not None else 2
    if len(names) < 2 or min(counts) < least:
        few = names[counts.index(min(counts))]
        raise ValueError(
            f"a search needs two classes with {least} training images each; of {len(names)} classes {few!r} has {min(counts)}"
        )
    side = size if size is not None else min(parts[0][0][0].shape[:2])
    places.check_side(side)
    channels = max(1 if image.ndim == 2 else image.shape[2] for own, _ in parts for image in own)
    stores = [_squares(own, channels, stored_side(side)) for own, _ in parts]
    kept = [
        Images(torch.from_numpy(store), torch.arange(len(store)), own)
        for store, (_, own) in zip(stores, parts, strict=True)
    ]
    if test is None:
        held = stratified(
            kept[0].labels, max(len(names), round(TEST_SHARE * len(kept[0]))), seed, "test"
        )
        kept = [kept[0].subset(others(held, len(kept[0]))), kept[0].subset(held)]
    marks = [
        (
            part.labels,
            np.stack([_digest(part.pixels(torch.tensor([i])).numpy()) for i in range(len(part))]),
        )
        for part in kept
    ]
    mean, std = measured(kept[0])
    return Dataset(
        name,
        kept[0],
        kept[1],
        names,
        channels,
        side,
        mean,
        std,
        "measured",
        fingerprint.second(names, side, channels, marks),
    )


def _read(images: Any, labels: Any) -> tuple[list[Pixels], Tensor]:
    """Each image as uint8 (H, W) or (H, W, C), and the labels (N,) int64."""
    if labels is None:
        if not hasattr(images, "__getitem__") or isinstance(
            images, np.ndarray | Tensor | list | tuple
        ):
            raise ValueError(
                "labels: images of tensors and arrays need their labels; a torch Dataset has its own"
            )
        items = [images[index] for index in range(len(images))]
        return [_pixels(item[0]) for item in items], _numbers([item[1] for item in items])
    found, numbers = _array(images), _numbers(labels)
    if len(found) != len(numbers) or not len(found):
        raise ValueError(
            f"there are {len(found)} images and {len(numbers)} labels: each image has one label"
        )
    return [_pixels(image) for image in found], numbers


def _numbers(labels: Any) -> Tensor:
    found = torch.as_tensor(np.asarray(labels))
    if found.ndim != 1 or found.is_floating_point() or found.is_complex():
        raise ValueError(
            f"labels are whole numbers (N,), not {str(found.dtype).removeprefix('torch.')} of {tuple(found.shape)}"
        )
    return found.long()


def _array(image: Any) -> np.ndarray:
    return image.detach().cpu().numpy() if isinstance(image, Tensor) else np.asarray(image)


def _pixels(image: Any) -> Pixels:
    """One image as uint8 (H, W), or (H, W, C) with three channels."""
    found = _array(image)
    if found.ndim == 3 and found.shape[0] in (1, 3) and found.shape[2] not in (1, 3):
        found = found.transpose(1, 2, 0)
    if found.ndim == 3 and found.shape[2] == 1:
        found = found[:, :, 0]
    if found.ndim not in (2, 3) or (found.ndim == 3 and found.shape[2] != 3) or 0 in found.shape:
        raise ValueError(
            f"an image has the shape (H, W), (C, H, W) or (H, W, C) with 1 or 3 channels, not {tuple(np.shape(image))}"
        )
    if np.issubdtype(found.dtype, np.floating):
        if not np.isfinite(found).all() or found.min() < 0 or found.max() > 1:
            raise ValueError(
                f"floating-point pixels are from 0 to 1, not from {shown(float(found.min()))} to {shown(float(found.max()))}"
            )
        found = (found * 255).round().astype(np.uint8)
    if found.dtype != np.uint8:
        raise ValueError(f"pixels are uint8 from 0 to 255 or floats from 0 to 1, not {found.dtype}")
    return np.ascontiguousarray(found)


def _squares(images: Sequence[Pixels], channels: int, side: int) -> Pixels:
    """uint8 (N, C, side, side), by the rule that files are read by."""
    return np.stack([decode(Image.fromarray(image), channels, side) for image in images])


def _digest(pixels: np.ndarray) -> np.ndarray:
    return np.frombuffer(sha256(pixels.tobytes()).digest(), np.uint8)
