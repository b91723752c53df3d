"""Where images may lie: which kind of place a path is, said before torch is imported or an image read."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal

from archgrad.errors import shown

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
"""Usual name of a folder of one split -> name of the split. Capitals do not count."""
TESTS, VALIDATIONS = ("test",), ("val", "validation", "valid")
"""Splits of test images, and of validation images, those that are looked for first before the others."""
ANNOTATIONS = {".txt", ".csv", ".tsv", ".json", ".xml"}
"""Endings of files that may tell the classes of images."""
ABOUT = {"readme", "license", "licence", "requirements"}
"""Names of files, without their endings, that tell of a whole set or project, and of no image."""
FOREIGN = {"__MACOSX"}
"""Folders that archives bring along: they hold no image."""


def kind(path: str | Path) -> Kind:
    """``digits``, an image folder, a parquet file or a folder of them, a CSV or TSV file, or what may be a hub name. ValueError for anything
    else."""
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
            f"{path} is neither a folder nor a .parquet, .csv or .tsv file (an archive has to be unpacked first)"
        )
    if not HUB_NAME.fullmatch(str(path)):
        raise ValueError(missing(path))
    return "hub"


def settled(path: str | Path) -> str:
    """A file or a folder by its whole path, so that another folder finds it too; a hub name and ``digits`` as they are."""
    place = Path(path).expanduser()
    return str(place.resolve()) if str(path) != "digits" and place.exists() else str(path)


def settled_split(name: str | Path) -> str:
    """The place of another set as `settled` has it; the name of a split as it is (a set in this very folder is told from one by ``./``)."""
    return settled(name) if os.sep in str(name) else str(name)


def checked(path: object, what: str) -> Path:
    """A path from Python.

    Args:
        path: What was given.
        what: Its meaning, for the message.

    Returns:
        The path.

    Raises:
        ValueError: It is no path, or an empty one, which would mean the current folder.
    """
    if not isinstance(path, str | os.PathLike) or not str(path):
        raise ValueError(f"{what}: a path is expected, not {shown(path)}")
    return Path(path)


def is_gone(path: str | Path) -> bool:
    """Says whether images lay at a whole path where nothing is now. A hub name is no such path."""
    return Path(path).is_absolute() and not Path(path).exists()


def missing(path: str | Path) -> str:
    return f"no such file or folder: {path}, and not a hub name we can reach"


def parquet_files(place: Path) -> list[Path]:
    """A parquet file itself, or those in a folder and in the folders in it."""
    return (
        [place]
        if place.is_file()
        else sorted(
            one for one in [*place.glob("*.parquet"), *place.glob("*/*.parquet")] if one.is_file()
        )
    )


def subfolders(root: Path) -> list[str]:
    """The names of the folders in ``root``, in order, without hidden ones and those of archives."""
    return sorted(
        entry.name
        for entry in root.iterdir()
        if entry.is_dir() and not entry.name.startswith(".") and entry.name not in FOREIGN
    )


def classes(root: Path) -> list[str]:
    """The class folders of one split of an image folder, in order. ValueError where there is none."""
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
                f"the name of the class folder {name!a} in {root} is no text in UTF-8: rename the folder"
            ) from None
    return found


def table_hint(folder: Path) -> str:
    """The way out where the classes of a folder's images may stand in a file beside them or above them; empty where there is none."""
    whole = folder.resolve()  # "." has no name
    above = [one for one in whole.parent.iterdir() if whole.name.casefold() in one.name.casefold()]
    telling = [
        one
        for one in (*folder.iterdir(), *above)
        if one.suffix.lower() in ANNOTATIONS and one.stem.lower() not in ABOUT
    ]
    notes = sorted(one for one in telling if one.is_file())
    if not notes:
        return ""
    return f" (if {notes[0]} tells the classes, write a .csv file of it with columns path and label, and name that file in place of the folder)"


def split_folders(root: Path) -> dict[str, Path]:
    """The folders of the splits of an image folder.

    Beside other folders ``train`` is a split only where it holds folders itself: a class may have that name, too. ``Train`` and ``Training``,
    which earlier versions took for classes, are splits beside other folders only where a second split holds folders as well.

    Args:
        root: The image folder.

    Returns:
        Split -> its folder; nothing where the folders in ``root`` are classes.
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


def check(path: str | Path) -> None:
    """ValueError where no images can be: nothing there, another kind of file, a folder without class folders."""
    if kind(path) == "folder":
        root = Path(path).expanduser()
        splits = split_folders(root)
        if "train" in splits or not splits:
            classes(splits.get("train", root))


def check_new(path: Path, flag: str, *, overwrite: bool = False) -> None:
    """Checks that a command may write a file.

    Args:
        path: The file that a user named.
        flag: The flag that named it, such as ``--out``.
        overwrite: Whether a file that is there may be replaced.

    Raises:
        ValueError: ``path`` is there already and may not be replaced, or it is a folder, a device or a pipe, or its folder is none.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder: name a file by {flag}")
    if (
        path.exists() and not path.is_file()
    ):  # a new file would take the place of a device for every program
        raise ValueError(f"{path} is no plain file: name another one by {flag}")
    if not overwrite and os.path.lexists(path):
        raise ValueError(f"{path} is there already: choose another {flag}, or add --overwrite")
    if not path.parent.is_dir():
        raise ValueError(f"there is no folder {path.parent}: make it, or choose another {flag}")


def check_side(size: int | None) -> None:
    """ValueError for images too small for any network here; None is to be decided by the images."""
    if size is not None and size < 8:
        raise ValueError(f"the image size must be at least 8, not {size}")
