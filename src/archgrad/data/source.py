"""One split of a data set, wherever it lies: its names, labels and bytes, and the key by which it is kept."""

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
    """One split: N images, opened on demand, and their labels (N,) int64 into ``classes``."""

    name: str
    classes: tuple[str, ...]
    labels: Tensor
    open: Callable[[int], BinaryIO]  # the file of image i, as it was encoded
    where: Callable[[int], str]  # names image i in an error
    key: str | None  # changes when the images do; None: too cheap to be worth a cache file
    size: int | None = (
        None  # the side its images are meant to have, where the size rule is not to decide
    )
    statistics: tuple[tuple[float, ...], tuple[float, ...]] | None = (
        None  # mean and std per channel, where the field has agreed on them
    )
    notes: tuple[str, ...] = ()
    layout: str = ""  # what earlier versions would have read otherwise, in words

    def __len__(self) -> int:
        return len(self.labels)

    def without(self, indices: Collection[int]) -> Source:
        """The same source without some of its images, which has a key of its own."""
        if not indices:
            return self
        kept = self.rest(indices)
        key = (
            self.key
            and hashlib.sha256(f"{self.key} without {sorted(indices)}".encode()).hexdigest()[:20]
        )
        opened, where = self.open, self.where
        return replace(
            self,
            labels=self.labels[kept],
            open=lambda i: opened(kept[i]),
            where=lambda i: where(kept[i]),
            key=key,
        )

    def rest(self, indices: Collection[int]) -> list[int]:
        """The images that are none of these."""
        left_out = set(indices)
        return [index for index in range(len(self)) if index not in left_out]

    def relabelled(self, classes: Sequence[str]) -> Source:
        """The same images with labels into ``classes``; ValueError names a class that is not among them."""
        places = {errors.composed(name): place for place, name in enumerate(classes)} | {
            name: place for place, name in enumerate(classes)
        }
        table = torch.tensor(
            [places.get(name, places.get(errors.composed(name), -1)) for name in self.classes]
        )
        for label in self.labels.unique().tolist():
            if table[label] < 0:
                raise ValueError(
                    f"{self.name}: {errors.unknown('class', self.classes[label], classes)}"
                )
        return replace(self, classes=tuple(classes), labels=table[self.labels])


Splits = Mapping[str, Callable[[], Source]]
"""Split name -> its `Source`, which is listed only when it is called: a split that nobody reads need not be readable."""


def listing_key(root: str | Path, names: Iterable[str]) -> str:
    """A digest of a folder and its files' names, lengths and change times: new when one was added, removed or written.

    One that is not there counts as missing. ValueError names one that is no plain file: reading a pipe would wait for ever.
    """
    top = os.path.realpath(root)
    digest = hashlib.sha256(top.encode())
    for name in names:
        try:
            status = os.stat(os.path.join(top, name))
        except (OSError, ValueError):  # whoever reads it will say why
            digest.update(f"\n{name}\tmissing".encode(errors="surrogateescape"))
            continue
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{os.path.join(root, name)} is no plain file: remove it")
        digest.update(f"\n{name}\t{status.st_size}\t{status.st_mtime_ns}".encode())
    return digest.hexdigest()[:20]
