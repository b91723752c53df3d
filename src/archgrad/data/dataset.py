"""Labelled images as bytes, and the data set of training, test and validation images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from archgrad import errors
from archgrad.data.preprocess import Preprocess

RESIDENT = 2**30
"""Largest size in bytes of images that are kept on the device; larger ones stay in their file."""


@dataclass(frozen=True, eq=False)
class Images:
    """N labelled images.

    Attributes:
        store: Pixels of M images (M, C, H, W), uint8, in memory or in a mapped file.
        rows: Places (N,) of the images in the store, int64.
        labels: Labels (N,), int64.
    """

    store: Tensor
    rows: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"<Images: {len(self):,} of {'x'.join(map(str, self.store.shape[1:]))}>"

    def pixels(self, indices: Tensor) -> Tensor:
        """Return the pixels of images.

        Args:
            indices: int64 (B,) on the CPU.

        Returns:
            uint8 (B, C, H, W), on the device of the store.
        """
        return self.store[self.rows[indices].to(self.store.device)]

    def subset(self, indices: Tensor) -> Images:
        """Return the images at ``indices`` (n,)."""
        return replace(self, rows=self.rows[indices], labels=self.labels[indices])

    def to(self, device: torch.device | str) -> Images:
        """Return the same images, on ``device`` where they take at most `RESIDENT` bytes."""
        return replace(self, store=self.store.to(device)) if self.store.nbytes <= RESIDENT else self

    def counts(self, classes: int) -> list[int]:
        """Return the number of images of each class."""
        return torch.bincount(self.labels, minlength=classes).tolist()


def absence_notes(what: str, images: Images, classes: Sequence[str]) -> list[str]:
    """Return a line that names the classes without an image; an empty list where there are none.

    Args:
        what: Noun for the missing image, such as ``test image``.
        images: The images.
        classes: Names of all classes.
    """
    missing = [name for name, count in zip(classes, images.counts(len(classes))) if not count]
    if len(missing) <= 5:
        return [f"no {what} of {', '.join(missing)}"] if missing else []
    return [f"no {what} of {len(missing):,} of {len(classes):,} classes: {errors.listed(missing)}"]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Training, test and validation images of one set.

    Attributes:
        name: Name of the set.
        train: Training images.
        test: Test images.
        classes: Names of the classes, in the order of the labels.
        in_channels: Number of channels of an image.
        size: Side in pixels of the network's input.
        mean: Mean of each channel, of values from 0 to 1.
        std: Standard deviation of each channel, of values from 0 to 1.
        statistics: ``"known"`` for published ``mean`` and ``std``, else ``"measured"``.
        fingerprint: Digest of class names, labels and image files as they are split, by
            `archgrad.data.fingerprint.fingerprint`.
        equivalent_fingerprints: Fingerprints of the same set whose class names Unicode writes in
            another form.
        notes: Remarks on the set, for people.
        val: Images that train the alphas and validate a retraining. None: a half of ``train``
            trains the alphas.
        validation: The split or the set from which ``val`` comes.
        unreadable: Images that were left out, each with the reason.
        loading: Arguments by which `load` returns this set again; empty for images in memory.
        layout: A sentence on files that earlier versions read differently, or an empty text.
    """

    name: str
    train: Images
    test: Images
    classes: tuple[str, ...]
    in_channels: int
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    statistics: str
    fingerprint: str
    equivalent_fingerprints: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    val: Images | None = None
    validation: str | None = None
    unreadable: tuple[str, ...] = ()
    loading: Mapping[str, Any] = field(default_factory=dict)
    layout: str = ""

    @property
    def preprocess(self) -> Preprocess:
        """Return size, statistics and class names of the images."""
        return Preprocess(self.size, self.in_channels, self.mean, self.std, self.classes)

    def __repr__(self) -> str:
        return f"<Dataset {self.describe_balance()}>"

    def describe_balance(self) -> str:
        """Return a line with the numbers of classes and images, and the extreme classes."""
        counts = self.train.counts(len(self.classes))
        small, large = (
            f"{extreme:,} of {self.classes[counts.index(extreme)]}"
            for extreme in (min(counts), max(counts))
        )
        spread = f"{counts[0]:,} each" if len(set(counts)) == 1 else f"from {small} to {large}"
        validating = f", {len(self.val):,} validation images" if self.val else ""
        training = f"{len(self.train):,} training images ({spread})"
        images = f"{training}, {len(self.test):,} test images{validating}"
        colour = "grey" if self.in_channels == 1 else "RGB"
        return (
            f"{self.name}: {len(self.classes)} classes, {images}, {self.size}x{self.size} {colour}"
        )


def check_dataset(given: object) -> None:
    """Check that an argument is a `Dataset`.

    Raises:
        ValueError: It is something else.
    """
    if not isinstance(given, Dataset):
        raise ValueError(
            f"a data set from archgrad.load is expected, not {errors.short_repr(given)}"
        )
