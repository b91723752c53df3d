"""Read image folders.

A folder has the form ``CLASS/*.jpg``, or ``train/CLASS/*.jpg`` with or without ``test/`` and
``val/``.

``load_dataset("imagefolder")`` is not used: it copies every file into an Arrow table (6 s for
10,000 images, against 0.2 s here), ignores an empty class, and does not name an unreadable file.
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
    """Return the splits of an image folder. A folder without splits is one split called train."""
    found = places.split_folders(root)
    if not found:
        return {"train": partial(_folder_source, root)}
    taken = {folder.name for folder in found.values()}
    beside = [name for name in places.subfolders(root) if name not in taken]
    notes = (
        (f"not read, because they lie beside the splits of {root}: {', '.join(beside)}",)
        if beside
        else ()
    )
    first = partial(_folder_source, layout=_layout_change(root, taken), notes=notes)
    beside_train = partial(_source_beside, found["train"]) if "train" in found else _folder_source
    return {
        split: partial(first if split == "train" else beside_train, folder)
        for split, folder in found.items()
    }


def _source_beside(train: Path, root: Path) -> Source:
    """Return a split whose classes are those of the folder ``train``.

    A ValueError names images without class folders, as in the validation images of some sets.
    """
    own, known = (places.subfolders(folder) for folder in (root, train))
    if (
        own
        and not any(errors.find_name(name, known) for name in own)
        and (hint := places.table_hint(root))
    ):
        raise ValueError(f"{root} has no class folder of {train}, but {errors.listed(own)}{hint}")
    return _folder_source(root)


def _layout_change(root: Path, taken: set[str]) -> str:
    """Return the difference to earlier versions, which knew only five names of splits."""
    new = sorted(taken - {"train", *places.TESTS, *places.VALIDATIONS})
    are = "are splits" if len(new) > 1 else "is a split"
    return (
        f"{' and '.join(new)} in {root} {are}, which earlier versions did not know" if new else ""
    )


def _folder_source(root: Path, *, layout: str = "", notes: tuple[str, ...] = ()) -> Source:
    classes = places.classes(root)
    names: list[str] = []
    labels: list[int] = []
    ignored: Counter[str] = Counter()
    for label, name in enumerate(classes):
        images, others = _files_of_class(str(root), name)
        if not images:
            rest = f" (it holds {_list_kinds(others)})" if others else ""
            raise ValueError(
                f"the class folder {root / name} holds no image: remove it, or put images in{rest}"
            )
        names += images
        labels += [label] * len(images)
        ignored += others
    if later := {formats.ending(name) for name in names} & formats.LATER:
        layout = layout or (
            f"{' and '.join(sorted(later))} files in {root} are images, "
            "which earlier versions did not know"
        )

    def where(index: int) -> str:
        return os.path.join(root, names[index])

    return Source(
        name=str(root),
        classes=tuple(classes),
        labels=torch.tensor(labels),
        open=lambda index: files.open_regular(Path(where(index))),
        where=where,
        key=listing_key(root, names),
        layout=layout,
        notes=(
            *notes,
            *([f"files ignored in {root}: {_list_kinds(ignored)}"] if ignored else []),
        ),
    )


def _list_kinds(kinds: Counter[str]) -> str:
    """Return a text such as ``3 .txt, 2 hidden``."""
    return errors.listed(
        [
            f"{count:,} {kind}"
            for kind, count in sorted(kinds.items(), key=lambda one: (-one[1], one[0]))
        ],
        8,
    )


def _files_of_class(root: str, folder: str) -> tuple[list[str], Counter[str]]:
    """Return the images of a class, relative to ``root``, and the numbers of other files."""
    images: list[str] = []
    others: Counter[str] = Counter()
    for path in places.files_below(os.path.join(root, folder)):
        if formats.is_image(path):
            images.append(path[len(root) + 1 :])
        else:
            others[formats.kind_of(path)] += 1
    return images, others
