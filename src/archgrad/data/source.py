"""A split of a data set: names, labels, image files, and the key of its cache files."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from archgrad import errors


@dataclass(frozen=True)
class Source:
    """A split of a data set: N images, which are opened on demand, and their labels.

    Attributes:
        name: Name of the split, for messages.
        classes: Names of the classes.
        labels: Labels (N,), int64, indices of ``classes``.
        open: Function that opens the encoded file of image i.
        where: Function that returns the place of image i, for messages.
        key: Key of the cache, which changes with the images. None: decoding is too cheap for a
            cache.
        size: Side in pixels of the network's input. None: the usual rule decides.
        statistics: Published mean and standard deviation of each channel, or None.
        notes: Remarks on the split, for people.
        layout: A sentence on files that earlier versions read differently, or an empty text.
    """

    name: str
    classes: tuple[str, ...]
    labels: Tensor
    open: Callable[[int], BinaryIO]
    where: Callable[[int], str]
    key: str | None
    size: int | None = None
    statistics: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    notes: tuple[str, ...] = ()
    layout: str = ""

    def __len__(self) -> int:
        return len(self.labels)

    def without(self, indices: Collection[int]) -> Source:
        """Return the source without some images. It has another key."""
        if not indices:
            return self
        kept = self.indices_without(indices)
        left_out = f"{self.key} without {sorted(indices)}"
        key = self.key and hashlib.sha256(left_out.encode()).hexdigest()[:20]
        opened, where = self.open, self.where
        return replace(
            self,
            labels=self.labels[kept],
            open=lambda i: opened(kept[i]),
            where=lambda i: where(kept[i]),
            key=key,
        )

    def indices_without(self, indices: Collection[int]) -> list[int]:
        """Return the indices of all images that are not in ``indices``, sorted."""
        left_out = set(indices)
        return [index for index in range(len(self)) if index not in left_out]

    def with_classes(self, classes: Sequence[str]) -> Source:
        """Return the same images with labels that are indices of ``classes``.

        Raises:
            ValueError: A class of an image is not among ``classes``.
        """
        places = {errors.composed_unicode(name): place for place, name in enumerate(classes)} | {
            name: place for place, name in enumerate(classes)
        }
        table = torch.tensor(
            [
                places.get(name, places.get(errors.composed_unicode(name), -1))
                for name in self.classes
            ]
        )
        for label in self.labels.unique().tolist():
            if table[label] < 0:
                raise ValueError(
                    f"{self.name}: {errors.unknown_name('class', self.classes[label], classes)}"
                )
        return replace(self, classes=tuple(classes), labels=table[self.labels])


Splits = Mapping[str, Callable[[], Source]]
"""Name of a split -> function that lists it. An unused split is not listed and may be
unreadable."""


def listing_key(root: str | Path, names: Iterable[str]) -> str:
    """Return a digest of files, which changes when one is added, removed or written.

    Args:
        root: Folder of the files.
        names: Paths of the files relative to ``root``. A missing file is marked as missing.

    Returns:
        20 hexadecimal digits of the SHA-256 of names, lengths and times of change.

    Raises:
        ValueError: One of them is no regular file. Reading a pipe would never end.
    """
    top = os.path.realpath(root)
    digest = hashlib.sha256(top.encode())
    for name in names:
        try:
            status = os.stat(os.path.join(top, name))
        except (OSError, ValueError):  # reading it raises the error
            digest.update(f"\n{name}\tmissing".encode(errors="surrogateescape"))
            continue
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{os.path.join(root, name)} is no plain file: remove it")
        digest.update(f"\n{name}\t{status.st_size}\t{status.st_mtime_ns}".encode())
    return digest.hexdigest()[:20]
