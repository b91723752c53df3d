"""Checks of a command's flags and paths before torch is imported.

Errors that only a built space or method can find are raised later, in `archgrad.run.preparing`.
"""

from __future__ import annotations

from archgrad.data import places
from archgrad.run import catalogue
from archgrad.run.config import SearchConfig
from archgrad.run.folder import RunFolder, default_out
from archgrad.run.sections import DataSettings


def check_search(settings: SearchConfig, *, reads: bool = True, writes: bool = True) -> None:
    """Check the settings of a search as far as that is possible without torch.

    Args:
        settings: The settings.
        reads: If true, the images are checked too.
        writes: If true, the run folder must be free.

    Raises:
        ValueError: The space, one of its options, the run folder or the place of the images is
            wrong.
    """
    if writes:
        RunFolder(settings.out or default_out(settings)).check_free()
    if reads:
        check_images(settings.data)
    options = {name: value for name, value in settings.space.items() if name != "name"}
    catalogue.check_space(settings.space["name"], options)


def check_images(settings: DataSettings) -> None:
    """Check the place and the size of the images.

    Raises:
        ValueError: No images are named, there are none at that place, or the size is too small.
    """
    check_named(settings)
    places.check_side(settings.size)
    places.check_images(settings.path or "")


def check_named(settings: DataSettings) -> None:
    """Raise a ValueError if no images are named."""
    if settings.path is None:
        raise ValueError(
            "no images are named: add --data with a folder, a .parquet or .csv file, a hub name "
            "such as cifar10, or digits"
        )
