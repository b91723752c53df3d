"""Where images may lie: which kind of place a path is, said before torch is imported or an image read."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal

Kind = Literal["digits", "parquet", "folder", "hub"]

HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")


def kind(path: str | Path) -> Kind:
    """``digits``, an image folder, a parquet file or a folder of them, or what may be a hub name. ValueError for anything else."""
    place = Path(path).expanduser()
    if str(path) == "digits":
        return "digits"
    if place.is_dir():
        return "parquet" if parquet_files(place) else "folder"
    if place.suffix == ".parquet" and place.is_file():
        return "parquet"
    if place.exists():
        raise ValueError(f"{path} is neither a folder nor a .parquet file (an archive has to be unpacked first)")
    if not HUB_NAME.fullmatch(str(path)):
        raise ValueError(missing(path))
    return "hub"


def missing(path: str | Path) -> str:
    return f"no such file or folder: {path}, and not a hub name we can reach"


def parquet_files(place: Path) -> list[Path]:
    """A parquet file itself, or those in a folder and in the folders in it."""
    return [place] if place.is_file() else sorted(one for one in [*place.glob("*.parquet"), *place.glob("*/*.parquet")] if one.is_file())


def classes(root: Path) -> list[str]:
    """The class folders of one split of an image folder, in order. ValueError where there is none."""
    found = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not found:
        raise ValueError(f"no class folders in {root}: expected {root}/CLASS/IMAGE.jpg")
    for name in found:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise ValueError(f"the name of the class folder {name!a} in {root} is no text in UTF-8: rename the folder") from None
    return found


def check(path: str | Path) -> None:
    """ValueError where no images can be: nothing there, another kind of file, a folder without class folders."""
    if kind(path) == "folder":
        root = Path(path).expanduser()
        classes(root / "train" if (root / "train").is_dir() else root)


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
    if path.exists() and not path.is_file():  # a new file would take the place of a device for every program
        raise ValueError(f"{path} is no plain file: name another one by {flag}")
    if not overwrite and os.path.lexists(path):
        raise ValueError(f"{path} is there already: choose another {flag}, or add --overwrite")
    if not path.parent.is_dir():
        raise ValueError(f"there is no folder {path.parent}: make it, or choose another {flag}")


def check_side(size: int | None) -> None:
    """ValueError for images too small for any network here; None is to be decided by the images."""
    if size is not None and size < 8:
        raise ValueError(f"the image size must be at least 8, not {size}")
