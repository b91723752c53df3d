"""Image folders: ``train/CLASS/*.jpg`` with or without ``test/`` and ``val/``, or plain ``CLASS/*.jpg``.

Listed and decoded here rather than by ``load_dataset("imagefolder")``: that copies every file into an Arrow table first (6 s for
10,000 images against 0.2 s), knows no empty class, and cannot name the file it stumbles over.
"""

from __future__ import annotations

import os
from collections import Counter
from functools import partial
from pathlib import Path

import torch

from archgrad import errors
from archgrad.data import formats, places
from archgrad.data.source import Source, Splits, listing_key
from archgrad.storage import files


def splits(root: Path) -> Splits:
    """Of an image folder. One without folders of splits is one split called train."""
    found = places.split_folders(root)
    if not found:
        return {"train": partial(_split, root)}
    taken = {folder.name for folder in found.values()}
    beside = [name for name in places.subfolders(root) if name not in taken]
    notes = (
        (f"not read, because they lie beside the splits of {root}: {', '.join(beside)}",)
        if beside
        else ()
    )
    first = partial(_split, layout=_layout(root, taken), notes=notes)
    beside_train = partial(_classed_split, found["train"]) if "train" in found else _split
    return {
        split: partial(first if split == "train" else beside_train, folder)
        for split, folder in found.items()
    }


def _classed_split(train: Path, root: Path) -> Source:
    """A split beside the training images, in whose classes it is. ValueError where its images lie in no class folder, as those of some sets do
    for validation."""
    own, known = (places.subfolders(folder) for folder in (root, train))
    if (
        own
        and not any(errors.match(name, known) for name in own)
        and (hint := places.table_hint(root))
    ):
        raise ValueError(f"{root} has no class folder of {train}, but {errors.listed(own)}{hint}")
    return _split(root)


def _layout(root: Path, taken: set[str]) -> str:
    """What earlier versions, which knew five names of splits, read otherwise; empty where nothing."""
    new = sorted(taken - {"train", *places.TESTS, *places.VALIDATIONS})
    are = "are splits" if len(new) > 1 else "is a split"
    return (
        f"{' and '.join(new)} in {root} {are}, which earlier versions did not know" if new else ""
    )


def _split(root: Path, *, layout: str = "", notes: tuple[str, ...] = ()) -> Source:
    classes = places.classes(root)
    names: list[str] = []
    labels: list[int] = []
    ignored: Counter[str] = Counter()
    for label, name in enumerate(classes):
        images, others = _images(str(root), name)
        if not images:
            rest = f" (it holds {_listed(others)})" if others else ""
            raise ValueError(
                f"the class folder {root / name} holds no image: remove it, or put images in{rest}"
            )
        names += images
        labels += [label] * len(images)
        ignored += others
    if later := {formats.ending(name) for name in names} & formats.LATER:
        layout = (
            layout
            or f"{' and '.join(sorted(later))} files in {root} are images, which earlier versions did not know"
        )

    def where(index: int) -> str:
        return os.path.join(root, names[index])

    return Source(
        name=str(root),
        classes=tuple(classes),
        labels=torch.tensor(labels),
        open=lambda index: files.opened(Path(where(index))),
        where=where,
        key=listing_key(root, names),
        layout=layout,
        notes=(*notes, *([f"files ignored in {root}: {_listed(ignored)}"] if ignored else [])),
    )


def _listed(kinds: Counter[str]) -> str:
    """``3 .txt, 2 hidden``"""
    return errors.listed(
        [
            f"{count:,} {kind}"
            for kind, count in sorted(kinds.items(), key=lambda one: (-one[1], one[0]))
        ],
        8,
    )


def _images(root: str, folder: str) -> tuple[list[str], Counter[str]]:
    """The images below ``root/folder``, their names relative to ``root`` in sorted order, and how many other files of each kind lie there."""
    images: list[str] = []
    others: Counter[str] = Counter()
    for place, folders, names in os.walk(os.path.join(root, folder), followlinks=True):
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and name not in places.FOREIGN
        )
        for name in sorted(names):
            if formats.is_image(name):
                images.append(os.path.join(place, name)[len(root) + 1 :])
            else:
                others[formats.kind_of(name)] += 1
    return images, others
