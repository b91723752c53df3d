"""Make a `Dataset` of images in memory: tensors, numpy arrays, or a torch Dataset."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from torch import Tensor

from archgrad import extras
from archgrad.arguments import named_if_wrong
from archgrad.data import fingerprint, places
from archgrad.data.dataset import Dataset, Images
from archgrad.data.decode import decode
from archgrad.data.loading import TEST_SHARE, measure_channels
from archgrad.data.preprocess import stored_side
from archgrad.data.split import others, stratified
from archgrad.errors import short_repr

with extras.named():
    from PIL import Image

Pixels = np.ndarray[Any, np.dtype[np.uint8]]


@named_if_wrong
def dataset(
    images: Any,
    labels: Any = None,
    *,
    test: Any = None,
    classes: Sequence[str] | None = None,
    size: int | None = None,
    seed: int = 0,
    name: str = "arrays",
) -> Dataset:
    """Return images in memory as a `Dataset`, which `archgrad.data.load` returns for files.

    A search on such a data set goes through `archgrad.search`. Its run has no folder and cannot be
    resumed.

    Args:
        images: A tensor or an array (N, H, W), (N, C, H, W) or (N, H, W, C) with 1 or 3 channels,
            uint8 or floats from 0 to 1; or a torch Dataset of pairs (image, label), where an image
            may also be one of Pillow.
        labels: Integers (N,) from 0 on. None for a torch Dataset.
        test: The test set: another torch Dataset, or a pair (images, labels). None holds out a
            fifth of each class.
        classes: Names of the classes; by default "0", "1", ..., or the attribute ``classes`` of a
            torch Dataset.
        size: Side in pixels of the network's input; by default the short side of the first image.
        seed: Seed of the choice of held-out images.
        name: Name of the set for output and records.

    Returns:
        The data set.

    Raises:
        ValueError: The images, labels or classes cannot be used.

    Example:
        >>> import numpy as np
        >>> images = np.zeros((20, 8, 8), np.uint8)
        >>> dataset(images, labels=np.arange(20) % 2, classes=["cat", "dog"]).train
        <Images: 16 of 1x8x8>
    """
    parts = [_read_pairs(images, labels)]
    if test is not None:
        parts.append(_read_pairs(*test) if isinstance(test, tuple) else _read_pairs(test, None))
    numbers = range(int(parts[0][1].max()) + 1)
    names = tuple(map(str, getattr(images, "classes", numbers) if classes is None else classes))
    _check_labels([labels for _, labels in parts], names, least=1 if test is not None else 2)
    side = size if size is not None else min(parts[0][0][0].shape[:2])
    places.check_side(side)
    channels = max(1 if image.ndim == 2 else image.shape[2] for own, _ in parts for image in own)
    stores = [_to_squares(own, channels, stored_side(side)) for own, _ in parts]
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
    mean, std = measure_channels(kept[0])
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
        fingerprint.fingerprint(names, side, channels, marks),
    )


def _check_labels(parts: Sequence[Tensor], names: Sequence[str], *, least: int) -> None:
    """Refuse labels that are no class, and classes with fewer than ``least`` training images."""
    for labels in parts:
        if len(outside := labels[(labels < 0) | (labels >= len(names))]):
            raise ValueError(
                f"labels are numbers from 0 to {len(names) - 1}, "
                f"one for each of {len(names)} classes, not {int(outside[0])}"
            )
    counts = torch.bincount(parts[0], minlength=len(names)).tolist()
    if len(names) < 2 or min(counts) < least:
        few = names[counts.index(min(counts))]
        raise ValueError(
            f"a search needs two classes with {least} training images each; "
            f"of {len(names)} classes {few!r} has {min(counts)}"
        )


def _read_pairs(images: Any, labels: Any) -> tuple[list[Pixels], Tensor]:
    """Return each image as uint8 (H, W) or (H, W, C), and the labels (N,), int64."""
    if labels is None:
        if not hasattr(images, "__getitem__") or isinstance(
            images, np.ndarray | Tensor | list | tuple
        ):
            raise ValueError(
                "labels: tensors and arrays of images need labels; a torch Dataset contains them"
            )
        items = [images[index] for index in range(len(images))]
        return [_as_pixels(item[0]) for item in items], _as_labels([item[1] for item in items])
    found, numbers = _as_array(images), _as_labels(labels)
    if len(found) != len(numbers) or not len(found):
        raise ValueError(
            f"there are {len(found)} images and {len(numbers)} labels: each image has one label"
        )
    return [_as_pixels(image) for image in found], numbers


def _as_labels(labels: Any) -> Tensor:
    try:
        found = torch.as_tensor(np.asarray(labels))
    except TypeError:  # texts and other objects
        raise ValueError(
            f"labels are whole numbers (N,), not {short_repr(labels)}: classes= takes the names"
        ) from None
    if found.ndim != 1 or found.is_floating_point() or found.is_complex():
        raise ValueError(
            f"labels are whole numbers (N,), "
            f"not {str(found.dtype).removeprefix('torch.')} of {tuple(found.shape)}"
        )
    return found.long()


def _as_array(image: Any) -> np.ndarray:
    return image.detach().cpu().numpy() if isinstance(image, Tensor) else np.asarray(image)


def _as_pixels(image: Any) -> Pixels:
    """Return an image as uint8 (H, W), or (H, W, C) with three channels."""
    found = _as_array(image)
    if found.ndim == 3 and found.shape[0] in (1, 3) and found.shape[2] not in (1, 3):
        found = found.transpose(1, 2, 0)
    if found.ndim == 3 and found.shape[2] == 1:
        found = found[:, :, 0]
    if found.ndim not in (2, 3) or (found.ndim == 3 and found.shape[2] != 3) or 0 in found.shape:
        raise ValueError(
            "an image has the shape (H, W), (C, H, W) or (H, W, C) with 1 or 3 channels, "
            f"not {tuple(np.shape(image))}"
        )
    if np.issubdtype(found.dtype, np.floating):
        if not np.isfinite(found).all() or found.min() < 0 or found.max() > 1:
            raise ValueError(
                "floating-point pixels are from 0 to 1, "
                f"not from {short_repr(float(found.min()))} to {short_repr(float(found.max()))}"
            )
        found = (found * 255).round().astype(np.uint8)
    if found.dtype != np.uint8:
        raise ValueError(f"pixels are uint8 from 0 to 255 or floats from 0 to 1, not {found.dtype}")
    return np.ascontiguousarray(found)


def _to_squares(images: Sequence[Pixels], channels: int, side: int) -> Pixels:
    """Return images as uint8 (N, C, side, side), resized and cropped as files are."""
    return np.stack([decode(Image.fromarray(image), channels, side) for image in images])


def _digest(pixels: np.ndarray) -> np.ndarray:
    return np.frombuffer(sha256(pixels.tobytes()).digest(), np.uint8)
