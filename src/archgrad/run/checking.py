"""What is wrong with a command's flags and paths, said before torch is imported. What only a built space or method can tell, they say later."""

from __future__ import annotations

from archgrad.data import places
from archgrad.run import budgets, catalogue
from archgrad.run.config import SearchConfig
from archgrad.run.folder import RunFolder, default_out
from archgrad.run.sections import DataSettings


def check_search(settings: SearchConfig, *, reads: bool = True, writes: bool = True) -> None:
    """ValueError for a budget, a space, an option of it, a run folder or a place of images that cannot be. ``reads`` images, ``writes`` a run
    folder: a dry run does neither."""
    budgets.targets(settings.budget)
    if writes:
        RunFolder(settings.out or default_out(settings)).check_free()
    if reads:
        check_images(settings.data)
    catalogue.check_space(
        settings.space["name"],
        {name: value for name, value in settings.space.items() if name != "name"},
    )


def check_images(settings: DataSettings) -> None:
    """ValueError where no images are named, none can be there, or they are to be too small."""
    if settings.path is None:
        raise ValueError(
            "which images? name them by --data: a folder, a .parquet or .csv file, a hub name such as cifar10, or digits"
        )
    places.check_side(settings.size)
    places.check(settings.path)
