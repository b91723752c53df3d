"""Packages that only some commands need, and the extra of archgrad that installs each of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

EXTRAS = {
    "datasets": "images",
    "kornia": "images",
    "PIL": "images",
    "sklearn": "images",
    "lightning_fabric": "train",
    "cyclopts": "cli",
    "docstring_parser": "cli",
    "matplotlib": "report",
}
"""Name of a package -> the extra that installs it."""


class MissingExtra(ImportError):
    """A package is missing. The message has the command that installs it."""


@contextmanager
def named() -> Iterator[None]:
    """Import packages inside the block.

    Raises:
        MissingExtra: A package of `EXTRAS` is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS:
            raise
        raise MissingExtra(
            f"{package} is not installed: pip install 'archgrad[{EXTRAS[package]}]'",
            name=package,
        ) from None
