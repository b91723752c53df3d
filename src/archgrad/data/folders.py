"""Image folders: ``train/CLASS/*.jpg`` with or without ``test/``, or plain ``CLASS/*.jpg``.

Listed and decoded here rather than by ``load_dataset("imagefolder")``: that copies every file into an Arrow table first (6 s for
10,000 images against 0.2 s), knows no empty class, and cannot name the file it stumbles over.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch

from archgrad import files, places
from archgrad.data.sources import Source, listing_key

IMAGES = {".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".jp2"}
UNSUPPORTED = {".heic", ".heif", ".hif", ".avif"}
SPLITS = ("train", "test", "val", "validation", "valid")


def splits(root: Path) -> dict[str, Source]:
    """Split name -> `Source`; a folder without ``train/`` is one split called train."""
    if not (root / "train").is_dir():
        return {"train": _split(root)}
    return {name: _split(root / name) for name in SPLITS if (root / name).is_dir()}


def _split(root: Path) -> Source:
    classes = places.classes(root)
    names: list[str] = []
    labels: list[int] = []
    ignored = 0
    for label, name in enumerate(classes):
        images, others = _images(str(root), name)
        if not images:
            raise ValueError(f"the class folder {root / name} holds no image: remove it, or put images in")
        names += images
        labels += [label] * len(images)
        ignored += others

    def where(index: int) -> str:
        return os.path.join(root, names[index])

    return Source(
        name=str(root),
        classes=tuple(classes),
        labels=torch.tensor(labels),
        open=lambda index: files.opened(Path(where(index))),
        where=where,
        key=listing_key(root, names),
        notes=(f"{ignored} hidden or non-image files ignored in {root}",) if ignored else (),
    )


def _images(root: str, folder: str) -> tuple[list[str], int]:
    """The images below ``root/folder``, their names relative to ``root`` in sorted order, and how many other files lie there."""
    images: list[str] = []
    others = 0
    for place, folders, names in os.walk(os.path.join(root, folder), followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            kind = "" if name.startswith(".") else os.path.splitext(name)[1].lower()
            if kind in UNSUPPORTED:
                raise ValueError(f"{os.path.join(place, name)}: {kind[1:].upper()} is not supported, convert it to JPEG or PNG first")
            if kind in IMAGES:
                images.append(os.path.join(place, name)[len(root) + 1 :])
            else:
                others += 1
    return images, others
