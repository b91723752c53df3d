"""Find out where the images of a path lie, without torch and before an image is read."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from archgrad.errors import short_repr

Kind = Literal["digits", "parquet", "listing", "folder", "hub"]

HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")

SPLITS = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "val": "val",
    "validation": "validation",
    "valid": "valid",
    "eval": "val",
}
"""Usual name of the folder of a split, in lower case -> name of the split."""
TESTS = ("test",)
"""Names of splits of test images."""
VALIDATIONS = ("val", "validation", "valid")
"""Names of splits of validation images, in the order in which they are looked for."""
ANNOTATIONS = {".txt", ".csv", ".tsv", ".json", ".xml"}
"""Suffixes of files that may contain the class of each image."""
ABOUT = {"readme", "license", "licence", "requirements"}
"""Names without endings of files that describe a data set or a project, not its images."""
FOREIGN = {"__MACOSX"}
"""Names of folders that archives create, which hold no images."""


def kind(path: str | Path) -> Kind:
    """Return the kind of a place of images.

    Args:
        path: The built-in set ``digits``, an image folder, a parquet file or a folder of them, a
            CSV or TSV file (a "listing"), or the name of a set on the hub.

    Raises:
        ValueError: The path is none of these.
    """
    place = Path(path).expanduser()
    if str(path) == "digits":
        return "digits"
    if place.is_dir():
        return "parquet" if parquet_files(place) else "folder"
    if place.suffix == ".parquet" and place.is_file():
        return "parquet"
    if place.suffix.lower() in (".csv", ".tsv") and place.is_file():
        return "listing"
    if place.exists():
        raise ValueError(
            f"{path} is neither a folder nor a .parquet, .csv or .tsv file "
            "(an archive has to be unpacked first)"
        )
    if not HUB_NAME.fullmatch(str(path)):
        raise ValueError(missing_message(path))
    return "hub"


def absolute(path: str | Path) -> str:
    """Return the absolute path of a file or folder; return a hub name and ``digits`` unchanged."""
    place = Path(path).expanduser()
    return str(place.resolve()) if str(path) != "digits" and place.exists() else str(path)


def absolute_split(name: str | Path) -> str:
    """Return the absolute path of another data set; return the name of a split unchanged.

    A path contains a slash: a set in the current folder is written ``./NAME``.
    """
    return absolute(name) if os.sep in str(name) else str(name)


def as_path(path: object, what: str) -> Path:
    """Return an argument as a path.

    Args:
        path: The argument.
        what: The meaning of the argument, for the message.

    Raises:
        ValueError: The argument is no path, or is empty, which would mean the current folder.
    """
    if not isinstance(path, str | os.PathLike) or not str(path):
        raise ValueError(f"{what}: a path is expected, not {short_repr(path)}")
    return Path(path)


def is_missing(path: str | Path) -> bool:
    """Return whether nothing exists at an absolute path. A hub name is no such path."""
    return Path(path).is_absolute() and not Path(path).exists()


def missing_message(path: str | Path) -> str:
    """Return the message for a path that does not exist."""
    return f"no such file or folder: {path}, and not a hub name we can reach"


def parquet_files(place: Path) -> list[Path]:
    """Return a parquet file itself, or those in a folder and in its subfolders."""
    return (
        [place]
        if place.is_file()
        else sorted(
            one for one in [*place.glob("*.parquet"), *place.glob("*/*.parquet")] if one.is_file()
        )
    )


def subfolders(root: Path) -> list[str]:
    """Return the sorted names of the folders in ``root``, except hidden ones and `FOREIGN` ones."""
    return sorted(
        entry.name for entry in root.iterdir() if entry.is_dir() and _is_searched(entry.name)
    )


def files_below(folder: str | Path) -> Iterator[str]:
    """Yield the paths of all files below a folder, in sorted order.

    Links are followed. Hidden folders and `FOREIGN` ones are left out; hidden files are not.
    """
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(filter(_is_searched, folders))
        yield from (os.path.join(place, name) for name in sorted(names))


def _is_searched(folder: str) -> bool:
    return not folder.startswith(".") and folder not in FOREIGN


def classes(root: Path) -> list[str]:
    """Return the sorted class folders of a split; raise a ValueError where there is none."""
    found = subfolders(root)
    if not found:
        raise ValueError(
            f"no class folders in {root}: expected {root}/CLASS/IMAGE.jpg{table_hint(root)}"
        )
    for name in found:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise ValueError(
                f"the name of the class folder {name!a} in {root} is no text in UTF-8: "
                "rename the folder"
            ) from None
    return found


def table_hint(folder: Path) -> str:
    """Return advice for a folder whose classes may be listed in a file.

    The file may lie in the folder, or beside the folder under a name that contains the folder's.

    Returns:
        The advice, or an empty text where there is no such file.
    """
    whole = folder.resolve()  # "." has no name
    above = [one for one in whole.parent.iterdir() if whole.name.casefold() in one.name.casefold()]
    lists = sorted(
        one
        for one in (*folder.iterdir(), *above)
        if one.suffix.lower() in ANNOTATIONS and one.stem.lower() not in ABOUT and one.is_file()
    )
    if not lists:
        return ""
    return (
        f" (if {lists[0]} lists the classes, write a .csv file of it with columns path and label, "
        "and name that file in place of the folder)"
    )


def split_folders(root: Path) -> dict[str, Path]:
    """Return the folders of the splits of an image folder.

    A class may be called ``train``. So beside other folders ``train`` is a split only where it
    holds folders itself. ``Train`` and ``Training``, which earlier versions read as classes, are
    splits beside other folders only where a second split holds folders as well.

    Args:
        root: The image folder.

    Returns:
        Split -> its folder; an empty dict where the folders in ``root`` are classes.
    """
    inside = subfolders(root)
    usual = list(SPLITS)
    named = [name for name in inside if name.casefold() in SPLITS]
    named.sort(key=lambda name: (usual.index(name.casefold()), name != name.casefold(), name))
    found: dict[str, Path] = {}
    for name in named:
        found.setdefault(SPLITS[name.casefold()], root / name)
    deep = [split for split, folder in found.items() if subfolders(folder)]
    if len(named) == len(inside):
        whole = "train" in found or len(deep) == len(found)
    else:
        whole = "train" in deep and (found["train"].name == "train" or len(deep) > 1)
    return found if whole else {}


def check_images(path: str | Path) -> None:
    """Check that a path may hold images.

    Raises:
        ValueError: There is nothing, another kind of file, or a folder without class folders.
    """
    if kind(path) == "folder":
        root = Path(path).expanduser()
        splits = split_folders(root)
        if "train" in splits or not splits:
            classes(splits.get("train", root))


def check_new(path: Path, flag: str, *, overwrite: bool = False) -> None:
    """Check that a command may write a file.

    Args:
        path: The file.
        flag: The flag that named the file, such as ``--out``.
        overwrite: Whether an existing file may be replaced.

    Raises:
        ValueError: The file exists and may not be replaced, is a folder, a device or a pipe, or its
            folder does not exist.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder: name a file by {flag}")
    # A new file would replace the device for all programs.
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is no plain file: name another one by {flag}")
    if not overwrite and os.path.lexists(path):
        raise ValueError(f"{path} is there already: choose another {flag}, or add --overwrite")
    if not path.parent.is_dir():
        raise ValueError(f"there is no folder {path.parent}: make it, or choose another {flag}")


def check_side(size: int | None) -> None:
    """Check the side of images in pixels; None is valid.

    Raises:
        ValueError: The side is below 8.
    """
    if size is not None and size < 8:
        raise ValueError(f"the image size must be at least 8, not {size}")
