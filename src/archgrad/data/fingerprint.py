"""Fingerprints of data sets, by which a run recognises its images at any place.

Version 2, ``2:HEX``, is a digest of the class names, of each label and each byte of each image
file, in their order and split, and of the size and the channels. Version 1, 16 hexadecimal digits,
is a digest of the labels and of about a hundred resized images of each part. A recorded
fingerprint is compared in its own version.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from unicodedata import normalize

import numpy as np
import torch
from torch import Tensor

from archgrad.data.dataset import Dataset
from archgrad.data.decode import RULE
from archgrad.errors import composed_unicode

SECOND = "2:"


def fingerprint(
    classes: Sequence[str], size: int, channels: int, parts: Iterable[tuple[Tensor, np.ndarray]]
) -> str:
    """Return the fingerprint of version 2.

    Args:
        classes: Names of the classes, in the order of the labels.
        size: Side in pixels of the network's input.
        channels: Number of channels of the network's input.
        parts: Labels (N,), int64, and digests (N, 32) of the training images, of the test images
            and of the validation images.

    Returns:
        ``2:`` and 32 hexadecimal digits.
    """
    digest = hashlib.sha256(json.dumps([RULE, size, channels, *classes]).encode())
    for labels, digests in parts:
        digest.update(f"\n{len(labels)}\n".encode())
        digest.update(labels.numpy().astype("<i8").tobytes())
        digest.update(digests.tobytes())
    return SECOND + digest.hexdigest()[:32]


def first_version(dataset: Dataset) -> str:
    """Return the fingerprint of version 1."""
    digest = hashlib.sha256()
    for images in (dataset.train, dataset.test):
        digest.update(images.labels.numpy().tobytes())
        digest.update(
            images.pixels(torch.arange(0, len(images), max(1, len(images) // 100)))
            .numpy()
            .tobytes()
        )
    return digest.hexdigest()[:16]


def fingerprint_like(recorded: str, dataset: Dataset) -> str:
    """Return the fingerprint of a data set in the version of a recorded one."""
    return dataset.fingerprint if recorded.startswith(SECOND) else first_version(dataset)


def same_images(recorded: str, dataset: Dataset) -> bool:
    """Return whether a recorded fingerprint is that of a data set."""
    return recorded in dataset.equivalent_fingerprints or recorded == fingerprint_like(
        recorded, dataset
    )


def spellings(classes: Sequence[str]) -> list[list[str]]:
    """Return the class names as given, composed and decomposed: file systems differ in this."""
    return [
        list(classes),
        [*map(composed_unicode, classes)],
        [normalize("NFD", name) for name in classes],
    ]


def difference(was: Mapping[str, Any], dataset: Dataset) -> str:
    """Describe the difference between recorded images and those of a data set.

    Args:
        was: `Preprocess.to_json` of the recorded images.
        dataset: The data set.

    Returns:
        The first known difference, followed by files that earlier versions read differently.
    """
    return "; ".join(part for part in (_first_difference(was, dataset), dataset.layout) if part)


def _first_difference(was: Mapping[str, Any], dataset: Dataset) -> str:
    then, now = list(was.get("classes", dataset.classes)), list(dataset.classes)
    if then != now:
        return _class_difference(then, now)
    for name, has, unit in (
        ("size", dataset.size, "pixels a side"),
        ("in_channels", dataset.in_channels, "channels"),
    ):
        if was.get(name, has) != has:
            return f"they had {was[name]} {unit}, and have {has} now"
    return "the files, their labels or their order differ"


def _class_difference(then: list[str], now: list[str]) -> str:
    if [*map(composed_unicode, then)] == [*map(composed_unicode, now)]:
        return "Unicode writes the names of the classes in another form"
    if sorted(then) == sorted(now):
        return "the classes have another order"
    gone, new = (
        [name for name in one if name not in other] for one, other in ((then, now), (now, then))
    )
    if len(gone) == len(new):
        return f"the class {gone[0]!r} is now called {new[0]!r}"
    return (
        f"the class {gone[0]!r} is gone" if len(gone) > len(new) else f"the class {new[0]!r} is new"
    )
