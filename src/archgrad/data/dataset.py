"""What `load` gives: labelled images as bytes, a training and a test part, and how to read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from archgrad import errors
from archgrad.data.preprocess import Preprocess

RESIDENT = 2**30  # bytes: sets up to this size live on the device; larger ones stay in their file


@dataclass(frozen=True, eq=False)
class Images:
    """N labelled images: rows of a uint8 store (M, C, H, W), which is a tensor in memory or a mapped file."""

    store: Tensor
    rows: Tensor  # (N,) int64: where in the store each image lies
    labels: Tensor  # (N,) int64

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"<Images: {len(self):,} of {'x'.join(map(str, self.store.shape[1:]))}>"

    def pixels(self, indices: Tensor) -> Tensor:
        """Indices (B,) int64 on the CPU -> uint8 (B, C, H, W) where the store is."""
        return self.store[self.rows[indices].to(self.store.device)]

    def subset(self, indices: Tensor) -> Images:
        return replace(self, rows=self.rows[indices], labels=self.labels[indices])

    def on(self, device: torch.device | str) -> Images:
        """The same images, on ``device`` if they are few enough to live there."""
        return replace(self, store=self.store.to(device)) if self.store.nbytes <= RESIDENT else self

    def counts(self, classes: int) -> list[int]:
        """Images per class."""
        return torch.bincount(self.labels, minlength=classes).tolist()


def absent(what: str, images: Images, classes: Sequence[str]) -> list[str]:
    """A line that names the classes without an image, their number where they are many; nothing where each class has one."""
    missing = [name for name, count in zip(classes, images.counts(len(classes))) if not count]
    if len(missing) <= 5:
        return [f"no {what} of {', '.join(missing)}"] if missing else []
    return [f"no {what} of {len(missing):,} of {len(classes):,} classes: {errors.listed(missing)}"]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Training, test and validation images of one set, and how to read them. ``mean`` and ``std`` are per channel, of values in [0, 1]."""

    name: str
    train: Images
    test: Images
    classes: tuple[str, ...]
    in_channels: int
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    statistics: str  # "known" or "measured"
    fingerprint: str  # of class names, labels and the bytes of every image, as they are split: `archgrad.data.fingerprint.second`
    alike: tuple[
        str, ...
    ] = ()  # its fingerprints where Unicode writes the class names in another form
    notes: tuple[str, ...] = ()
    val: Images | None = (
        None  # those that move the alphas and validate a retraining; None: a half of ``train`` moves the alphas
    )
    validation: str | None = None  # the split or the set that ``val`` is
    unreadable: tuple[str, ...] = ()  # images that were left out, and why
    loading: Mapping[str, Any] = field(
        default_factory=dict
    )  # the arguments by which `load` gives it again; of images in memory none
    layout: str = ""  # what earlier versions would have read otherwise, in words

    @property
    def preprocess(self) -> Preprocess:
        return Preprocess(self.size, self.in_channels, self.mean, self.std, self.classes)

    def __repr__(self) -> str:
        return f"<Dataset {self.balance()}>"

    def balance(self) -> str:
        """One line: classes, images, the smallest and the largest class."""
        counts = self.train.counts(len(self.classes))
        small, large = (
            f"{extreme:,} of {self.classes[counts.index(extreme)]}"
            for extreme in (min(counts), max(counts))
        )
        spread = f"{counts[0]:,} each" if len(set(counts)) == 1 else f"from {small} to {large}"
        validating = f", {len(self.val):,} validation images" if self.val else ""
        images = f"{len(self.train):,} training images ({spread}), {len(self.test):,} test images{validating}"
        return f"{self.name}: {len(self.classes)} classes, {images}, {self.size}x{self.size} {'grey' if self.in_channels == 1 else 'RGB'}"


def check_dataset(given: object) -> None:
    """Raises a ValueError where what a user gave is no `Dataset`."""
    if not isinstance(given, Dataset):
        raise ValueError(
            f"images are expected as archgrad.load gives them, not {errors.shown(given)}"
        )
