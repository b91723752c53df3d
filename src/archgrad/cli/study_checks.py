"""The checks of ``archgrad compare`` before its first run begins."""

from __future__ import annotations

from rich.console import Console

from archgrad.compare import study as studies
from archgrad.compare import summary
from archgrad.compare.jobs import Run, StudyFolder
from archgrad.compare.study import Study
from archgrad.run import checking
from archgrad.terminal import say_on

BY_IMAGES = {
    "device",
    "data.size",
    "data.flip",
    "data.val",
    "space.classes",
    "space.in_channels",
    "space.size",
    "space.stem",
}
"""Settings that are unknown until a run has read its images."""


def check(asked: Study, home: StudyFolder, missing: list[Run], console: Console) -> None:
    """Check the images and settings of a study, and the folders of the runs that it still needs.

    Raises:
        ValueError: One of the checks of this module failed.
    """
    check_images(asked, home, console)
    check_settings(asked, home)
    check_folders(missing)
    check_depths(asked, missing)


def check_images(asked: Study, home: StudyFolder, console: Console) -> None:
    """Read the images once before any search reads them.

    Raises:
        ValueError: There are no such images, they do not suit the space, or the summaries are those
            of other images.
    """
    settings = asked.settings(next(iter(asked.arms)))
    given = settings.data
    checking.check_images(given)
    if given.val == studies.ELSEWHERE:
        raise ValueError(
            f"the study in {home.path} has a separate set of validation images, whose place is not "
            "recorded: name it by --data.val"
        )
    from archgrad import data
    from archgrad.run import preparing  # imports torch
    from archgrad.searching import progress

    with progress.signs_of_life(console):
        images = data.load(**preparing.loading_arguments(given), report=say_on(console))
    preparing.fitted_space(settings, images)
    for one in summary.read_all(home.summaries):
        was = one["data"]["fingerprint"]
        if not data.same_images(was, images):
            now = f"{images.name} ({data.fingerprint_like(was, images)})"
            raise ValueError(
                f"{home.path} was made with other images, {one['data']['name']} ({was}), "
                f"not {now}: choose another --out"
            )


def check_settings(asked: Study, home: StudyFolder) -> None:
    """Compare the settings of finished runs with those of the arms now.

    Raises:
        ValueError: A finished run had another setting, because a default has changed since.
    """
    from archgrad.searching.checks import differing_settings  # imports torch

    for one in summary.read_all(home.summaries):
        arm = one["arm"]
        if arm not in asked.arms:
            continue
        was, images = studies.flat(one["config"]), one["data"]["splits"]["train"]
        steps = images // min(was["search.batch"], images)
        fixed = {name: value for name, value in was.items() if name not in BY_IMAGES}
        for name, (then, now) in differing_settings(
            fixed, asked.resolved_settings(arm, steps)
        ).items():
            raise ValueError(
                f"arm {arm}: {name} was {then!r} in seed {one['seed']} and is {now!r} now: "
                "set it, or choose another --out"
            )


def check_depths(asked: Study, runs: list[Run]) -> None:
    """Check that the supernet of each new run has enough cells for all groups of edges.

    Raises:
        ValueError: An arm has too few cells.
    """
    from archgrad.run import preparing

    for arm in dict.fromkeys(one.arm for one in runs if one.state() == "new"):
        try:
            preparing.check_depths(asked.settings(arm))
        except ValueError as error:
            raise ValueError(f"arm {arm}: {error}") from None


def check_folders(runs: list[Run]) -> None:
    """Check that every finished search that is to be retrained has its run folder here.

    Raises:
        ValueError: A run folder is missing.
    """
    for one in runs:
        if one.summary.exists() and not one.folder.genotype.exists():
            raise ValueError(
                f"{one.name} was searched elsewhere and is to be retrained here: "
                f"copy its run folder to {one.folder.path}"
            )
